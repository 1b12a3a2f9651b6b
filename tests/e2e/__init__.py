"""Whole flows through the faces that people and platforms see."""
