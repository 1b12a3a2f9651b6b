"""Tests of the command line; most of them run the true program."""
