"""Zero-shot predictions and their margins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from despur.features.predict import PREDICTIONS_SCHEMA, predict

HEADS = {"image.weight": torch.eye(2), "text.weight": torch.eye(2), "logit_scale": torch.tensor(math.log(10.0))}
PROMPTS = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
"""One template; class 0 lies along x, class 1 along y."""


def test_the_class_whose_prompt_points_the_images_way_is_predicted() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 3.0], [3.0, 4.0]]).half()
    batches = [(range(2), images[:2]), (range(2, 3), images[2:])]
    table = predict(["a", "b", "c"], np.array([0, 0, 1]), batches, HEADS, PROMPTS)
    assert table.schema == PREDICTIONS_SCHEMA
    assert table.drop_columns("margin").to_pylist() == [
        {"id": "a", "label": 0, "predicted": 0, "correct": True},
        {"id": "b", "label": 0, "predicted": 1, "correct": False},
        {"id": "c", "label": 1, "predicted": 1, "correct": True},
    ]
    # The last image's cosines are 0.6 and 0.8, times 10.
    assert table["margin"].to_pylist() == pytest.approx([10.0, -10.0, 2.0], abs=1e-5)


def test_a_margin_is_the_labels_logit_minus_the_best_of_the_others() -> None:
    probe = {"probe.weight": torch.zeros(3, 2), "probe.bias": torch.tensor([1.0, 5.0, 3.0])}
    table = predict(["a", "b", "c"], np.array([0, 1, 2]), [(range(3), torch.ones(3, 2))], probe, PROMPTS)
    assert table["margin"].to_pylist() == [-4.0, 2.0, -2.0]


def test_predictions_equal_a_loop_over_images_and_classes() -> None:
    draw = torch.Generator().manual_seed(0)
    features, prompts = torch.randn(20, 6, generator=draw), torch.randn(3, 4, 5, generator=draw)
    heads = {
        "image.weight": torch.randn(7, 6, generator=draw),
        "text.weight": torch.randn(7, 5, generator=draw),
        "logit_scale": torch.tensor(2.0),
    }
    labels = torch.randint(4, (20,), generator=draw).numpy()
    batches = [(range(start, min(start + 6, 20)), features[start : start + 6]) for start in range(0, 20, 6)]
    table = predict([str(number) for number in range(20)], labels, batches, heads, prompts)

    def unit(vector: torch.Tensor) -> torch.Tensor:
        return vector / vector.norm()

    classes = [
        unit(torch.stack([unit(heads["text.weight"] @ prompts[t, c]) for t in range(3)]).mean(0)) for c in range(4)
    ]
    for row, image, label in zip(table.to_pylist(), features, labels, strict=True):
        scores = [math.exp(2.0) * float(unit(heads["image.weight"] @ image) @ name) for name in classes]
        others = [score for number, score in enumerate(scores) if number != label]
        assert row["predicted"] == scores.index(max(scores))
        assert row["correct"] == (row["predicted"] == label)
        assert row["margin"] == pytest.approx(scores[label] - max(others), abs=1e-4)
