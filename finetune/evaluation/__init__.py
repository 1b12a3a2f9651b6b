"""Candidate, incumbent and base side by side: scores, intervals, verdict, report.

contenders   who takes part: candidate, incumbent, base
suites       which samples each suite takes, and what it counts in an answer
             (`metrics`, `facts`, `grounding`: what is counted; `builtin`: the samples that come with Kefu, in data/)
answers      prompts ─► the engine that serves ─► answers
losses       rows ─► torch in float32 ─► loss per assistant token
bootstrap    counts of two models ─► difference with its interval
verdict      differences ─► passed or not, with reasons
evaluate     all of it, in order
report       one page for an owner (`examples`, `plots`), `summary` the same for a terminal
register     a candidate with its verdict, stored as a release
agreement    whether the engines say what the training process says
"""
