"""Texts to tokens, whole or not at all: the libraries' tokenizers cut what is too long without a word."""

from __future__ import annotations

from textwrap import shorten
from typing import Protocol

from jaxtyping import Int
from torch import Tensor

from despur.errors import ModelError


class Tokenizer(Protocol):
    """What open_clip's tokenizers do: texts to rows of ``context_length`` tokens, cut or padded at the end."""

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Token ids [texts, context_length], padded with what the model pads with."""
        ...


def tokenize_whole(
    tokenizer: Tokenizer, texts: list[str], context_length: int, where: str
) -> Int[Tensor, "texts context"]:
    """The tokens of every text.

    Raises:
        ModelError: a text has more tokens than ``context_length``; the message names it and says how many it has.
    """
    tokens = tokenizer(texts, context_length=context_length)
    padding = _padding(tokenizer, context_length)
    written = (tokens != padding).sum(-1)
    # Some tokenizers (SigLIP's) end a text with the token that they also pad with, so that a cut one looks one shorter.
    full = (written >= context_length - 1).nonzero().flatten().tolist()
    if not full:
        return tokens
    roomier = tokenizer([texts[row] for row in full], context_length=context_length + 1)
    cut = (roomier != padding).sum(-1) > written[full]
    for place in cut.nonzero().flatten().tolist():
        text = texts[full[place]]
        raise ModelError(
            f"the text {shorten(text, 80)!r} has {_length(tokenizer, text, context_length)} tokens, "
            f"the model reads {context_length}",
            where=where,
            now="shorten it",
        )
    return tokens


def _padding(tokenizer: Tokenizer, context_length: int) -> int:
    """The token that fills a row, on whichever side."""
    return int(tokenizer([""], context_length=context_length)[0].mode().values)


def _length(tokenizer: Tokenizer, text: str, context_length: int) -> int:
    """How many tokens a text that is too long has: it is given more room until some of it stays empty."""
    padding = _padding(tokenizer, context_length)
    ends_as_padding = bool((tokenizer([text], context_length=context_length) == padding).any())
    room = context_length
    while True:
        room *= 4
        written = int((tokenizer([text], context_length=room) != padding).sum())
        if written < room - 1:
            return written + ends_as_padding
