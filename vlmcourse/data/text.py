"""Text: from sentences to the numbers a language model reads, and back (first used in notebook 04).

Byte-level byte-pair encoding on lower-case text.  Words of scenes are one token each; a rarer word is
several, down to single bytes, so no text is unknown.  A word at the start of a text has the token that it has
inside.  The file has the hub's format: transformers' `PreTrainedTokenizerFast(tokenizer_file=...)` opens it.

Source: Sennrich et al. 2016, arXiv:1508.07909, section 3.2; on bytes: Radford et al. 2019 (GPT-2), 2.2.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoder
from torch import Tensor

from vlmcourse.data.assets import shipped

VOCABULARY = 1024
# Their numbers are their places here, and never change.  The end is not 2: CLIPModel takes an end token of 2
# for an old mistake and then looks for the largest number instead.
_NAMES = ("pad", "unk", "bos", "eos", "image", "mask", "system", "user", "assistant", "end")
SPECIAL = tuple(f"<{name}>" for name in _NAMES)
IMAGE_WORD = "<image>"
PAD, UNK, BOS, EOS, IMAGE, MASK, SYSTEM, USER, ASSISTANT, END = range(len(SPECIAL))


def as_plain_text(text: str, control: Sequence[str] = SPECIAL) -> str:
    """A person's text, in which no control word is left: "<image>" reads "< image>", words like any others.

    Raises:
        ValueError: if it is not text throughout, such as bytes that are no UTF-8.
    """
    if re.search("[\ud800-\udfff]", text):
        raise ValueError(f"{text[:80]!a} is no text in UTF-8; write it again")
    for word in control:
        text = text.replace(word, f"{word[0]} {word[1:]}")
    return text


class Tokenizer:
    """Text to token numbers and back.  `len(tokenizer)` is the size of its vocabulary.

    Special tokens have fixed numbers, constants of this module: PAD, UNK (never produced), BOS, EOS, IMAGE,
    MASK, and SYSTEM, USER, ASSISTANT, END for conversations.  "<image>" in a text becomes one token.
    """

    def __init__(self, encoder: Encoder):
        for number, token in enumerate(SPECIAL):
            if encoder.token_to_id(token) != number:
                found = f"{token} has number {encoder.token_to_id(token)} and should have {number}"
                raise ValueError(f"not a tokenizer of this course: {found}")
        self.encoder = encoder

    def __len__(self) -> int:
        return self.encoder.get_vocab_size()

    def __repr__(self) -> str:
        return f"Tokenizer({len(self):,} tokens)"

    def encode(
        self, texts: Sequence[str], length: int | None = None, bos: bool = False
    ) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
        """Token numbers with EOS at the end of each text, filled up with PAD on the right.

        Args:
            length: tokens per row; None takes what the longest text needs.
            bos: whether each row starts with BOS, as a language model that writes from nothing needs it.

        Returns:
            ids, int64; and the mask, True for tokens of the text, BOS and EOS, False for padding.

        Raises:
            TypeError: if `texts` is one text and not a list.
            ValueError: if a text does not fit; nothing is ever cut off.
        """
        if isinstance(texts, str):
            raise TypeError(f"encode takes a list of texts, got one text: write [{texts!r}]")
        rows = [[BOS] * bos + encoding.ids + [EOS] for encoding in self.encoder.encode_batch(list(texts))]
        needed = max(map(len, rows), default=0)
        length = needed if length is None else length
        if needed > length:
            n = next(n for n, row in enumerate(rows) if len(row) > length)
            raise ValueError(
                f"text {n}, {texts[n]!r}, has {len(rows[n])} tokens with its end token, but length is "
                f"{length}; allow at least {needed}, which the longest text needs"
            )
        ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.int64)
        ids = ids.reshape(len(rows), length)  # no texts have no columns of their own
        return ids, ids != PAD

    def decode(self, ids: Int[Tensor, "batch token"] | Sequence[Sequence[int]]) -> list[str]:
        """The text of each row up to its first EOS, without special tokens.

        `decode(encode(texts)[0])` gives the texts back, in lower case and without one space at their start.
        """
        rows = ids.tolist() if isinstance(ids, Tensor) else [list(row) for row in ids]
        return self.encoder.decode_batch([row[: row.index(EOS)] if EOS in row else row for row in rows])

    def tokens(self, ids: Int[Tensor, "token"] | Sequence[int]) -> list[str]:
        """What each token number stands for, as labels of a plot: "circle", "<eos>".

        Spaces before words are dropped; half a letter outside ASCII shows as "�".
        """
        return [SPECIAL[n] if n < len(SPECIAL) else self.encoder.decode([n]) for n in map(int, ids)]

    def save(self, path: str | Path) -> None:
        """Write one tokenizer.json."""
        self.encoder.save(str(path))


def load_tokenizer(path: str | Path | None = None) -> Tokenizer:
    """The tokenizer of a file that `save` wrote; the course's own without a path.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or another tokenizer.
    """
    path = shipped("tokenizer.json") if path is None else Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        return Tokenizer(Encoder.from_str(text))
    except Exception as error:
        raise ValueError(f"{path} is not a tokenizer of this course: {error}") from error


def train_tokenizer(texts: Iterable[str], size: int = VOCABULARY) -> Tokenizer:
    """A tokenizer of `size` tokens: SPECIAL, the 256 bytes, and frequent pairs of tokens, merged one by one.

    Raises:
        ValueError: if size leaves no room for special tokens and bytes.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if size < len(SPECIAL) + len(alphabet):
        always = f"{len(SPECIAL)} special tokens and {len(alphabet)} bytes"
        raise ValueError(f"size {size} is too small: {always} are always in a vocabulary")
    encoder = Encoder(models.BPE(unk_token=SPECIAL[UNK]))
    encoder.normalizer = normalizers.Lowercase()
    # With a space before it, "red" is the same token everywhere
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    encoder.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    # A space before a special token is no token of its own
    special = [AddedToken(token, lstrip=True) for token in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    encoder.train_from_iterator(texts, trainer)
    return Tokenizer(encoder)
