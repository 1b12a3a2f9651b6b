"""What a LoRA adapter changes, in the words of transformers: which linear parts, and by which two matrices. No more than that."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION: tuple[Projection, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD: tuple[Projection, ...] = ("gate_proj", "up_proj", "down_proj")

Place = tuple[int, Projection]  # a layer's number, and which of its linear parts
Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The update of one linear layer: W + scaling · b @ a."""

    a: Values  # (r, inputs)
    b: Values  # (outputs, r)
