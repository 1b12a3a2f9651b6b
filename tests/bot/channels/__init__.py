"""Tests of the channels: each platform on its own, without its network."""
