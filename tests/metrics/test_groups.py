from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from despur.errors import DataError
from despur.metrics import AccuracyReport, accuracy_report, group_rates
from despur.rank.statistics import wilson_interval

CLASSES = ("landbird", "waterbird")


def report_of(counts: list[tuple[int, int]], training: list[int] | None = None) -> AccuracyReport:
    """A report on groups given as (correct, size); ``training`` holds the training sizes."""
    correct = np.concatenate([np.arange(size) < hits for hits, size in counts])
    groups = np.repeat(np.arange(len(counts)), [size for _, size in counts])
    training_groups = None if training is None else np.repeat(np.arange(len(training)), training)
    return accuracy_report(correct, groups, classes=CLASSES, attribute="water", training_groups=training_groups)


def test_average_worst_group_and_adjusted_average_of_a_table_checked_by_hand():
    report = report_of([(9, 10), (5, 10), (1, 5), (5, 5)], training=[70, 10, 10, 10])
    assert report.average == pytest.approx(20 / 30)
    assert report.worst_group == pytest.approx(0.2)
    assert report.worst_group_index == 2
    assert report.adjusted_average == pytest.approx(0.7 * 0.9 + 0.1 * 0.5 + 0.1 * 0.2 + 0.1 * 1.0)


def test_groups_are_named_by_class_and_presence():
    groups = report_of([(1, 1), (1, 2), (1, 3), (1, 4)]).groups
    assert [(g.class_name, g.attribute, g.present, g.n) for g in groups] == [
        ("landbird", "water", False, 1),
        ("landbird", "water", True, 2),
        ("waterbird", "water", False, 3),
        ("waterbird", "water", True, 4),
    ]


def test_an_empty_group_is_reported_as_empty_and_is_not_the_worst():
    report = report_of([(1, 2), (0, 0), (2, 2), (2, 2)])
    empty = report.groups[1]
    assert (empty.n, empty.accuracy, empty.ci_low, empty.ci_high) == (0, None, None, None)
    assert report.worst_group == 0.5
    assert report.worst_group_index == 0


def test_a_group_with_no_correct_image_is_the_worst():
    report = report_of([(0, 3), (0, 0), (2, 2), (2, 2)])
    assert report.worst_group == 0.0
    assert report.worst_group_index == 0


def test_there_is_no_adjusted_average_without_training_groups():
    assert report_of([(1, 2), (1, 2), (1, 2), (1, 2)]).adjusted_average is None


def test_there_is_no_adjusted_average_where_a_training_group_has_no_evaluated_image():
    assert report_of([(1, 2), (0, 0), (1, 2), (1, 2)], training=[5, 1, 5, 5]).adjusted_average is None


def test_a_group_empty_here_and_in_training_does_not_spoil_the_adjusted_average():
    report = report_of([(1, 2), (0, 0), (1, 1), (1, 1)], training=[2, 0, 1, 1])
    assert report.adjusted_average == pytest.approx(0.75)


def test_no_images_is_an_error():
    with pytest.raises(DataError, match="no images"):
        report_of([(0, 0), (0, 0), (0, 0), (0, 0)])


def test_json_has_the_workspace_names_and_survives_strict_json():
    written = report_of([(1, 2), (0, 0), (2, 2), (2, 2)], training=[1, 0, 1, 1]).to_json()
    assert list(written) == ["average", "adjusted_average", "worst_group", "groups"]
    read = json.loads(json.dumps(written, allow_nan=False))
    assert read == written
    assert read["groups"][1] == {
        "class": "landbird",
        "attribute": "water",
        "present": True,
        "n": 0,
        "accuracy": None,
        "ci_low": None,
        "ci_high": None,
    }


tables = st.lists(
    st.integers(0, 12).flatmap(lambda size: st.tuples(st.integers(0, size), st.just(size))), min_size=4, max_size=4
).filter(lambda table: any(size for _, size in table))


@settings(max_examples=60, deadline=None)
@given(tables, st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_the_report_equals_a_loop_over_groups(table: list[tuple[int, int]], training: list[int]):
    report = report_of(table, training)
    rates = [hits / size if size else None for hits, size in table]
    assert report.average == pytest.approx(sum(h for h, _ in table) / sum(n for _, n in table))
    assert report.worst_group == pytest.approx(min(rate for rate in rates if rate is not None))
    for group, (hits, size), rate in zip(report.groups, table, rates, strict=True):
        assert group.accuracy == rate
        if size:
            judge = binomtest(hits, size).proportion_ci(confidence_level=0.95, method="wilson")
            assert group.ci_low == pytest.approx(judge.low, abs=1e-12)
            assert group.ci_high == pytest.approx(judge.high, abs=1e-12)
    known = all(rate is not None for rate, weight in zip(rates, training, strict=True) if weight)
    if known and sum(training):
        total = sum(weight * (rate or 0.0) for rate, weight in zip(rates, training, strict=True))
        assert report.adjusted_average == pytest.approx(total / sum(training))
    else:
        assert report.adjusted_average is None


@given(st.integers(1, 5000).flatmap(lambda size: st.tuples(st.integers(0, size), st.just(size))))
@settings(max_examples=60, deadline=None)
def test_an_interval_holds_its_rate_and_stays_in_zero_to_one(pair: tuple[int, int]):
    hits, size = pair
    low, high = wilson_interval(np.array([hits]), np.array([size]))
    assert 0.0 <= low[0] <= hits / size <= high[0] <= 1.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_group_rates_equal_a_loop_over_runs_and_groups(data: st.DataObject):
    images = data.draw(st.integers(0, 20))
    correct = data.draw(st.lists(st.lists(st.booleans(), min_size=images, max_size=images), min_size=3, max_size=3))
    groups = data.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images))
    rates = group_rates(torch.tensor(correct, dtype=torch.bool), torch.tensor(groups, dtype=torch.int64), 4)
    assert rates.shape == (3, 4)
    for run in range(3):
        for group in range(4):
            members = [correct[run][image] for image in range(images) if groups[image] == group]
            got = rates[run, group].item()
            assert math.isnan(got) if not members else got == pytest.approx(sum(members) / len(members))


def test_group_rates_of_one_run_and_of_many_dimensions_of_runs_agree():
    correct = torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(0)) < 0.5
    groups = torch.arange(50) % 4
    rates = group_rates(correct, groups, 4)
    assert rates.shape == (2, 3, 4)
    assert torch.equal(rates[1, 2], group_rates(correct[1, 2], groups, 4))
