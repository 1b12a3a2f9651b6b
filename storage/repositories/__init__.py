"""One repository for each kind of row. A repository lives as long as its unit of work.

inbox          accept, claim, renew, release: durable before acknowledged, in order inside a conversation
turns          commit: turn, reply and answered items in one transaction, behind the fence
outbox         reserve, start, add_chunk, sent, unknown, retry: how a reply gets to the platform
users          identities, profile, export, erase
conversations  owner, takeover, sticky choices
feedback       what users say about answers
adapters       releases; at most one active for each base model
audit          the append-only log, chained by hashes
base           what they share
"""
