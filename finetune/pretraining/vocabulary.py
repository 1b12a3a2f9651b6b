"""Vocabularies: a byte-level BPE that is trained on a corpus and saved as a chat model's tokenizer.

Text is cut into words as SmolLM does, the default model: digits one by one, the rest as GPT-2. Every engine knows these words
(`dialogue.gguf_tokenizer.PRE_TOKENIZERS`). The control tokens come first, and no text is ever encoded to one of them where
`dialogue.tokenizer` encodes it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from finetune.pretraining.config import CONTROL_TOKENS

END_OF_TEXT, START_OF_TURN, END_OF_TURN, PAD = CONTROL_TOKENS
PRE_TOKENIZER: Final = "smollm"  # the word by which GGUF files name it

CHATML: Final = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a byte-level BPE of `size` pieces, or fewer where the texts hold no more pairs that occur twice.

    Byte-pair encoding: Sennrich, Haddow, Birch 2016; over bytes: Radford and others 2019.
    """
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_chat_vocabulary(tokenizer: Tokenizer, folder: Path, positions: int) -> None:
    """Save the tokenizer of a decoder: a chat in ChatML, a reply ends with the end of its turn."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
        chat_template=CHATML,
    )
    wrapped.save_pretrained(folder)


def save_text_vocabulary(tokenizer: Tokenizer, folder: Path, positions: int) -> None:
    """Save the tokenizer of one side of an encoder–decoder: every text ends with the end of text."""
    complete = Tokenizer.from_str(tokenizer.to_str())
    complete.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, complete.token_to_id(END_OF_TEXT))]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=complete, eos_token=END_OF_TEXT, pad_token=PAD, model_max_length=positions, clean_up_tokenization_spaces=False
    )
    wrapped.save_pretrained(folder)
