"""Stand-ins and real servers that tests start."""
