"""Settings to try: equal budgets, spread evenly, within their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from despur.mitigate.methods import METHODS, find_method
from despur.mitigate.settings import TrainSettings
from despur.mitigate.tuning import LEARNING_RATES, TERM_WEIGHTS, draw_settings, search_space

trained = pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.terms(TrainSettings())])


@trained
def test_every_method_gets_as_many_different_settings_as_asked_for(name: str):
    drawn = draw_settings(find_method(name), TrainSettings(epochs=7), 10)
    assert len({settings.model_dump_json() for settings in drawn}) == 10
    assert {settings.epochs for settings in drawn} == {7}


def test_rates_lie_evenly_on_a_logarithmic_scale():
    rates = [settings.learning_rate for settings in draw_settings(find_method("erm"), TrainSettings(), 64)]
    assert LEARNING_RATES[0] <= min(rates)
    assert max(rates) <= LEARNING_RATES[1]
    counts, _ = np.histogram(np.log(rates), bins=8, range=np.log(LEARNING_RATES))
    assert counts.tolist() == [8] * 8


def test_each_term_but_the_first_has_a_weight_to_choose():
    recipe = find_method("clip+lc+vc+ls")
    weights = {name for name in search_space(recipe, TrainSettings()) if name.startswith("weights.")}
    assert weights == {"weights.lc", "weights.vc", "weights.ls"}
    for settings in draw_settings(recipe, TrainSettings(), 8):
        assert all(TERM_WEIGHTS[0] <= weight <= TERM_WEIGHTS[1] for weight in settings.weights.values())
    assert not any(name.startswith("weights.") for name in search_space(find_method("erm"), TrainSettings()))


def test_a_longer_draw_begins_like_a_shorter_one():
    method = find_method("clip+lc+vc+vs")
    assert draw_settings(method, TrainSettings(), 16)[:8] == draw_settings(method, TrainSettings(), 8)


def test_another_seed_draws_other_settings():
    method = find_method("erm")
    assert draw_settings(method, TrainSettings(), 4) != draw_settings(method, TrainSettings(), 4, seed=1)
