"""One repository for each kind of row. A repository lives as long as its unit of work.

inbox            claim, renew, release: in order inside a conversation
  accepting      accept: durable before acknowledged
  polling        the offset, and who may poll an account
turns            commit: turn, reply and answered items in one transaction, behind the fence
outbox           reserve, start, add_chunk, sent, unknown, retry: how a reply gets to the platform
  outbox_reading what is due, and what operators look at
users            identities, profile, export, erase
  user_data      which rows belong to a user
conversations    chats, sticky choices, who waits for a person
  handover       takeover and release
  moving         chats that got a new id
feedback         what users say about answers
adapters         releases; at most one active for each base model
audit            the append-only log, chained by hashes
base             what they share; `fence` and `pending` what some share
"""
