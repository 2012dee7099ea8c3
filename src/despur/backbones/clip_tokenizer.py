"""open_clip's byte-pair tokenizer as transformers' CLIP tokenizer: the same tokens for the same text."""

from __future__ import annotations

from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

STANDARD_VOCABULARY = 49408
"""Tokens of the vocabulary that open_clip ships."""

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
"""What transformers calls the first and the last token of a text."""


def as_clip_tokenizer(tokenizer: SimpleTokenizer, context_length: int) -> CLIPTokenizer:
    """A tokenizer with the same vocabulary and merges; it pads with the end, which CLIP's text tower does not read."""
    own = {tokenizer.sot_token_id: BEGIN, tokenizer.eot_token_id: END}
    vocabulary = {own.get(number, piece): number for piece, number in tokenizer.encoder.items()}
    # A merge file's last line is empty.
    merges = [pair for pair in tokenizer.bpe_ranks if len(pair) == 2]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context_length)  # pyright: ignore[reportArgumentType]
