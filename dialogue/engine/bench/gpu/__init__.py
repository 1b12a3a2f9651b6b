"""The engine on torch measured on a GPU, by models of random weights: `make bench-gpu`. Needs torch, transformers and numpy alone."""
