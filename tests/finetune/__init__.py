"""Tests of the edge: channels, the way in, the way out, and what keeps them running."""
