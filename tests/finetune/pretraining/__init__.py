"""Tests of finetune/pretraining, on models of a few thousand weights."""
