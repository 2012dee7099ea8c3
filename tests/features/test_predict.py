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
