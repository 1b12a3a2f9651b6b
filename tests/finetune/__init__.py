"""Tests of the room `finetune`."""
