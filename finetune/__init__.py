"""From customer-service data to an adapter with a verdict: a separate program.

It uses `dialogue` and `storage` and never sees `bot`, whose command line mounts `cli` as `kefu finetune`. Data flows one way:

    config        a recipe: sources, cleaning, split, training, evaluation
    sources/      files and stored turns ─► rows ─► samples
    cleaning/     what is dropped or changed, with a count and a reason for each; personal data becomes placeholders
    prepare       samples ─► split ─► a dataset folder, named by the hash of its content (`dataset`, `manifest`)
    rendering     a sample ─► token ids and loss mask, by the same way as a turn of the chat
    training/     ids ─► packed rows ─► LoRA ─► an adapter folder with its card
    evaluation/   candidate, incumbent and base side by side ─► scores, intervals, verdict, report
    pretraining/  a tokenizer and a model from nothing but text
    recipes/      one TOML for each recipe, and the data that they need
"""
