"""A tokenizer and a model from nothing but text, or more pretraining for one that exists.

config       the recipe: corpus, one of decoder, encoder_decoder or base, training
corpus       files ─► documents or pairs ─► what is trained and what is held out
vocabulary   text ─► a byte-level BPE that is a chat model's tokenizer
models       sizes ─► a Llama decoder or a Marian encoder–decoder of random weights
rows         documents or pairs ─► token ids and loss mask
unigram      what a model that ignores the context would reach: the goal of a first training
pretrain     all of it, in order
"""
