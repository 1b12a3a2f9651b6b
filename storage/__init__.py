"""What is remembered: tables, transactions, repositories. All SQL of the project lives in this room.

    config, records, ids, errors   values that other rooms use
    database                       open_database(config) -> Database: read(work), write(work), scrub(), close()
    sqlite, postgres               the two backends behind it
    unit_of_work, repositories     what `work` gets: one transaction, a repository for each kind of row
    clock                          database time, and the clock that tests set by hand
    url, lockfile                  which database is meant; who owns a SQLite file
    schema, migrations             Alembic, as functions
    testing                        databases that live as long as a test

Storage knows no prompts, no platforms and no models. Nothing but frozen records leaves it.
"""
