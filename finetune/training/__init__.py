"""From rows to weights: LoRA on decoders and encoder–decoders, and what every other training reuses.

plan            all that a training process is told, as one file; `process` is what `accelerate launch` starts
base_model      the model that is tuned, readable for torch (`forms`)
examples        samples ─► rows ─► packs (`packing`), tried on the model before they are trusted (`isolation`)
objective       how examples become a batch (`batches`), and the loss of a batch
fit             model + objective + examples ─► trained weights, metrics, checkpoints: the seam that pretraining uses too
                (`trainer`, `arguments`, `schedule`, `callbacks`, `checkpoints`, `faults`, `display`)
lora            LoRA attached, and written as serving accepts it
train           the whole run of a decoder; `seq2seq_train` that of an encoder–decoder; `architectures` chooses
run_folder      what a finished run holds, with its card (`card`) and curve (`curve`, `metrics_file`)
merge, export   whole models; GGUF files (`gguf_model`, `gguf_export`, `gguf_vocabulary`)
"""
