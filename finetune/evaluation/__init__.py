"""Candidate, incumbent and base side by side: scores, intervals, verdict, report.

contenders   who takes part: candidate, incumbent, base
suites       which samples each suite takes, and what it counts in an answer
             (`metrics`, `facts`, `grounding`: what is counted; `builtin`: the samples that come with Kefu, in data/)
answers      prompts ─► the engine that serves ─► answers
losses       rows ─► torch in float32 ─► loss per assistant token (`loss_meter`: what an evaluation asks of them)
bootstrap    counts of two models ─► difference with its interval
verdict      differences ─► passed or not, with reasons
evaluate     all of it, in order
report       one page for an owner (`examples`, `plots`), `summary` the same for a terminal
register     a candidate with its verdict, stored as a release
agreement    whether the engines say what the training process says (`subject`: of which adapter, and by which engines)

`run_evaluation` and `run_agreement` put this together for decoders, `seq2seq_*` for encoder–decoders; `command` chooses.
"""
