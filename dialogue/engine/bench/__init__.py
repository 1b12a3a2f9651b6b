"""Engines side by side, in one run, on the same prompts.

engine_bench   rounds, statistics, the JSON that `kefu bench engine` prints
workload       the conversations: texts, turns, what is measured of a turn
arms           who answers: our whole stack, or the raw library in a process of its own
raw_child      that process: xllamacpp and nothing of Kefu
"""
