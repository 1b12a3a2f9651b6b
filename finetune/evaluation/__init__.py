"""Candidate, incumbent and base side by side: scores, intervals, verdict, report."""
