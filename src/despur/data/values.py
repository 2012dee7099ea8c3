"""An attribute of several values, as the benchmarks of group robustness keep it: columns of yes and no."""

from __future__ import annotations

from collections.abc import Sequence

from despur.data.examples import Attribute

PHRASES = {
    "land": "on land",
    "water": "on water",
    "indoor": "indoors",
    "outdoor": "outdoors",
    "man": "who is a man",
    "woman": "who is a woman",
}
"""How these follow a class name in a prompt; any other value is "with NAME"."""


def phrase_of(value: str) -> str:
    """What follows a class name in a prompt where the value is there: "on water", "with grass"."""
    words = value.replace("_", " ")
    return PHRASES.get(words, f"with {words}")


def value_columns(values: Sequence[str], codes: Sequence[int]) -> tuple[list[Attribute], dict[str, list[bool]]]:
    """Attributes and their columns.

    Two values are one attribute, the second, whose absence is the first: "on water", else "on land". More are an
    attribute each. One value says nothing, and gives none.

    Args:
        values: names of the values.
        codes: of each image, an index into ``values``.
    """
    if len(values) < 2:
        return [], {}
    if len(values) == 2:
        absent, present = values
        attribute = Attribute(present, phrase_of(present), phrase_of(absent))
        return [attribute], {present: [code == 1 for code in codes]}
    attributes = [Attribute(value, phrase_of(value)) for value in values]
    return attributes, {value: [code == place for code in codes] for place, value in enumerate(values)}
