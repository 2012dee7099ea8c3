"""ImageNet-1K's thousand classes: their WordNet numbers in the order of the benchmark, and their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from despur.errors import DataError, nearest


@lru_cache(maxsize=1)
def thousand() -> dict[str, str]:
    """WordNet number to class name, in the order of the class indices; the names are open_clip's.

    It calls two classes "missile" and two "sunglasses". Discrepancies and verdicts know a class by its name, so that
    one of each two has WordNet's first word for it instead: "projectile" and "sunglass".
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    information = ImageNetInfo("imagenet-1k")
    given = dict(zip(information.label_names(), IMAGENET_CLASSNAMES, strict=True))
    shared = {name for name, times in Counter(given.values()).items() if times > 1}
    return {
        wnid: information.label_name_to_description(wnid).split(",")[0] if name in shared else name
        for wnid, name in given.items()
    }


def choose_synsets(words: Sequence[str], *, where: str) -> list[str]:
    """WordNet numbers of classes given by number (``n03825788``), index (``680``) or name (``baby pacifier``).

    Args:
        where: the dataset's spec, for messages.

    Raises:
        DataError: there is no such class, or one is given twice.
    """
    chosen: list[str] = []
    for word in words:
        wnid = _synset(word, where)
        if wnid in chosen:
            raise DataError(f"the class {word!r} ({wnid}) is given twice", where=where, now="give it once")
        chosen.append(wnid)
    return chosen


def _synset(word: str, where: str) -> str:
    names = thousand()
    wnids = list(names)
    if re.fullmatch(r"n\d{8}", word):
        found = [word] if word in names else []
    elif word.isdecimal():
        found = wnids[int(word) : int(word) + 1]
    else:
        found = [wnid for wnid, name in names.items() if name.casefold() == word.casefold()]
    if not found:
        raise DataError(
            f"ImageNet-1K has no class {word!r}",
            where=where,
            now=nearest(word, list(names.values()))
            if any(letter.isalpha() for letter in word[1:])
            else "give a name, a number such as n03825788, or an index below 1000",
        )
    return found[0]
