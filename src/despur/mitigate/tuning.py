"""Settings to try: the same number for every method, spread evenly over what the method has to choose."""

from __future__ import annotations

from math import ceil, exp, log, log2

from scipy.stats import qmc

from despur.mitigate.methods.method import Method
from despur.mitigate.settings import TrainSettings

LEARNING_RATES = (1e-4, 1.0)
WEIGHT_DECAYS = (1e-5, 1e-2)
TERM_WEIGHTS = (0.1, 10.0)


def search_space(method: Method, settings: TrainSettings) -> dict[str, tuple[float, float]]:
    """What is searched for a method, with its range; every axis is logarithmic.

    The learning rate and the weight decay, and for a sum of terms the weight of each but the first: all weights times a
    constant are a learning rate.
    """
    space = {"learning_rate": LEARNING_RATES, "weight_decay": WEIGHT_DECAYS}
    _, *others = method.terms(settings)
    return space | dict.fromkeys((f"weights.{term}" for term in others), TERM_WEIGHTS)


def draw_settings(method: Method, base: TrainSettings, count: int, *, seed: int = 0) -> list[TrainSettings]:
    """Points of a scrambled Sobol sequence over a method's space, as settings.

    Args:
        base: what is not searched.
        count: settings.
        seed: of the scrambling; the first points of a longer draw are those of a shorter one.
    """
    space = search_space(method, base)
    # Sobol points are balanced in powers of two.
    points = qmc.Sobol(len(space), rng=seed).random_base2(ceil(log2(max(count, 1))))[:count]
    drawn: list[TrainSettings] = []
    for point in points.tolist():
        values = {
            name: exp(log(low) + share * (log(high) - log(low)))
            for share, (name, (low, high)) in zip(point, space.items(), strict=True)
        }
        weights = {
            name.removeprefix("weights."): value for name, value in values.items() if name.startswith("weights.")
        }
        plain = {name: value for name, value in values.items() if not name.startswith("weights.")}
        drawn.append(TrainSettings.checked(base, weights={**base.weights, **weights}, **plain))
    return drawn
