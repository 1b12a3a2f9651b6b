"""Where keys and values lie: for each layer two tensors over all places, so that a slot is a view and never moves by itself."""

from typing import Any, Final

import torch

from dialogue.engine.local.slot_table import Copy

SPARE_PLACES: Final = 32


class KvStore:
    """Keys and values of `places` tokens, (places, heads, size of a head) in each layer. Which place is whose is not known here."""

    def __init__(self, model: Any, places: int) -> None:
        """Take the memory for a model. On a CPU the system gives it page by page, when it is written to.

        Behind the places there are SPARE_PLACES more, from `spare` on, that belong to nobody: rows that only fill up a batch use them.
        """
        heads, size = _shape(model.config)
        self.places = self.spare = places
        shape = (places + SPARE_PLACES, heads, size)
        self.keys, self.values = (
            [torch.empty(shape, device=model.device, dtype=model.dtype) for _ in range(model.config.num_hidden_layers)] for _ in range(2)
        )

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill `places`, (tokens,), with what a layer computed, (tokens, heads, size)."""
        self.keys[layer].index_copy_(0, places, keys)
        self.values[layer].index_copy_(0, places, values)

    def copy(self, order: Copy) -> None:
        """Copy places in every layer; they do not overlap, and no memory is needed."""
        for tensor in (*self.keys, *self.values):
            tensor[order.target : order.target + order.count] = tensor[order.source : order.source + order.count]


def bytes_per_token(model: Any) -> int:
    """Return the memory of one place in all layers."""
    heads, size = _shape(model.config)
    return 2 * model.config.num_hidden_layers * heads * size * model.dtype.itemsize


def _shape(config: Any) -> tuple[int, int]:
    """Return heads and size of a head."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads, size
