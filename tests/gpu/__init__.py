"""The correctness gates of the engine on torch, on a GPU."""
