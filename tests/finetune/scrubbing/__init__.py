"""Tests of the scrubbing of personal data."""
