"""The demo's study: who is compared, and that nobody is favoured."""

from __future__ import annotations

import json
from pathlib import Path

from despur.mitigate.methods import find_method
from despur.mitigate.settings import TrainSettings
from despur.mitigate.tuning import search_space
from despur.pipeline.demo import EPOCHS, MODELS, SETTINGS_FILE, demo_study
from despur.pipeline.settings import PAPER_METHODS

FOUND = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
TRAINED = [name for name in PAPER_METHODS if find_method(name).terms(TrainSettings())]


def test_every_trained_method_has_settings_for_every_model():
    assert set(FOUND["chosen"]) == set(MODELS)
    for methods in FOUND["chosen"].values():
        assert sorted(methods) == sorted(TRAINED)


def test_what_was_searched_is_what_is_set():
    for methods in FOUND["chosen"].values():
        for name, found in methods.items():
            method = find_method(name)
            axes = {axis.split(".")[0] for axis in search_space(method, method.settings)}
            assert set(found["settings"]) == axes
            TrainSettings.checked(method.settings, **found["settings"])


def test_settings_were_chosen_on_other_seeds_and_as_many_epochs_as_the_demo_runs(tmp_path: Path):
    study = demo_study(tmp_path)
    assert FOUND["epochs"] == EPOCHS == study.mitigate.train["epochs"]
    assert not set(FOUND["seeds"]) & set(range(study.mitigate.seeds))


def test_quick_is_one_model_and_one_seed(tmp_path: Path):
    whole, quick = demo_study(tmp_path), demo_study(tmp_path, quick=True)
    assert (whole.models, whole.mitigate.seeds) == (MODELS, 5)
    assert (quick.models, quick.mitigate.seeds) == (MODELS[:1], 1)
