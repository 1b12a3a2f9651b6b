"""Tests of `finetune.evaluation`."""
