"""Engines of our own on torch and transformers. Needs the extra `torch`; nothing else in `dialogue` imports it.

Decoders, in the order in which a token passes:

decoder             the engine
decoder_reply       one reply: what its next token is chosen by, and the events that it becomes
decoder_worker      the thread that goes from step to step
scheduler           what is computed in the next step; pure
slot_table          which tokens have their keys and values where; pure
token_ranges        which places are taken; pure
decoder_model       the torch side: a step, from tokens to logits
kv_store            where keys and values lie
slot_attention      what transformers' models call in the place of their attention
span_attention      … request by request, on every device
varlen_attention    … all requests at once, on CUDA
lora_layers         adapters: merged, or side by side in one row
token_sampling      logits ─► the next tokens of all replies
decoder_load        files ─► a model that can be served
decoder_trial       … after it was tried
dequantised         a GGUF file as torch reads it
memory              how exhausted memory shows

Encoder–decoders:

language_codes      what a language is called by each family of encoder–decoders
seq2seq_family      how each family writes a task: prefix, language codes, first tokens of the reply
seq2seq_codec       text ─► token ids and back, by the model's own tokenizer
seq2seq_files       a folder of transformers' files, looked at before anything of it is loaded
seq2seq_model       the torch side: one batch, one step
seq2seq_adapter     LoRA of an encoder–decoder, checked and merged
seq2seq_worker      the thread that steps through the batches
seq2seq             the engine
token_choice        logits ─► the next token of one reply

Both:

text_stream         token ids ─► text that never ends inside a character
reply_stream        text ─► events, from the worker's thread to the event loop
"""
