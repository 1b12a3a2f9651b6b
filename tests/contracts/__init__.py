"""One suite per border, over all implementations of it."""
