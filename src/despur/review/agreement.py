"""How far two people agree, beyond what chance would bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from despur.review.events import Verdict
from despur.review.judgements import Judgements, Pair


def cohen_kappa(first: Mapping[Pair, Verdict], second: Mapping[Pair, Verdict]) -> float | None:
    """Cohen's kappa (1960) over the pairs that both judged: (observed − expected) / (1 − expected), in [-1, 1].

    None where it is not defined: nothing was judged by both, or chance alone would make them agree always.
    """
    both = first.keys() & second.keys()
    if not both:
        return None
    ours, theirs = (Counter(verdicts[pair] for pair in both) for verdicts in (first, second))
    observed = sum(first[pair] == second[pair] for pair in both)
    # In whole numbers, so that "chance makes them agree always" is an equality and not a rounding.
    expected = sum(ours[verdict] * theirs[verdict] for verdict in ours)
    count = len(both)
    if expected == count * count:
        return None
    return (observed * count - expected) / (count * count - expected)


@dataclass(frozen=True)
class Agreement:
    """Two people, compared.

    Attributes:
        judged: pairs that both judged.
        agreed: how many of them both judged alike.
        kappa: :func:`cohen_kappa`.
    """

    first: str
    second: str
    judged: int
    agreed: int
    kappa: float | None


def agreements(judgements: Judgements) -> list[Agreement]:
    """Every two people who judged at least one pair both."""
    verdicts = {who: judgements.verdicts_of(who) for who in judgements.people()}
    compared: list[Agreement] = []
    for first, second in combinations(verdicts, 2):
        ours, theirs = verdicts[first], verdicts[second]
        both = ours.keys() & theirs.keys()
        if both:
            agreed = sum(ours[pair] == theirs[pair] for pair in both)
            compared.append(Agreement(first, second, len(both), agreed, cohen_kappa(ours, theirs)))
    return compared


def disagreements(judgements: Judgements) -> list[Pair]:
    """Pairs that two people judge differently."""
    return [pair for pair in judgements.judged() if judgements.outcome(pair) == "disputed"]
