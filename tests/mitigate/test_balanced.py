"""Drawing groups evenly and weighting them evenly ask for the same thing."""

from __future__ import annotations

import pytest
import torch

from despur.backbones.heads import class_logits
from despur.mitigate import METHODS, TrainSettings, train
from despur.mitigate.study import Study


def test_weights_make_the_loss_the_mean_of_the_groups_means(study: Study) -> None:
    (run,) = train(study, METHODS["erm-reweighted"], TrainSettings(epochs=1, batch_size=64, learning_rate=1e-9))
    losses = torch.nn.functional.cross_entropy(
        class_logits(study.heads, study.train.features, study.class_prompts), study.train.labels, reduction="none"
    )
    means = [float(losses[study.train.groups == group].mean()) for group in range(4)]
    assert run.history["loss"].to_pylist()[1] == pytest.approx(sum(means) / 4, abs=1e-8)


def test_sampling_asks_for_the_same_on_average(study: Study) -> None:
    settings = TrainSettings(epochs=400, batch_size=64, learning_rate=1e-12)
    (drawn,) = train(study, METHODS["erm-balanced"], settings)
    (weighted,) = train(study, METHODS["erm-reweighted"], settings.model_copy(update={"epochs": 1}))
    losses = drawn.history["loss"].to_pylist()[1:]
    assert sum(losses) / len(losses) == pytest.approx(weighted.history["loss"].to_pylist()[1], rel=0.03)
