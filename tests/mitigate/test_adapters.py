"""The adapter's place in the heads, and the contrastive loss against a loop."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from despur.backbones.heads import class_logits, embed_images, project_images
from despur.explain.gradcam import CLASSES, explained_classes, feature_gradients, flatten_runs
from despur.mitigate import METHODS, TrainSettings, train
from despur.mitigate.methods.adapters import HIDDEN, contrastive_adapter_loss
from despur.mitigate.study import Study


def test_the_contrastive_loss_is_a_loop_over_anchors_and_positives() -> None:
    generator = torch.Generator().manual_seed(0)
    embedded = F.normalize(torch.randn(7, 4, generator=generator, dtype=torch.float64), dim=-1)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    correct = torch.tensor([False, True, True, False, False, True, False])  # image 6 has no positive
    cosines = embedded @ embedded.mT
    anchors = []
    for anchor in (0, 3, 4):
        scores = [exp(float(cosines[anchor, other]) / 0.1) for other in range(7)]
        negatives = sum(scores[other] for other in range(7) if labels[other] != labels[anchor])
        positives = [other for other in range(7) if labels[other] == labels[anchor] and correct[other]]
        anchors.append(sum(-log(scores[p] / (scores[p] + negatives)) for p in positives) / len(positives))
    found = contrastive_adapter_loss(cosines, labels, correct)
    assert float(found) == pytest.approx(sum(anchors) / 3)


def test_without_errors_there_is_no_anchor_and_no_loss() -> None:
    cosines = torch.eye(3, requires_grad=True)
    loss = contrastive_adapter_loss(cosines, torch.tensor([0, 0, 1]), torch.ones(3, dtype=torch.bool))
    loss.backward()
    assert float(loss) == 0
    assert bool(cosines.grad.isfinite().all())


def test_one_class_alone_has_no_negative_and_a_finite_gradient() -> None:
    cosines = torch.eye(2, requires_grad=True)
    loss = contrastive_adapter_loss(cosines, torch.tensor([0, 0]), torch.tensor([True, False]))
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert bool(cosines.grad.isfinite().all())


def test_an_adapter_takes_the_projection_s_place(study: Study) -> None:
    (run,) = train(study, METHODS["erm-adapter"], TrainSettings(epochs=1, learning_rate=1e-3))
    assert run.heads["adapter.in.weight"].shape == (HIDDEN, 4)
    plain = project_images(study.heads, study.val.features)
    hidden = (plain @ run.heads["adapter.in.weight"].mT + run.heads["adapter.in.bias"]).relu()
    expected = hidden @ run.heads["adapter.out.weight"].mT + run.heads["adapter.out.bias"]
    torch.testing.assert_close(embed_images(run.heads, study.val.features), F.normalize(expected, dim=-1))


def test_seeds_begin_with_other_adapters_and_stack_as_if_alone(study: Study) -> None:
    settings = TrainSettings(epochs=2, learning_rate=1e-2, batch_size=16)
    one, other = train(study, METHODS["contrastive-adapter"], settings, seeds=[0, 1])
    assert not torch.equal(one.heads["adapter.in.weight"], other.heads["adapter.in.weight"])
    (alone,) = train(study, METHODS["contrastive-adapter"], settings, seeds=[1])
    for name, head in alone.heads.items():
        torch.testing.assert_close(other.heads[name], head, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["erm-adapter", "perception-clip"])
def test_explanations_see_the_adapter_and_the_contexts(study: Study, name: str) -> None:
    """The gradient that Grad-CAM starts from, against differences of the scores with 100 for 1/τ."""
    (run,) = train(study, METHODS[name], TrainSettings(epochs=1, learning_rate=1e-3))
    features = study.val.features[:3]
    heads = {**run.heads, "logit_scale": torch.tensor(log(100.0), dtype=torch.float64)}
    classes = explained_classes(heads, study.class_prompts)
    _, flat = flatten_runs({**heads, CLASSES: classes})
    found = feature_gradients(flat, features)[0]
    for column in range(features.shape[1]):
        step = torch.zeros_like(features)
        step[:, column] = 1e-6
        ahead, behind = (class_logits(heads, features + sign * step, study.class_prompts) for sign in (1, -1))
        torch.testing.assert_close(found[..., column].mT, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-4)
