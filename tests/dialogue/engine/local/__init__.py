"""Tests of the engines on torch."""
