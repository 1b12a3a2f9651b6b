"""Engines of our own on torch and transformers. Needs the extra `torch`; nothing else in `dialogue` imports it.

language_codes      what a language is called by each family of encoder–decoders
seq2seq_family      how each family writes a task: prefix, language codes, first tokens of the reply
seq2seq_codec       text ─► token ids and back, by the model's own tokenizer
seq2seq_files       a folder of transformers' files, looked at before anything of it is loaded
seq2seq_model       the torch side: one batch, one step
seq2seq_adapter     LoRA of an encoder–decoder, checked and merged
seq2seq_worker      the thread that steps through the batches
seq2seq             the engine
token_choice        logits ─► the next token
text_stream         token ids ─► text that never ends inside a character
"""
