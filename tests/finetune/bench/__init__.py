"""Training beside TRL's."""
