"""A release pipeline's thresholds: what holds, what fails, and what cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.errors import SettingsError, WorkspaceError
from despur.pipeline import MitigateSettings, evaluate_stage, mitigate_stage
from despur.pipeline.checking import Thresholds, check_metrics, check_run, write_junit
from despur.pipeline.embedded import Embedded
from despur.workspace import Workspace, read_json, write_json

METRICS: dict[str, Any] = {
    "accuracy": {"average": 0.9, "worst_group": 0.75},
    "aiou": {"average": 0.6, "worst_group": None},
}


@pytest.mark.parametrize(
    ("name", "limit", "passed"),
    [
        ("min_worst_group", 0.75, True),
        ("min_worst_group", 0.76, False),
        ("min_average", 0.9, True),
        ("max_gap", 0.15, True),  # although 0.9 - 0.75 > 0.15
        ("max_gap", 0.14, False),
        ("min_aiou", 0.6, True),
        ("min_retained", 0.9, True),
        ("min_retained", 0.91, False),
    ],
)
def test_a_threshold_holds_up_to_its_limit(name: str, limit: float, passed: bool) -> None:
    (check,) = check_metrics(Thresholds(**{name: limit}), METRICS, {"accuracy": {"average": 1.0}})
    assert check.passed is passed


def test_a_failure_s_line_tells_the_value_from_its_limit() -> None:
    almost = {"accuracy": {"average": 0.9, "worst_group": 0.69996}}
    (check,) = check_metrics(Thresholds(min_worst_group=0.7), almost)
    assert check.line == "worst group is 0.69996, and at least 0.7 is asked"


def test_a_difference_that_is_the_limit_but_for_rounding_holds() -> None:
    metrics = {"accuracy": {"average": 0.8, "worst_group": 0.7}}
    assert 0.8 - 0.7 > 0.1
    (check,) = check_metrics(Thresholds(max_gap=0.1), metrics)
    assert check.passed


def test_what_was_not_measured_does_not_pass() -> None:
    asked = Thresholds(min_aiou_worst_group=0.1, min_retained=0.5)
    assert [check.passed for check in check_metrics(asked, METRICS)] == [False, False]
    assert check_metrics(asked, METRICS)[0].line == "aiou worst group is not measured, and at least 0.1 is asked"
    assert not check_metrics(Thresholds(min_aiou=0.1), {**METRICS, "aiou": None})[0].passed


def test_a_run_that_names_no_other_classes_is_not_held_to_those_that_were_repaired() -> None:
    came = {"accuracy": {"average": 0.9}, "retained": {"classes": 2, "images": 6, "before": 0.8, "after": 0.8}}
    (check,) = check_metrics(Thresholds(min_retained=0.5), {**METRICS, "retained": None}, came)
    assert (check.value, check.passed) == (None, False)


def test_no_threshold_is_a_mistake_and_no_success() -> None:
    with pytest.raises(SettingsError, match="no threshold is given"):
        check_metrics(Thresholds(), METRICS)


def test_junit_holds_a_case_a_threshold_and_says_what_failed(tmp_path: Path) -> None:
    found = check_metrics(Thresholds(min_worst_group=0.8, max_gap=0.2), METRICS)
    write_junit(tmp_path / "check.xml", "erm-seed0 <&>", found)
    suite = ElementTree.parse(tmp_path / "check.xml").getroot()
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    assert suite.find("properties/property").attrib == {"name": "split", "value": "test"}
    failed, held = suite.findall("testcase")
    assert failed.find("failure").get("message") == "worst group is 0.75, and at least 0.8 is asked"
    assert held.find("failure") is None


@pytest.mark.parametrize("place", [".", "reports"])
def test_junit_in_place_of_a_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkspaceError, match="a folder of that name is there"):
        write_junit(Path(place), "erm-seed0", check_metrics(Thresholds(max_gap=0.2), METRICS))
    assert [file.name for file in tmp_path.rglob("*")] == ["reports"]


def test_the_best_run_on_validation_is_checked_unless_one_is_named(finished: Any) -> None:
    workspace = finished.workspace
    name, found = check_run(workspace, Thresholds(min_average=0.0, max_gap=1.0, min_retained=0.0))
    assert name.endswith("-seed0")
    assert all(check.passed for check in found)
    assert check_run(workspace, Thresholds(min_average=0.0), "pretrained")[0] == "pretrained"
    with pytest.raises(SettingsError, match="did you mean 'pretrained'"):
        check_run(workspace, Thresholds(min_average=0.0), "pretraind")


def test_a_run_that_is_not_evaluated_is_told_what_to_do(own_work: Path) -> None:
    for file in own_work.glob("runs/*/metrics.json"):
        file.unlink()
    with pytest.raises(WorkspaceError, match="run: despur evaluate"):
        check_run(Workspace.open(own_work), Thresholds(min_average=0.0))


def test_a_run_that_was_trained_anew_is_not_held_to_what_its_earlier_heads_reached(
    own_work: Path, backbone: Backbone
) -> None:
    workspace = Workspace.open(own_work)
    again = MitigateSettings(methods=("erm",), seeds=2, train={"epochs": 1, "batch_size": 16})
    mitigate_stage(Embedded(workspace, torch.device("cpu"), backbone), again)
    with pytest.raises(WorkspaceError, match="run: despur evaluate"):
        check_run(workspace, Thresholds(min_average=0.0), "erm-seed0")


def test_a_run_is_not_held_to_what_it_reached_on_another_split(own_work: Path, backbone: Backbone) -> None:
    workspace = Workspace.open(own_work)
    evaluate_stage(Embedded(workspace, torch.device("cpu"), backbone), "train")
    with pytest.raises(WorkspaceError, match=r"of the split 'train'.* despur evaluate .* --split test"):
        check_run(workspace, Thresholds(min_average=0.0), "erm-seed0")
    assert check_run(workspace, Thresholds(min_average=0.0), "erm-seed0", "train")[0] == "erm-seed0"


def test_metrics_that_were_written_over_are_not_gone_by(own_work: Path) -> None:
    file = own_work / "runs" / "erm-seed0" / "metrics.json"
    better = read_json(file)
    better["accuracy"]["worst_group"] = 1.0
    write_json(file, better)
    with pytest.raises(WorkspaceError, match="not what despur evaluate wrote"):
        check_run(Workspace.open(own_work), Thresholds(min_worst_group=0.9), "erm-seed0")


def test_a_run_among_others_than_when_it_was_evaluated_is_evaluated_first(own_work: Path, backbone: Backbone) -> None:
    workspace = Workspace.open(own_work)
    more = MitigateSettings(methods=("orth-proj",))
    mitigate_stage(Embedded(workspace, torch.device("cpu"), backbone), more)
    with pytest.raises(WorkspaceError, match="changed since they were evaluated; run: despur evaluate"):
        check_run(workspace, Thresholds(min_average=0.0), "erm-seed0")


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"accuracy": 3}', '{"accuracy": {"average": null}}'])
def test_damaged_metrics_are_one_sentence(own_work: Path, damage: str) -> None:
    own_work.joinpath("runs/erm-seed0/metrics.json").write_text(damage)
    with pytest.raises(WorkspaceError, match=r"erm-seed0/metrics.json"):
        check_run(Workspace.open(own_work), Thresholds(max_gap=0.9), "erm-seed0")
