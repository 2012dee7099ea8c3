"""Texts to tokens, whole or not at all: the libraries' tokenizers cut what is too long without a word."""

from __future__ import annotations

from textwrap import shorten
from typing import Protocol

from jaxtyping import Int
from torch import Tensor

from despur.errors import ModelError


class Tokenizer(Protocol):
    """What open_clip's tokenizers do: texts to rows of ``context_length`` tokens, cut or padded at the end."""

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor: ...


def tokenize_whole(
    tokenizer: Tokenizer, texts: list[str], context_length: int, where: str
) -> Int[Tensor, "texts context"]:
    """The tokens of every text.

    Raises:
        ModelError: a text has more tokens than ``context_length``; the message names it and says how many it has.
    """
    tokens = tokenizer(texts, context_length=context_length)
    padding = int(tokenizer([""], context_length=context_length)[0, -1])
    # A text that was cut fills its row; some tokenizers (SigLIP's) end it with the token that they also pad with.
    full = (tokens[:, -2] != padding).nonzero().flatten().tolist()
    if not full:
        return tokens
    roomier = tokenizer([texts[row] for row in full], context_length=context_length + 1)
    cut = (roomier[:, :-1] != tokens[full]).any(-1) | (roomier[:, -1] != padding)
    for row in (full[place] for place in cut.nonzero().flatten().tolist()):
        length = _length(tokenizer, texts[row], context_length, padding)
        raise ModelError(
            f"the text {shorten(texts[row], 80)!r} has {length} tokens, the model reads {context_length}",
            where=where,
            now="shorten it",
        )
    return tokens


def _length(tokenizer: Tokenizer, text: str, context_length: int, padding: int) -> int:
    """How many tokens a text has: it is given more room until some of it stays empty."""
    room = 4 * context_length
    while True:
        tokens = tokenizer([text], context_length=room)[0]
        if (tokens[-2:] == padding).all():
            written = int((tokens != padding).nonzero().max()) + 1
            ended_by_padding = bool((tokenizer([""], context_length=context_length) == padding).all())
            return written + ended_by_padding
        room *= 4
