"""The released code's terms against slow loops, and the trap in its indexing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from despur.mitigate import cosine


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def anchor_loss(anchor: Tensor, others: Tensor, same: list[bool], absolute: bool) -> float:
    pulled = sum(float(anchor @ other) for other, alike in zip(others, same, strict=True) if alike)
    pushed = [float(anchor @ other) for other, alike in zip(others, same, strict=True) if not alike]
    return (-pulled + sum(abs(value) if absolute else value for value in pushed)) / len(same)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 2, 0, 1]])
def test_the_image_term_equals_a_loop(labels: list[int], absolute: bool) -> None:
    images = unit(5, 4)
    expected = [anchor_loss(images[i], images, [y == labels[i] for y in labels], absolute) for i in range(5)]
    found = cosine.label_cosine_loss(images, torch.tensor(labels), absolute=absolute)
    assert float(found) == pytest.approx(sum(expected) / 5, abs=1e-9)


def test_what_was_meant_weights_each_class_by_its_images() -> None:
    prompts, labels = unit(4, 2, 5), torch.tensor([0, 0, 1])
    rows = prompts.reshape(-1, 5)
    of_class = [
        sum(anchor_loss(rows[t * 2 + c], rows, [r % 2 == c for r in range(8)], False) for t in range(4)) / 4
        for c in range(2)
    ]
    expected = (2 * of_class[0] + of_class[1]) / 3
    assert float(cosine.language_cosine_loss(prompts, labels)) == pytest.approx(expected, abs=1e-9)


def test_what_was_run_labels_rows_class_major_and_reads_templates_where_it_means_classes() -> None:
    prompts, labels = unit(4, 2, 5), torch.tensor([0, 0, 1])
    rows = prompts.reshape(-1, 5)
    of_row = [anchor_loss(rows[r], rows, [s // 4 == r // 4 for s in range(8)], False) for r in range(8)]
    of_template = [(of_row[2 * t] + of_row[2 * t + 1]) / 2 for t in range(4)]
    expected = (2 * of_template[0] + of_template[1]) / 3
    found = cosine.language_cosine_loss(prompts, labels, released_indexing=True)
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_what_was_run_pulls_the_first_half_of_the_templates_together_whatever_their_class() -> None:
    prompts = unit(80, 2, 16)
    half = torch.arange(80) < 40

    def pulled_by(template: int) -> Tensor:
        """The gradient's sign tells whom the loss of a template's prompts pulls them towards."""
        leaf = prompts.clone().requires_grad_()
        loss = cosine.language_cosine_loss(leaf, torch.tensor([template]), released_indexing=True)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return gradient

    gradient = pulled_by(0)
    others = gradient[2:]  # each is ± the sum of the two rows that reach the loss
    signs = torch.sign((others * prompts[0].sum(0)).sum(-1))
    assert (signs[half[2:]] < 0).all()
    assert (signs[~half[2:]] > 0).all()


def test_only_the_templates_numbered_as_classes_reach_the_released_loss() -> None:
    losses = torch.arange(8, dtype=torch.float64).reshape(4, 2)  # [templates, classes]
    labels = torch.tensor([0, 1, 1])
    released = cosine._of_images(losses, labels, released_indexing=True)  # pyright: ignore[reportPrivateUsage]
    assert float(released) == pytest.approx((0.5 + 2.5 + 2.5) / 3)


@pytest.mark.parametrize("released_indexing", [False, True])
def test_the_spurious_language_term_is_the_mean_absolute_cosine_with_the_phrases(released_indexing: bool) -> None:
    prompts, phrases, labels = unit(3, 2, 5), unit(4, 2, 5, seed=1), torch.tensor([1, 1, 0])
    everything = phrases.reshape(-1, 5)

    def of_prompt(t: int, c: int) -> float:
        return sum(abs(float(prompts[t, c] @ phrase)) for phrase in everything) / 8

    if released_indexing:
        by_class = [(of_prompt(t, 0) + of_prompt(t, 1)) / 2 for t in range(3)]
    else:
        by_class = [sum(of_prompt(t, c) for t in range(3)) / 3 for c in range(2)]
    found = cosine.orthogonality_loss(prompts, phrases, labels, released_indexing=released_indexing)
    assert float(found) == pytest.approx(sum(by_class[int(y)] for y in labels) / 3, abs=1e-9)


def test_a_stack_of_runs_equals_single_runs() -> None:
    prompts, labels = unit(2, 4, 2, 5), torch.tensor([[0, 1, 1], [0, 0, 1]])
    for released in (False, True):
        stacked = cosine.language_cosine_loss(prompts, labels, released_indexing=released)
        alone = [cosine.language_cosine_loss(prompts[run], labels[run], released_indexing=released) for run in range(2)]
        torch.testing.assert_close(stacked, torch.stack(alone), rtol=0, atol=1e-12)
