"""From customer-service data to an adapter with a verdict: a separate program. This room is reserved; nothing is in it yet.

It may use `dialogue` and `storage` and never sees `bot`; `kefu finetune` appears by itself once `finetune.cli` exists.
"""
