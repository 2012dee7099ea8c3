"""Validation in one product agrees with the logits that classify."""

from __future__ import annotations

import torch

from despur.backbones.heads import class_logits
from despur.mitigate.study import Study
from despur.mitigate.validation import predicted_classes, validation_accuracies, worst_group


def stacked(study: Study, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    heads = {**study.heads, **more}
    generator = torch.Generator().manual_seed(3)
    return {
        name: head + 0.5 * torch.randn(3, *head.shape, generator=generator, dtype=head.dtype)
        for name, head in heads.items()
    }


def test_the_folded_product_predicts_what_the_logits_predict(study: Study) -> None:
    heads = stacked(study)
    expected = class_logits(heads, study.val.features, study.class_prompts).argmax(-1)
    assert torch.equal(predicted_classes(heads, study.val.features, study.class_prompts), expected)


def test_a_probe_predicts_by_itself(study: Study) -> None:
    zeros = torch.zeros(2, 6, dtype=torch.float64)
    heads = stacked(study, **{"probe.weight": zeros, "probe.bias": zeros[:, 0]})
    expected = class_logits(heads, study.val.features, study.class_prompts).argmax(-1)
    assert torch.equal(predicted_classes(heads, study.val.features, study.class_prompts), expected)


def test_rates_are_shares_of_each_group_and_the_worst_passes_over_empty_groups(study: Study) -> None:
    from dataclasses import replace

    heads = stacked(study)
    examples = replace(study.val, groups=study.val.groups.clamp(max=2))
    rates, averages = validation_accuracies(heads, study, examples)
    correct = predicted_classes(heads, examples.features, study.class_prompts) == examples.labels
    torch.testing.assert_close(rates[:, 0], correct[:, :10].float().mean(1))
    torch.testing.assert_close(averages, correct.float().mean(1))
    assert rates[:, 3].isnan().all()
    assert torch.equal(worst_group(rates), rates[:, :3].amin(1))
