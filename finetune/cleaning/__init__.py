"""What is dropped or changed before anything is written, each with a count and a reason."""
