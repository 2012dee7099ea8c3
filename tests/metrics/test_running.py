"""torchmetrics' own classes and our reports over a whole split judge the metrics that grow batch by batch."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

import despur.metrics
from despur.errors import SettingsError
from despur.metrics import (
    AdjustedAverageAccuracy,
    AdjustedIoU,
    WorstGroupAccuracy,
    accuracy_report,
    adjusted_iou,
    soft_iou,
)

TRAINING = [70, 10, 10, 10]


def split_of(images: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of two classes, labels and groups."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, 2, generator=generator)
    groups = torch.randint(4, (images,), generator=generator)
    return logits, groups // 2, groups


def test_batches_add_up_to_the_report_of_the_whole_split() -> None:
    logits, labels, groups = split_of(103)
    worst, adjusted = WorstGroupAccuracy(groups=4), AdjustedAverageAccuracy(TRAINING)
    for rows in torch.arange(103).split(10):
        worst.update(logits[rows], labels[rows], groups[rows])
        adjusted.update(logits[rows], labels[rows], groups[rows])
    report = accuracy_report(
        (logits.argmax(-1) == labels).numpy(),
        groups.numpy(),
        classes=("landbird", "waterbird"),
        attribute="water",
        training_groups=np.repeat(np.arange(4), TRAINING),
    )
    assert worst.compute().item() == pytest.approx(report.worst_group)
    assert adjusted.compute().item() == pytest.approx(report.adjusted_average)
    assert worst.rates().tolist() == pytest.approx([group.accuracy for group in report.groups])


def test_groups_that_are_the_classes_give_torchmetrics_class_accuracies() -> None:
    logits, labels, _ = split_of(50)
    worst = WorstGroupAccuracy(groups=2)
    worst.update(logits, labels, labels)
    theirs = MulticlassAccuracy(num_classes=2, average=None)(logits, labels)
    torch.testing.assert_close(worst.rates(), theirs)
    assert worst.compute() == theirs.min()


def test_classes_predicted_count_as_their_logits_do() -> None:
    logits, labels, groups = split_of(50)
    by_logits, by_classes = WorstGroupAccuracy(groups=4), WorstGroupAccuracy(groups=4)
    assert by_logits(logits, labels, groups) == by_classes(logits.argmax(-1), labels, groups)


def test_an_image_in_no_group_counts_nowhere_and_an_empty_group_is_not_the_worst() -> None:
    metric = WorstGroupAccuracy(groups=3)
    metric.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([0, 1, -1]))
    assert metric.sizes.tolist() == [1, 1, 0]
    assert metric.compute() == 1


def test_the_adjusted_average_is_unknown_while_a_trained_group_has_no_images() -> None:
    metric = AdjustedAverageAccuracy([3, 1, 0])
    metric.update(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    assert metric.compute().isnan()
    metric.update(torch.tensor([1]), torch.tensor([0]), torch.tensor([1]))
    assert metric.compute() == 0.75


def test_adjusted_iou_is_the_mean_of_equation_nine_over_all_images() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(7, 3, 4, 4, generator=generator)
    masks = torch.rand(7, 4, 4, generator=generator) < 0.5
    labels = torch.randint(3, (7,), generator=generator)
    metric = AdjustedIoU()
    for rows in torch.arange(7).split(3):
        metric.update(maps[rows], masks[rows], labels[rows])
    assert metric.compute().item() == pytest.approx(adjusted_iou(soft_iou(maps, masks), labels).mean().item())


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("metric", [WorstGroupAccuracy(4), AdjustedAverageAccuracy(TRAINING), AdjustedIoU()])
def test_a_reset_metric_knows_nothing(metric: Metric) -> None:
    if isinstance(metric, AdjustedIoU):
        metric.update(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool), torch.tensor([0]))
    else:
        metric.update(*split_of(20))
    assert not metric.compute().isnan()
    metric.reset()
    assert metric.compute().isnan()


def test_they_go_into_a_collection_with_torchmetrics_own() -> None:
    logits, labels, groups = split_of(50)
    collection = MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro"), "worst": WorstGroupAccuracy(4)})
    collection.update(preds=logits, target=labels, groups=groups)
    found = collection.compute()
    assert found["accuracy"] == (logits.argmax(-1) == labels).float().mean()
    assert found["worst"] < found["accuracy"]


def test_states_of_two_processes_add_up() -> None:
    """What a cluster's all-reduce does: torchmetrics sums the states that are marked so."""
    logits, labels, groups = split_of(60)
    whole, first, second = (WorstGroupAccuracy(groups=4) for _ in range(3))
    whole.update(logits, labels, groups)
    first.update(logits[:25], labels[:25], groups[:25])
    second.update(logits[25:], labels[25:], groups[25:])
    first.merge_state(second)
    assert first.compute() == whole.compute()


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="0 groups"):
        WorstGroupAccuracy(groups=0)
    with pytest.raises(SettingsError, match="training sizes"):
        AdjustedAverageAccuracy([0, 0])


def test_a_group_beyond_those_that_there_are_is_told_and_counts_nowhere() -> None:
    metric = WorstGroupAccuracy(groups=2)
    one = torch.tensor([1])
    metric.update(one, one, one)
    with pytest.raises(SettingsError, match="an image is in group 4; groups are 0 to 1, or -1"):
        metric.update(one, one, torch.tensor([4]))
    assert metric.rates().nan_to_num(-1).tolist() == [-1, 1]


def test_a_batch_without_images_changes_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    worst, overlap = WorstGroupAccuracy(groups=2), AdjustedIoU()
    worst.update(torch.zeros(0, 2), none, none)
    overlap.update(torch.zeros(0, 2, 3, 3), torch.zeros(0, 3, 3, dtype=torch.bool), none)
    assert worst.compute().isnan()
    assert overlap.compute().isnan()


@pytest.mark.parametrize("name", ["AdjustedAverageAccuracy", "AdjustedIoU", "WorstGroupAccuracy"])
def test_without_torchmetrics_a_class_says_in_a_sentence_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "despur.metrics.running")
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(SettingsError, match=rf"^despur.metrics.{name}: torchmetrics is not installed; run: pip"):
        getattr(despur.metrics, name)
