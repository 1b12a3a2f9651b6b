"""The torch side of an encoder–decoder: weights, and one padded batch that makes a token for each row at a step.

The encoder reads all texts of a batch at once; its output stays. Each step gives the decoder the last tokens alone, because
the keys and values of what came before are kept. Rows whose reply has ended leave the batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

from dialogue.errors import EngineUnavailable

transformers.utils.logging.set_verbosity_error()  # what people need to know is said by this program
transformers.utils.logging.disable_progress_bar()


def load_weights(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the model in a folder that `seq2seq_files` has looked at. Raises EngineUnavailable."""
    try:
        model, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the library raises whatever its parts raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineUnavailable(f"The model in {folder} cannot be loaded: {reason}") from error
    if report["missing_keys"]:
        raise EngineUnavailable(f"The model in {folder} lacks weights, such as {min(report['missing_keys'])}.")
    return model.eval().to(device)


class Seq2SeqModel:
    """A loaded model, read-only: batches of several requests share it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        settings = model.generation_config
        self.vocabulary: int = model.config.vocab_size  # of texts that are read
        self.reply_vocabulary: int = getattr(model.config, "decoder_vocab_size", None) or self.vocabulary
        self.eos_ids = frozenset(_listed(settings.eos_token_id))
        self.beginning = (*_listed(settings.decoder_start_token_id), *_listed(settings.forced_bos_token_id))
        never = {ids[0] for ids in settings.bad_words_ids or () if len(ids) == 1} | set(settings.suppress_tokens or ())
        self._never = sorted(never)  # Marian's padding token is one

    def begin(self, prompts: Sequence[Sequence[int]], beginnings: Sequence[Sequence[int]]) -> "Batch":
        """Read some texts. Beginnings of replies must be equally long."""
        return Batch(self, prompts, beginnings)

    def suppress(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits, (rows, vocabulary) in float32, in which tokens that are never said are -inf."""
        logits = logits.float()
        logits[:, self._never] = -torch.inf
        return logits


class Batch:
    """Some replies in the making, B rows."""

    def __init__(self, model: Seq2SeqModel, prompts: Sequence[Sequence[int]], beginnings: Sequence[Sequence[int]]) -> None:
        self._model = model
        longest = max(map(len, prompts))
        device = model.model.device
        ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._mask = (torch.arange(longest, device=device) < lengths[:, None]).long()  # (B, longest): 1 = a token, 0 = padding
        with torch.inference_mode():
            encoded = model.model.get_encoder()(input_ids=ids, attention_mask=self._mask)
        self._encoded: torch.Tensor = encoded.last_hidden_state  # (B, longest, width)
        self._next = torch.tensor([list(beginning) for beginning in beginnings], device=device)
        self._cache: Any = None

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        """Return the logits of each row's next token, (B, vocabulary). Give the chosen tokens to `feed` afterwards."""
        output = self._model.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._encoded),
            attention_mask=self._mask,
            decoder_input_ids=self._next,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        return self._model.suppress(output.logits[:, -1])

    @torch.inference_mode()
    def feed(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Go on with these rows alone, in ascending order; `tokens` is what was chosen for each of them."""
        self._next = torch.tensor(list(tokens), device=self._next.device)[:, None]
        if len(rows) < len(self._encoded):
            kept = torch.tensor(list(rows), device=self._next.device)
            self._encoded, self._mask = self._encoded[kept], self._mask[kept]
            self._cache.batch_select_indices(kept)


def _listed(value: int | list[int] | None) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]
