"""The command line: one file for each command or group of commands.

main            the program: global options, exit codes, sentences instead of tracebacks
lazy            which command lives where; loads it when it is called
session         what one call knows: the global options
prepare         settings and logs, the first step of every command
application     the App of chat, ask and run
data            stored data, here or through the Kefu that is running on it
ensure_model    the model, fetched with a progress bar
checks, adapter_check, findings    what doctor looks at, and what it says
output, progress, consent   JSON, tables, notes, bars, questions
"""
