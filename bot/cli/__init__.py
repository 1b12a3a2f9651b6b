"""The command line: one file for each command or group of commands.

main            the program: global options, exit codes, sentences instead of tracebacks
lazy            which command lives where; loads it when it is called
session         what one call knows: the global options
prepare         settings and logs, the first step of every command
output          JSON, tables and notes
"""
