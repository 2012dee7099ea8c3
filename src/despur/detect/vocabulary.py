"""Vocabularies: the phrases that a detector looks for, cleaned, and without the names of the classes themselves."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from despur.detect.plurals import plurals
from despur.errors import DataError, SettingsError, nearest
from despur.workspace import at_home

KINDS = ("builtin", "visual-genome", "file", "imagenet")


@dataclass(frozen=True)
class Removal:
    """A phrase that is not looked for, and why."""

    phrase: str
    reason: str


@dataclass(frozen=True)
class Vocabulary:
    """What is looked for: phrases, unique and sorted; and what was taken out of them."""

    phrases: tuple[str, ...]
    removed: tuple[Removal, ...] = ()

    def without(self, removals: Iterable[Removal]) -> Vocabulary:
        """The vocabulary without the phrases of some removals, which are noted."""
        more = tuple(removals)
        gone = {removal.phrase for removal in more}
        return Vocabulary(tuple(phrase for phrase in self.phrases if phrase not in gone), self.removed + more)


def normalise(phrase: str) -> str:
    """One spelling a phrase: lower case, underscores and runs of blanks as one blank, nothing at the ends but words.

    "  Fire_Hydrant." becomes "fire hydrant"; a phrase without a letter or digit becomes "".
    """
    text = unicodedata.normalize("NFKC", phrase).casefold()
    text = re.sub(r"[\s_]+", " ", text)
    ends = [at for at, sign in enumerate(text) if sign.isalnum() or sign in "()"]
    if not any(sign.isalnum() for sign in text):
        return ""
    first = next(at for at in ends if text[at] != ")")
    last = next(at for at in reversed(ends) if text[at] != "(")
    while _is_mark(text[last + 1 : last + 2]):
        last += 1
    return text[first : last + 1]


def _is_mark(sign: str) -> bool:
    """Whether it is written onto the letter before it, as the vowels of Hindi and Thai are; "" is not."""
    return sign != "" and unicodedata.category(sign).startswith("M")


def load_vocabulary(specs: str | Sequence[str], *, others: Sequence[str] = ()) -> Vocabulary:
    """The phrases of one or several vocabularies, merged, normalised, unique and sorted.

    Args:
        specs: ``builtin``, ``imagenet`` (the names of ImageNet's classes), ``visual-genome:DIR``, ``file:PATH`` (one
            phrase a line; lines that start with "#" are passed over).
        others: vocabularies that the caller reads itself; they are named where a spec is unknown.

    Raises:
        SettingsError: the kind is unknown, or names no place.
        DataError: a file is missing, is not what its kind promises, or no phrase is left.
    """
    chosen = [specs] if isinstance(specs, str) else list(specs)
    phrases = sorted({normalise(phrase) for spec in chosen for phrase in _read(spec, others)} - {""})
    if not phrases:
        raise DataError("the vocabulary holds no phrase", where=", ".join(chosen))
    return Vocabulary(tuple(phrases))


def _read(spec: str, others: Sequence[str]) -> Iterable[str]:
    kind, _, tail = spec.partition(":")
    if kind not in KINDS:
        raise SettingsError(f"there is no vocabulary {kind!r}", where=spec, now=nearest(kind, (*KINDS, *others)))
    if kind in ("visual-genome", "file") and not tail:
        raise SettingsError("the vocabulary names no place", where=spec, now=f"write {kind}:PATH")
    if kind == "builtin":
        return _lines(resources.files("despur.detect").joinpath("vocabularies", "builtin.txt").read_text("utf-8"))
    if kind == "imagenet":
        return imagenet_names()
    if kind == "file":
        return _lines(_text(Path(tail), now="save it as UTF-8, one phrase a line"))
    return _visual_genome(Path(tail))


def _text(path: Path, *, now: str) -> str:
    """A file's text; ``now`` is what to do where it is none."""
    try:
        return at_home(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("it is not text in UTF-8", where=path, now=now) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"it cannot be read ({reason})", where=path) from error


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def imagenet_names() -> list[str]:
    """The names of ImageNet's 1,000 classes, as open_clip ships them."""
    from open_clip import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def _visual_genome(folder: Path) -> list[str]:
    """Object synsets and, where the file is there, attribute synsets: "traffic_light.n.01" is "traffic light"."""
    objects, attributes = folder / "object_synsets.json", folder / "attribute_synsets.json"
    files = [objects, attributes] if attributes.exists() else [objects]
    return [synset.split(".", maxsplit=1)[0] for file in files for synset in _synsets(file)]


def _synsets(file: Path) -> list[str]:
    again = "download Visual Genome's file of that name"
    try:
        found = json.loads(_text(file, now=again))
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except (ValueError, RecursionError) as error:
        raise DataError("it is not JSON", where=file, now=again) from error
    if not isinstance(found, dict):
        raise DataError("it does not map names to synsets", where=file, now=again)
    names = cast("dict[str, object]", found)
    synsets = [synset for synset in names.values() if isinstance(synset, str)]
    if len(synsets) < len(names):
        name = next(name for name, synset in names.items() if not isinstance(synset, str))
        raise DataError(f"the synset of {name!r} is no text", where=file, now=again)
    return synsets


def _joined(words: Sequence[str]) -> str:
    """Words as one: "water bird", "water-bird" and "waterbird" are the same name."""
    return "".join(sign for sign in "".join(words) if sign.isalnum() or _is_mark(sign))


def named_classes(vocabulary: Vocabulary, classes: Sequence[str]) -> list[Removal]:
    """Phrases that name a class (METHOD 3.1): itself, its plural or singular, a compound of it.

    A compound *ends* with the class ("sea bird" and "flock of birds" are birds, "bird feeder" is none); how the name is
    broken into words does not matter. "baby" stays though a class is "baby pacifier": that is what is looked for.
    """
    names: dict[str, str] = {}
    for name in classes:
        # "crane (machine)" is a crane to a reader of captions.
        joined = _joined([normalise(re.sub(r"\([^)]*\)", " ", name))])
        for form in {joined, *plurals(joined)} if joined else ():
            names.setdefault(form, name)
    removals: list[Removal] = []
    for phrase in vocabulary.phrases:
        words = re.split(r"[\s\-]+", phrase)
        endings = [_joined(words[start:]) for start in range(len(words))]
        hits = [names[form] for ending in endings for form in (ending, *plurals(ending)) if form in names]
        if hits:
            removals.append(Removal(phrase, f"names the class {hits[0]!r}"))
    return removals


def near_synonyms(
    vocabulary: Vocabulary,
    phrases: Float[Tensor, "phrases dim"],
    classes: Sequence[str],
    class_embeddings: Float[Tensor, "classes dim"],
    threshold: float,
) -> list[Removal]:
    """Phrases that the text tower cannot tell from a class.

    Args:
        phrases: embeddings of ``vocabulary.phrases``, of any length, in the same prompt as the classes'.
        threshold: cosine, in [-1, 1], from which on a phrase is a synonym; text towers put unrelated names at 0.6
            to 0.8, so that 0.9 is a cautious choice.
    """
    cosine = F.normalize(phrases, dim=-1) @ F.normalize(class_embeddings, dim=-1).mT
    nearest_cosine, nearest_class = cosine.max(dim=-1)
    close = (nearest_cosine >= threshold).nonzero().flatten().tolist()
    return [
        Removal(
            vocabulary.phrases[row],
            f"close to the class {classes[int(nearest_class[row])]!r} (cosine {float(nearest_cosine[row]):.2f})",
        )
        for row in close
    ]
