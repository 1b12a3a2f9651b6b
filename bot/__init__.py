"""The edge: platforms in, platforms out, and the one place where everything is wired.

app, serving, unstarted_model, stopping    the composition root; one TaskGroup; how the program starts and ends
inbox, wakeup                              the way in: durable before acknowledged
worker, turn_choice, lease                 one turn at a time for each conversation
access, access_config                      who may write, and how much
preview, placeholder, delivery, documents  the way out: previews while it streams, the stored text last
ratelimit                                  how fast a bot may talk to a chat
commands, command_words, locale/           /help, /new, /privacy …: answered without a generation
presses, rating                            what buttons under messages do
handoff_desk                               where people take over
adapter_watch, shipped_adapter             which adapter answers
adapter_operations, adapter_folders, adapter_verdict       how another one gets there
control, data_operations, desk_operations, outbox_operations, arguments    what other processes ask of a running Kefu
health, http_server, metrics, housekeeping for the operator
settings, settings_*                       the only reader of the environment
logs, redaction, errors                    what the program says about itself
channels/                                  platforms; cli/ the command line
"""
