"""Messaging platforms. A channel knows its platform and nothing of prompts, tables or models.

base                 the whole contract: Channel, ReplyStream, ChannelCapabilities, the errors of a delivery
registry             which channels are installed (entry-point group `kefu.channels`)
terminal, terminal_screen, terminal_pipe    `kefu chat`, for people and for programs
ask                  `kefu ask`: one question, one answer
fake, fake_platform  a platform that behaves badly, for tests
json_event           raw events that are JSON
"""
