"""Settings to try: the same number for every method, spread evenly over what the method has to choose."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log, log2

from scipy.stats import qmc

from despur.mitigate.methods.method import Method
from despur.mitigate.settings import TrainSettings

LEARNING_RATES, WEIGHT_DECAYS, TERM_WEIGHTS = (1e-4, 1.0), (1e-5, 1e-2), (0.1, 10.0)
"""The ranges that are searched, the same for every method; a term's weight is relative to that of the first term."""

MOST_TRIED = 2**16
"""Settings that a search tries at the most."""


@dataclass(frozen=True)
class Axis:
    """A range that is searched, evenly in its logarithm or as it is."""

    low: float
    high: float
    logarithmic: bool = True

    def at(self, share: float) -> float:
        """The value that lies at a share, in [0, 1], of the way."""
        if self.logarithmic:
            return exp(log(self.low) + share * (log(self.high) - log(self.low)))
        return self.low + share * (self.high - self.low)


def search_space(method: Method, settings: TrainSettings) -> dict[str, Axis]:
    """What is searched for a method, with its range.

    The learning rate and the weight decay where it trains, for a sum of terms the weight of each but the first (all
    weights times a constant are a learning rate), and its options.
    """
    space: dict[str, Axis] = {}
    terms = list(method.terms(settings))
    if terms:
        space |= {"learning_rate": Axis(*LEARNING_RATES), "weight_decay": Axis(*WEIGHT_DECAYS)}
        space |= dict.fromkeys((f"weights.{term}" for term in terms[1:]), Axis(*TERM_WEIGHTS))
    options = {name: Axis(option.low, option.high, option.logarithmic) for name, option in method.options.items()}
    return space | {f"options.{name}": axis for name, axis in options.items()}


def draw_settings(method: Method, base: TrainSettings, count: int, *, seed: int = 0) -> list[TrainSettings]:
    """Points of a scrambled Sobol sequence over a method's space, as settings; ``base`` alone where it has no space.

    Args:
        base: what is not searched.
        count: settings.
        seed: of the scrambling; the first points of a longer draw are those of a shorter one.
    """
    space = search_space(method, base)
    if not space:
        return [base]
    # Sobol points are balanced in powers of two.
    points = qmc.Sobol(len(space), rng=seed).random_base2(ceil(log2(max(count, 1))))[:count]
    drawn: list[TrainSettings] = []
    for point in points.tolist():
        values = {name: axis.at(share) for share, (name, axis) in zip(point, space.items(), strict=True)}
        plain: dict[str, object] = {name: value for name, value in values.items() if "." not in name}
        for field in ("weights", "options"):
            prefix = f"{field}."
            own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            plain[field] = {**getattr(base, field), **own}
        drawn.append(TrainSettings.checked(base, **plain))
    return drawn
