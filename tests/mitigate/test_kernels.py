"""The hand-written gradients against the plain expressions that they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from despur.mitigate import kernels
from despur.mitigate.scratch import Scratch


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_with_gradients(found: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    """Equal in value, and in gradient under a random weighting of the entries that are compared."""
    compared = expected > torch.finfo(expected.dtype).min
    weights = normal(*expected.shape, seed=9) * compared
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    ours = torch.autograd.grad((found.where(compared, 0) * weights).sum(), leaves)
    theirs = torch.autograd.grad((expected.where(compared, 0) * weights).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False], ids=["one set of features for all runs", "a set a run"])
@pytest.mark.parametrize("biased", [True, False])
def test_unit_projection_is_a_linear_map_and_a_normalisation(shared: bool, biased: bool) -> None:
    features = normal(6, 4) if shared else normal(3, 6, 4)
    weight = normal(3, 5, 4, seed=1).requires_grad_()
    bias = normal(3, 5, seed=2).requires_grad_() if biased else None
    plain = features @ weight.mT + (0 if bias is None else bias[:, None])
    leaves = [weight] if bias is None else [weight, bias]
    same_with_gradients(kernels.unit_projection(features, weight, bias), F.normalize(plain, dim=-1), leaves)


@pytest.mark.parametrize("shared", [True, False], ids=["one set of features for all runs", "a set a run"])
def test_gradients_written_to_scratch_are_those_of_memory_asked_for_anew(shared: bool) -> None:
    features = normal(6, 4) if shared else normal(3, 6, 4)
    weight = normal(3, 5, 4, seed=1).requires_grad_()
    scratch = Scratch()

    def gradient(scratch: Scratch | None) -> Tensor:
        first = kernels.unit_projection(features, weight, None, scratch, "first")
        second = kernels.unit_projection(2 * features + 1, weight, None, scratch, "second")
        (found,) = torch.autograd.grad((first[..., 0] + second[..., 1]).sum(), [weight])
        return found

    expected = gradient(None)
    for _ in range(2):
        assert torch.equal(gradient(scratch), expected)


@pytest.mark.parametrize("scratch", [None, Scratch()], ids=["memory asked for", "memory handed on"])
def test_a_unit_combination_passes_back_what_reaches_the_sum_before_its_normalisation(scratch: Scratch | None) -> None:
    coefficients, share = normal(3, 6, 4).requires_grad_(), torch.ones(3, dtype=torch.float64).requires_grad_()
    gram, start = normal(6, 6, seed=1), normal(1, 6, 4, seed=2)
    summed = (gram @ coefficients + share[:, None, None] * start).detach().requires_grad_()
    expected = F.normalize(summed, dim=-1).split((2, 4), dim=-2)
    for _ in range(2):
        found = kernels.unit_combination(coefficients, share, gram, start, (2, 4), scratch)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        weights = [normal(*part.shape, seed=8) for part in expected]

        def weighted(parts: tuple[Tensor, ...], weights: list[Tensor] = weights) -> Tensor:
            return torch.stack([(part * own).sum() for part, own in zip(parts, weights, strict=True)]).sum()

        ours = torch.autograd.grad(weighted(found), [coefficients, share])
        (theirs,) = torch.autograd.grad(weighted(expected), [summed], retain_graph=True)
        torch.testing.assert_close(ours[0], theirs, rtol=0, atol=1e-12)
        assert not ours[1].any()


def test_a_single_run_needs_no_runs_dimension() -> None:
    features, weight = normal(6, 4), normal(5, 4, seed=1)
    expected = F.normalize(features @ weight.mT, dim=-1)
    torch.testing.assert_close(kernels.unit_projection(features, weight, None), expected, rtol=0, atol=1e-12)


def test_self_similarity_is_a_scaled_product_that_compares_nobody_with_itself() -> None:
    members = F.normalize(normal(3, 6, 4), dim=-1).requires_grad_()
    scale = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64).requires_grad_()
    plain = scale[:, None, None] * members @ members.mT
    plain = plain.masked_fill(torch.eye(6, dtype=torch.bool), torch.finfo(torch.float64).min)
    same_with_gradients(kernels.self_similarity(members, scale), plain, [members, scale])


@pytest.mark.parametrize("shared", [True, False], ids=["one set of weights for all runs", "a set a run"])
def test_mean_log_share_is_a_weighted_log_softmax(shared: bool) -> None:
    similarity = (20 * normal(3, 4, 6)).requires_grad_()
    weights = normal(4, 6, seed=1).abs() if shared else normal(3, 4, 6, seed=1).abs()
    plain = -(similarity.log_softmax(-1) * weights).sum((-2, -1))
    same_with_gradients(kernels.mean_log_share(similarity, weights, weights.sum(-1)), plain, [similarity])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_feature_that_is_projected_to_nothing_leaves_value_and_gradient_finite(dtype: torch.dtype) -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype)
    weight = torch.eye(2, dtype=dtype, requires_grad=True)
    unit = kernels.unit_projection(features, weight, None)
    assert unit[0].tolist() == [0, 0]
    (gradient,) = torch.autograd.grad((100 * unit).sum(), [weight])
    assert gradient.isfinite().all()
