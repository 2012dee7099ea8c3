"""Each loss against a slow loop written from its equation, its gradient, its precision and its algebra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from despur.mitigate import losses


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=dtype), dim=-1)


def cs_loop(similarity: Tensor, positives: Sequence[set[int]], negatives: Sequence[set[int]]) -> float:
    """CS, Section 3, term by term."""
    of_anchor = []
    for anchor, (pulled, pushed) in enumerate(zip(positives, negatives, strict=True)):
        if not pulled:
            continue
        row = similarity[anchor].tolist()
        denominator = sum(exp(row[p]) for p in pulled) + sum(exp(row[q]) for q in pushed)
        of_anchor.append(-sum(log(exp(row[p]) / denominator) for p in pulled) / len(pulled))
    return sum(of_anchor) / len(of_anchor) if of_anchor else 0.0


def within_loop(members: Tensor, labels: Sequence[int], scale: float) -> float:
    """Eq. 2 to 5: one set against itself, the anchor in neither P nor Q."""
    everyone = range(len(labels))
    positives = [{j for j in everyone if j != i and labels[j] == labels[i]} for i in everyone]
    negatives = [{j for j in everyone if labels[j] != labels[i]} for i in everyone]
    return cs_loop(scale * members @ members.mT, positives, negatives)


def clip_loop(similarity: Tensor, labels: Sequence[int], duplicates: str) -> float:
    """Eq. 1; with "positives" the target is spread evenly over the texts (images) of the class."""
    total, n = 0.0, len(labels)
    for table in (similarity, similarity.mT):
        for i in range(n):
            targets = [i] if duplicates == "negatives" else [j for j in range(n) if labels[j] == labels[i]]
            denominator = sum(exp(value) for value in table[i].tolist())
            total -= 0.5 * sum(log(exp(float(table[i, j])) / denominator) for j in targets) / len(targets) / n
    return total


LABELS = {
    "two classes": [0, 1, 0, 1, 1, 0],
    "one class only": [1, 1, 1, 1, 1, 1],
    "a group of one": [0, 0, 2, 0, 1, 1],
    "everyone alone": [0, 1, 2, 3, 4, 5],
}
SCALE = torch.tensor(7.0, dtype=torch.float64)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("loss", [losses.contrastive_image_loss, losses.spurious_image_loss])
def test_image_terms_equal_a_loop_over_their_equation(loss: Callable[..., Tensor], labels: list[int]) -> None:
    images = unit(6, 4)
    assert float(loss(images, torch.tensor(labels), SCALE)) == pytest.approx(within_loop(images, labels, 7.0), abs=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("loss", [losses.contrastive_language_loss, losses.spurious_language_loss])
def test_language_terms_equal_a_loop_over_their_equation(loss: Callable[..., Tensor], classes: int) -> None:
    prompts = unit(5, classes, 4)
    rows = prompts.reshape(-1, 4)
    labels = [row % classes for row in range(5 * classes)]
    assert float(loss(prompts, SCALE)) == pytest.approx(within_loop(rows, labels, 7.0), abs=1e-9)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_cs_equals_a_loop_for_any_positives_and_negatives(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.lists(st.sampled_from("pqn"), min_size=5, max_size=5), min_size=4, max_size=4))
    similarity = unit(4, 3, seed=1) @ unit(5, 3, seed=2).mT * 20
    positives = torch.tensor([[kind == "p" for kind in row] for row in kinds])
    negatives = torch.tensor([[kind == "q" for kind in row] for row in kinds])
    expected = cs_loop(
        similarity,
        [{j for j, kind in enumerate(row) if kind == "p"} for row in kinds],
        [{j for j, kind in enumerate(row) if kind == "q"} for row in kinds],
    )
    assert float(losses.cross_group_similarity(similarity, positives, negatives)) == pytest.approx(expected, abs=1e-9)


def test_a_set_against_itself_is_cs_with_the_anchor_in_neither_set() -> None:
    images, labels = unit(6, 4), torch.tensor(LABELS["two classes"])
    same = labels[:, None] == labels
    itself = torch.eye(6, dtype=torch.bool)
    general = losses.cross_group_similarity(losses.similarities(images, images, SCALE), same & ~itself, ~same)
    torch.testing.assert_close(losses.contrastive_image_loss(images, labels, SCALE), general, rtol=0, atol=1e-12)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("duplicates", ["negatives", "positives"])
def test_the_clip_loss_equals_a_loop_over_equation_1(duplicates: losses.Duplicates, labels: list[int]) -> None:
    similarity = losses.similarities(unit(6, 4, seed=1), unit(6, 4, seed=2), SCALE)
    found = losses.clip_loss(similarity, torch.tensor(labels), duplicates)
    assert float(found) == pytest.approx(clip_loop(similarity, labels, duplicates), abs=1e-9)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("duplicates", ["negatives", "positives"])
def test_with_one_text_a_class_the_short_form_of_the_clip_loss_equals_both_treatments_of_duplicates(
    duplicates: losses.Duplicates, labels: list[int]
) -> None:
    logits = losses.similarities(unit(6, 4, seed=1), unit(7, 4, seed=2), SCALE)
    of_class = torch.tensor(labels)
    short = losses.clip_loss_of_class_texts(logits, of_class)
    assert float(short) == pytest.approx(clip_loop(logits[:, of_class], labels, duplicates), abs=1e-9)


def clip_texts(images: Tensor, prompts: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
    texts = prompts[..., 0, :, :]
    paired = texts.gather(-2, labels.unsqueeze(-1).expand(*labels.shape, texts.shape[-1]))
    return losses.similarities(images, paired, scale)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "clip": lambda i, p, s, y: losses.clip_loss(clip_texts(i, p, s, y), y),
    "clip, positives": lambda i, p, s, y: losses.clip_loss(clip_texts(i, p, s, y), y, "positives"),
    "clip, class texts": lambda i, p, s, y: losses.clip_loss_of_class_texts(
        losses.similarities(i, p[..., 0, :, :], s), y
    ),
    "vc": lambda i, p, s, y: losses.contrastive_image_loss(i, y, s),
    "lc": lambda i, p, s, y: losses.contrastive_language_loss(p, s),
    "vs": lambda i, p, s, y: losses.spurious_image_loss(i, y, s),
    "ls": lambda i, p, s, y: losses.spurious_language_loss(p, s),
}
"""Every loss of images, prompts [templates, classes, dim], 1/τ and labels."""


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_pass_gradcheck_for_stacked_runs(loss: Callable[..., Tensor]) -> None:
    labels = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]])
    inputs = [tensor.requires_grad_() for tensor in (unit(2, 4, 3), unit(2, 3, 2, 3, seed=1), SCALE.repeat(2).clone())]

    def everything_takes_part(images: Tensor, prompts: Tensor, scale: Tensor) -> Tensor:
        # So that an input that the loss does not use has the gradient zero and not none.
        return loss(images, prompts, scale, labels) + 0 * (images.sum() + prompts.sum() + scale.sum())

    assert torch.autograd.gradcheck(everything_takes_part, inputs)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alike", [False, True], ids=["all different", "all images alike"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_half_precision_is_finite_at_the_lowest_temperature(
    loss: Callable[..., Tensor], dtype: torch.dtype, alike: bool, labels: list[int]
) -> None:
    images = unit(1 if alike else 6, 8, dtype=torch.float32).expand(6, 8).to(dtype).requires_grad_()
    prompts = unit(3, 6, 8, dtype=torch.float32, seed=1).to(dtype).requires_grad_()
    scale = torch.tensor(100.0, dtype=dtype).requires_grad_()
    value = loss(images, prompts, scale, torch.tensor(labels))
    gradients = torch.autograd.grad(value, [images, prompts, scale], allow_unused=True)
    assert value.isfinite()
    assert all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


@given(order=st.permutations(range(6)), labels=st.lists(st.integers(0, 2), min_size=6, max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_order_of_examples_changes_nothing(order: list[int], labels: list[int]) -> None:
    images, prompts, of_class = unit(6, 4), unit(3, 3, 4, seed=1), torch.tensor(labels)
    for loss in LOSSES.values():
        before = loss(images, prompts, SCALE, of_class)
        torch.testing.assert_close(loss(images[order], prompts, SCALE, of_class[order]), before, rtol=0, atol=1e-12)


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_templates_changes_no_language_term(order: list[int]) -> None:
    prompts = unit(4, 3, 5)
    for loss in (losses.contrastive_language_loss, losses.spurious_language_loss):
        torch.testing.assert_close(loss(prompts[order], SCALE), loss(prompts, SCALE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_stack_of_runs_equals_single_runs(loss: Callable[..., Tensor]) -> None:
    images, prompts = unit(3, 6, 4), unit(3, 2, 3, 4, seed=1)
    scale = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    labels = torch.tensor([LABELS["two classes"], LABELS["one class only"], LABELS["a group of one"]])
    stacked = loss(images, prompts, scale, labels)
    for run in range(3):
        alone = loss(images[run], prompts[run], scale[run], labels[run])
        torch.testing.assert_close(stacked[run], alone, rtol=0, atol=1e-10)


def test_without_a_positive_anywhere_the_loss_is_zero_and_pulls_nothing() -> None:
    images = unit(6, 4).requires_grad_()
    loss = losses.contrastive_image_loss(images, torch.tensor(LABELS["everyone alone"]), SCALE)
    (gradient,) = torch.autograd.grad(loss, images)
    assert loss.item() == 0.0
    assert not gradient.any()


def test_an_attribute_that_nobody_has_makes_the_spurious_term_the_class_term() -> None:
    images, labels = unit(6, 4), torch.tensor(LABELS["two classes"])
    groups = 2 * labels
    spurious = losses.spurious_image_loss(images, groups, SCALE)
    assert torch.equal(spurious, losses.contrastive_image_loss(images, labels, SCALE))


def test_all_images_alike_cost_the_log_of_the_others() -> None:
    images = unit(1, 4).expand(6, 4)
    loss = losses.contrastive_image_loss(images, torch.tensor(LABELS["two classes"]), SCALE)
    assert float(loss) == pytest.approx(log(5), abs=1e-9)
