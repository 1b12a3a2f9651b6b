"""Engines side by side, in one run, on the same prompts.

engine_bench      rounds, arms in turn, the JSON that `kefu bench engine` prints
arm_table         the arms: what each is and needs
workload          the conversations that every arm is asked
fleet             the arms' processes, from here; arm_process is one of them
child             such a process, from inside; settings is what it is told, drive holds the conversations
samples           what is asked, and what is measured of an answer
metrics           samples ─► TTFT, TPOT, ITL, goodput, share of the roofline
summary           medians, spread, ratios, tables
plot              the pictures; needs matplotlib
machine           processor, copy bandwidth, peak memory
model_cost        what a decoding step must read
random_adapters   LoRA of random weights, whose cost is that of trained ones
device            what a CUDA device can do at most
gpu               a bench of its own, for a bare GPU machine

engine_arm        any engine of Kefu, with all that stands around it
ablation_arm      the one on torch without one of its parts
raw_arm           xllamacpp and nothing of Kefu
url_arm           any server with OpenAI's completions
generate_arm      transformers.generate, one by one and in padded batches; torch_model loads the model
continuous_arm    transformers' continuous batching
"""
