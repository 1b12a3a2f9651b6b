"""A tokenizer and a model from nothing but text, or a pretrained one that reads on."""
