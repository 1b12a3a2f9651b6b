"""Tests of finetune/training, on models of a few thousand random weights."""
