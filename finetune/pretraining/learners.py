"""What is trained and on what: one learner for each kind of recipe, ready for the training room.

decoder          documents ─► vocabulary ─► packed rows, a Llama
encoder_decoder  pairs ─► one vocabulary or two ─► pairs of rows, a Marian
base             documents ─► packed rows by the base's own tokenizer, its weights or a LoRA on them
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from dialogue.engine.local.dequantised import copy_tokenizer
from dialogue.engine.local.seq2seq_files import TARGET_FOLDER
from dialogue.engine.model_files import TOKENIZER_NAME
from dialogue.engine.model_sources import ModelSources
from dialogue.tokenizer import Tokenizer
from finetune.errors import RecipeInvalid
from finetune.pretraining.config import DecoderSection, EncoderDecoderSection, PretrainRecipe
from finetune.pretraining.corpus import Corpus, Pair, read_documents, read_pairs
from finetune.pretraining.models import PAD_ID, build_decoder, build_encoder_decoder
from finetune.pretraining.pair_objective import PairObjective
from finetune.pretraining.rows import document_rows, pair_rows, target_counts
from finetune.pretraining.vocabulary import save_chat_vocabulary, save_text_vocabulary, train_vocabulary
from finetune.training.base_model import BaseFiles, find_base, load_weights
from finetune.training.fit import Task
from finetune.training.lora import attach, quantisation
from finetune.training.objective import DecoderObjective
from finetune.training.packing import pack_rows


@dataclass(frozen=True, slots=True)
class Learner:
    """A model with what it learns."""

    task: Task
    items: tuple[int, int]  # documents or pairs, trained and held out
    vocabularies: tuple[int, ...]  # pieces of the one vocabulary, or of input and target
    left_out: int  # pairs that are longer than the model's positions
    train_counts: Counter[int]  # how often each token has to be predicted in one epoch
    held_out_counts: Counter[int]
    finished: Callable[[Any], Any]  # the trained model ─► the model to save


def make_learner(recipe: PretrainRecipe, corpus: Corpus[Any], folder: Path, cache_dir: Path, sources: ModelSources) -> Learner:
    """Return the learner of a recipe. Its tokenizer is written into `folder`, where the model will lie.

    Raises RecipeInvalid, FinetuneError, ModelError and TemplateError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.decoder is not None:
        return _decoder(recipe, recipe.decoder, corpus, folder)
    if recipe.encoder_decoder is not None:
        return _encoder_decoder(recipe, recipe.encoder_decoder, corpus, folder)
    return _continued(recipe, find_base(recipe.base, cache_dir, sources), corpus, folder)


def read_corpus(recipe: PretrainRecipe) -> Corpus[Any]:
    """Return the documents or pairs that a recipe asks for. Raises RecipeInvalid and DataInvalid."""
    return (read_documents if recipe.encoder_decoder is None else read_pairs)(recipe.corpus, recipe.seed)


def _decoder(recipe: PretrainRecipe, sizes: DecoderSection, corpus: Corpus[str], folder: Path) -> Learner:
    trained = train_vocabulary(corpus.train, sizes.vocabulary)
    save_chat_vocabulary(trained, folder, sizes.positions)
    model = build_decoder(sizes, trained.get_vocab_size(), recipe.seed)
    return _document_learner(recipe, model, Tokenizer.load(folder / TOKENIZER_NAME), corpus)


def _encoder_decoder(recipe: PretrainRecipe, sizes: EncoderDecoderSection, corpus: Corpus[Pair], folder: Path) -> Learner:
    source, target = _sides(sizes, corpus.train, folder)
    model = build_encoder_decoder(sizes, (source.pieces, target.pieces), recipe.seed)
    train, valid = (pair_rows(pairs, (source.tokenizer, target.tokenizer), sizes) for pairs in (corpus.train, corpus.valid))
    return Learner(
        task=Task(model, PairObjective(pad=PAD_ID, start=PAD_ID), train, valid),
        items=(len(train), len(valid)),
        vocabularies=(source.pieces,) if source is target else (source.pieces, target.pieces),
        left_out=len(corpus.train) + len(corpus.valid) - len(train) - len(valid),
        train_counts=target_counts(train),
        held_out_counts=target_counts(valid),
        finished=_as_it_is,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """The vocabulary of sources or targets."""

    tokenizer: Tokenizer
    pieces: int


def _sides(sizes: EncoderDecoderSection, pairs: Sequence[Pair], folder: Path) -> tuple[_Side, _Side]:
    """Train and save the vocabularies of both sides, which are one where the recipe names none for targets."""
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    if sizes.target_vocabulary is None:
        longer = max(sizes.input_positions, sizes.target_positions)
        shared = _side([*sources, *targets], sizes.input_vocabulary, folder, longer)
        return shared, shared
    return (
        _side(sources, sizes.input_vocabulary, folder, sizes.input_positions),
        _side(targets, sizes.target_vocabulary, folder / TARGET_FOLDER, sizes.target_positions),
    )


def _side(texts: Sequence[str], size: int, folder: Path, positions: int) -> _Side:
    trained = train_vocabulary(texts, size)
    save_text_vocabulary(trained, folder, positions)
    return _Side(Tokenizer.load(folder / TOKENIZER_NAME), trained.get_vocab_size())


def _continued(recipe: PretrainRecipe, base: BaseFiles, corpus: Corpus[str], folder: Path) -> Learner:
    if recipe.train.row_tokens > base.files.context_tokens:
        raise RecipeInvalid(
            f"train.row_tokens: {recipe.train.row_tokens} tokens are more than the base's {base.files.context_tokens} positions."
        )
    copy_tokenizer(base.files, folder)
    options = {} if recipe.train.full else quantisation(recipe.train.lora)
    model = load_weights(base.folder, **options)
    if recipe.train.full:
        return _document_learner(recipe, model, base.tokenizer, corpus)
    transformers.set_seed(recipe.seed)
    adapted = attach(model, recipe.train.lora)
    return _document_learner(recipe, adapted, base.tokenizer, corpus, lambda trained: trained.merge_and_unload())


def _document_learner(
    recipe: PretrainRecipe, model: Any, tokenizer: Tokenizer, corpus: Corpus[str], finished: Callable[[Any], Any] | None = None
) -> Learner:
    size = recipe.train.row_tokens
    train, valid = (document_rows(texts, tokenizer, size) for texts in (corpus.train, corpus.valid))
    return Learner(
        task=Task(model, DecoderObjective(), pack_rows(train, size), pack_rows(valid, size)),
        items=(len(corpus.train), len(corpus.valid)),
        vocabularies=(int(model.config.vocab_size),),
        left_out=0,
        train_counts=target_counts(train),
        held_out_counts=target_counts(valid),
        finished=finished or _as_it_is,
    )


def _as_it_is(model: Any) -> Any:
    return model
