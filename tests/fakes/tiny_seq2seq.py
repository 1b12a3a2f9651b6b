"""Tiny encoder–decoders of every family, random and fast, with tokenizers that sentencepiece trained here.

`story_teller` is one whose answer is known: byte tokens that follow one another in a circle, begun where the text decides.
"""

import json
import warnings
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import sentencepiece
import torch
import transformers
from safetensors.torch import save_file

from dialogue.engine.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from dialogue.engine.adapters import BASE_HASH_KEY
from dialogue.engine.local.seq2seq_adapter import linear_layers
from dialogue.engine.local.seq2seq_model import load_weights
from dialogue.engine.model_files import ModelFiles

CORPUS: Final = (
    "Where is my parcel? Hello world, the order was sent on Monday.",
    "Wo ist mein Paket? Hallo Welt, die Bestellung ging am Montag raus.",
    "Où est mon colis ? Bonjour le monde, la commande est partie lundi.",
    "我的包裹在哪里？你好，世界，订单星期一已经发货。",
    "translate English to German: summarize: ",
)
FAMILIES: Final = ("t5", "mbart", "mbart50", "marian", "nllb", "m2m")

# Every byte once, so that each has one successor; characters of three bytes among them.
STORY: Final = "abcd你efgh声ijkl文mnop翻qrst译uvwx页yz "
_BYTE_OFFSET: Final = 3  # of ByT5's byte tokens


def write_tiny(family: str, folder: Path, *, seed: int = 1) -> Path:
    """Write a tiny random model of a family into `folder` as transformers saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _TOKENIZERS[family](folder)
    torch.manual_seed(seed)
    model = _MODELS[family](tokenizer)
    _spread(model)
    model.save_pretrained(folder)
    if family != "m2m":
        tokenizer.save_pretrained(folder)
    return folder


def write_story_teller(folder: Path) -> Path:
    """Write the story teller into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = transformers.ByT5Tokenizer()
    tokenizer.save_pretrained(folder)
    model = transformers.T5ForConditionalGeneration(_t5_config(len(tokenizer), d_model=128, num_layers=1))
    torch.manual_seed(5)
    with torch.no_grad():
        _teach_story(model)
    model.save_pretrained(folder)
    return folder


def write_tiny_adapter(folder: Path, files: ModelFiles, *, strength: float = 1.0, rank: int = 2, **changes: object) -> Path:
    """Write a random adapter on every linear layer of a tiny model; `changes` are keys of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = linear_layers(load_weights(files.path, torch.device("cpu"), torch.float32))
    random = torch.Generator().manual_seed(3)
    tensors = {}
    for name, layer in layers.items():
        outputs, inputs = layer.weight.shape
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=random)
        tensors[f"base_model.model.{name}.lora_B.weight"] = strength * torch.randn(outputs, rank, generator=random)
    plain = {"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "r": rank, "lora_alpha": rank, "target_modules": "all-linear"}
    (folder / CONFIG_FILE).write_text(json.dumps(plain | changes), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt", BASE_HASH_KEY: files.sha256})
    return folder


def story_prompt(text: str) -> tuple[int, ...]:
    """Return the ids of a text for the story teller, the end token included."""
    return (*(byte + _BYTE_OFFSET for byte in text.encode()), 1)


def _teach_story(model: Any) -> None:
    """Let the feed-forward layer turn each token into its successor, and the start token into every letter at once.

    What the encoder read then decides between the letters. Tokens of the story are orthogonal to all others.
    """
    width = model.config.d_model
    tokens = [byte + _BYTE_OFFSET for byte in STORY.encode()]
    known = [model.config.decoder_start_token_id, *tokens]
    basis = torch.linalg.qr(torch.randn(width, width)).Q
    others = torch.randn(model.config.vocab_size, width - len(known)) @ basis[len(known) :]
    embedding = torch.nn.functional.normalize(others, dim=1)
    embedding[known] = basis[: len(known)]
    for stack in (model.encoder, model.decoder):
        for name, weight in stack.block.named_parameters():
            if "layer_norm" not in name:
                weight.zero_()
    model.shared.weight.copy_(embedding * width**0.5)
    attention, feed_forward = (model.decoder.block[0].layer[number] for number in (1, 2))
    attention.EncDecAttention.v.weight.copy_(torch.eye(width))
    attention.EncDecAttention.o.weight.copy_(0.1 * torch.randn(width, width))
    letters = [token for token in tokens if token < 128 + _BYTE_OFFSET]
    feed_forward.DenseReluDense.wi.weight[: len(known)] = embedding[known]
    feed_forward.DenseReluDense.wo.weight[:, 0] = 10 * embedding[letters].sum(0)
    feed_forward.DenseReluDense.wo.weight[:, 1 : len(known)] = 10 * embedding[[*tokens[1:], tokens[0]]].T


def _spread(model: Any) -> None:
    """Make the weights big enough that greedy answers depend on the text."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "position" not in name:
                weight.mul_(8)


