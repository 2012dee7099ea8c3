"""The small models' tokenizer: open_clip's own, with merges learned on the words of birdland's captions.

Byte-pair encoding, so that a word the world has never seen still becomes pieces; every word of the captions is one
token. The merges lie beside the weights in the format that open_clip's ``SimpleTokenizer`` reads.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer

CONTEXT_LENGTH = 24
MERGES_FILE = Path(__file__).parent / "weights" / "merges.txt.gz"

_HEADER = "#version: birdland"
_END = "</w>"

Merge = tuple[str, str]


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of texts, in lower case and sorted."""
    return sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})


def _joined(symbols: tuple[str, ...], merge: Merge) -> tuple[str, ...]:
    """The symbols with every neighbouring occurrence of the pair made one."""
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == merge and not out[-1].endswith(_END):
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def learn_merges(words: Iterable[str]) -> list[Merge]:
    """Byte-pair merges after which each of the words is one token.

    The most frequent pair is merged first; among equals the first in alphabetical order, so that the same words always
    give the same merges.
    """
    spelled = {(*word[:-1], word[-1] + _END) for word in words if word}
    merges: list[Merge] = []
    while spelled:
        pairs = Counter(pair for symbols in spelled for pair in pairwise(symbols))
        if not pairs:
            break
        merge = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(merge)
        spelled = {_joined(symbols, merge) for symbols in spelled}
    return merges


def write_merges(path: Path, merges: Iterable[Merge]) -> None:
    """Write merges as open_clip reads them: a header line, then one pair a line; the same bytes every time."""
    text = "\n".join([_HEADER, *(" ".join(merge) for merge in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load_tokenizer(merges: Path = MERGES_FILE, context_length: int = CONTEXT_LENGTH) -> SimpleTokenizer:
    """The tokenizer of the small models."""
    return SimpleTokenizer(bpe_path=str(merges), context_length=context_length)
