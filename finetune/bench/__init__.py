"""Training beside TRL's SFTTrainer: the same rows, adapter and trained tokens, each arm in a process of its own.

command       `kefu bench train`, which `kefu bench` mounts
train_bench   rounds, arms in turn
workload      the model and the rows that all arms train; a tiny model for a quick look
work          what a process is told and what it says back
child         that process
own_arm       Kefu's training
trl_arm       TRL's, with its defaults and tuned
meter         tokens, seconds and losses of steps; memory
flops         what a model has to compute, and what the machine can
summary       medians, ratios, table
curves        how far two loss curves are apart
plot          the curves as a picture
"""