@cache
def _sentencepiece(kind: str) -> sentencepiece.SentencePieceProcessor:
    folder = Path(mkdtemp())
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_prefix=str(folder / "spm"),
        vocab_size=160,
        model_type=kind,
        hard_vocab_limit=kind == "bpe",
        character_coverage=1.0,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))


def _pieces() -> list[tuple[str, float]]:
    """Return pieces and scores without sentencepiece's own first three."""
    trained = _sentencepiece("unigram")
    return [(trained.id_to_piece(number), trained.get_score(number)) for number in range(3, trained.get_piece_size())]


def _t5_tokenizer(folder: Path) -> Any:
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), *_pieces()]
    return transformers.T5Tokenizer(vocab=vocab, extra_ids=0)


def _mbart_vocab(codes: list[str]) -> list[tuple[str, float]]:
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    return [*special, *_pieces(), *((code, 0.0) for code in codes), ("<mask>", 0.0)]


def _mbart_tokenizer(folder: Path) -> Any:
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

    return transformers.MBartTokenizer(vocab=_mbart_vocab(FAIRSEQ_LANGUAGE_CODES))


def _mbart50_tokenizer(folder: Path) -> Any:
    from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES

    return transformers.MBart50Tokenizer(vocab=_mbart_vocab(FAIRSEQ_LANGUAGE_CODES))


def _nllb_tokenizer(folder: Path) -> Any:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted({character for line in CORPUS for character in line.replace(" ", "▁")})]
    return transformers.NllbTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])


def _marian_tokenizer(folder: Path) -> Any:
    trained = _sentencepiece("unigram")
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(trained.serialized_model_proto())
    pieces = ["</s>", "<unk>", *(piece for piece, _ in _pieces()), ">>deu<<", ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}), encoding="utf-8")
    paths = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends another library
        return transformers.MarianTokenizer(*paths, source_lang="eng", target_lang="mul")


def _m2m_tokenizer(folder: Path) -> Any:
    (folder / "sentencepiece.bpe.model").write_bytes(_sentencepiece("bpe").serialized_model_proto())
    trained = _sentencepiece("bpe")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(trained.id_to_piece(number) for number in range(3, trained.get_piece_size()))]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "M2M100Tokenizer"}), encoding="utf-8")
    return transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))


def _t5_config(vocabulary: int, *, d_model: int = 32, num_layers: int = 2) -> transformers.T5Config:
    sizes: dict[str, Any] = {"d_model": d_model, "d_kv": d_model // 2, "d_ff": 2 * d_model, "num_heads": 2}
    layers: dict[str, Any] = {"num_layers": num_layers, "num_decoder_layers": num_layers, "dropout_rate": 0.0, "decoder_start_token_id": 0}
    return transformers.T5Config(vocab_size=vocabulary, **sizes, **layers)


def _t5(tokenizer: Any) -> Any:
    return transformers.T5ForConditionalGeneration(_t5_config(len(tokenizer)))


_SIZES: Final = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
}  # fmt: skip


def _bart_like(config: Any, model: Any, tokenizer: Any, **special: int) -> Any:
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": 0}
    tokens = len(tokenizer) + 120  # M2M-100 numbers its hundred languages beyond what it calls its length
    made = model(config(vocab_size=tokens, **_SIZES, **ids, **special, tie_word_embeddings=False))
    made.generation_config.forced_eos_token_id = None  # would end a reply that is too long for generate() alone
    return made


def _mbart(tokenizer: Any) -> Any:
    return _bart_like(transformers.MBartConfig, transformers.MBartForConditionalGeneration, tokenizer, decoder_start_token_id=2)


def _marian(tokenizer: Any) -> Any:
    pad = tokenizer.pad_token_id
    made = _bart_like(transformers.MarianConfig, transformers.MarianMTModel, tokenizer, decoder_start_token_id=pad)
    made.generation_config.bad_words_ids = [[pad]]
    return made


def _m2m(tokenizer: Any) -> Any:
    return _bart_like(transformers.M2M100Config, transformers.M2M100ForConditionalGeneration, tokenizer, decoder_start_token_id=2)


_TOKENIZERS: Final = {
    "t5": _t5_tokenizer, "mbart": _mbart_tokenizer, "mbart50": _mbart50_tokenizer,
    "marian": _marian_tokenizer, "nllb": _nllb_tokenizer, "m2m": _m2m_tokenizer,
}  # fmt: skip
_MODELS: Final = {"t5": _t5, "mbart": _mbart, "mbart50": _mbart, "marian": _marian, "nllb": _m2m, "m2m": _m2m}
