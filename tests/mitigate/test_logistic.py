"""Logistic regression against scikit-learn's solvers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from despur.mitigate.logistic import fit_logistic, fold_standardisation

linear_model = pytest.importorskip("sklearn.linear_model")


def problem(classes: int) -> tuple[Tensor, Tensor]:
    """90 images of 7 features, of which two tell the class and one does not vary at all."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.arange(90) % classes
    features = torch.randn(90, 7, generator=generator, dtype=torch.float64)
    features[:, 0] += 1.5 * labels
    features[:, 1] -= labels
    features[:, 6] = 0
    return features, labels


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.03])
def test_two_classes_with_l1_are_liblinear_s_own_problem(strength: float) -> None:
    features, labels = problem(2)
    weight, bias = fit_logistic(features[None], labels[None], 2, l1=1 / (strength * 90), tolerance=1e-9)
    judge = linear_model.LogisticRegression(l1_ratio=1, solver="liblinear", C=strength, tol=1e-10, max_iter=10_000)
    judge.fit(features.numpy(), labels.numpy())
    torch.testing.assert_close(weight[0, 1] - weight[0, 0], torch.from_numpy(judge.coef_[0]), atol=1e-4, rtol=0)
    assert float(bias[0, 1] - bias[0, 0]) == pytest.approx(float(judge.intercept_[0]), abs=1e-4)


def test_several_classes_with_l2_are_multinomial_regression() -> None:
    features, labels = problem(3)
    weight, bias = fit_logistic(features[None], labels[None], 3, l2=0.05, tolerance=1e-9)
    design = torch.cat([features, torch.ones(90, 1, dtype=torch.float64)], 1).numpy()
    judge = linear_model.LogisticRegression(C=1 / (0.05 * 90), fit_intercept=False, tol=1e-10, max_iter=10_000)
    judge.fit(design, labels.numpy())
    torch.testing.assert_close(weight[0], torch.from_numpy(judge.coef_[:, :-1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(bias[0], torch.from_numpy(judge.coef_[:, -1]), atol=1e-4, rtol=0)


def test_problems_solved_together_are_the_problems_solved_alone() -> None:
    features, labels = problem(2)
    strengths = torch.tensor([0.01, 0.1], dtype=torch.float64)
    together, _ = fit_logistic(features.expand(2, -1, -1), labels.expand(2, -1), 2, l1=strengths, tolerance=1e-9)
    alone, _ = fit_logistic(features[None], labels[None], 2, l1=0.1, tolerance=1e-9)
    torch.testing.assert_close(together[1], alone[0], atol=1e-6, rtol=0)


def test_a_classifier_of_standardised_features_is_one_of_the_features_as_they_are() -> None:
    features, labels = problem(2)
    mean, deviation = features.mean(0), features.std(0).clamp(min=1)
    weight, bias = fit_logistic(((features - mean) / deviation)[None], labels[None], 2, l1=0.01)
    folded, offset = fold_standardisation(weight, bias, mean, deviation)
    before = ((features - mean) / deviation) @ weight[0].mT + bias[0]
    torch.testing.assert_close(features @ folded[0].mT + offset[0], before)
