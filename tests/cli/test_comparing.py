"""``despur mitigate --tune``, ``despur compare`` and ``despur check`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from despur.workspace import read_json, read_parquet

QUICK = ("--epochs", "2", "--seeds", "2")


@pytest.fixture
def mitigated(own_work: Path, despur) -> Path:
    result = despur("mitigate", "-w", own_work, "-M", "erm", "--batch-size", 16, "--epochs", 2)
    assert result.exit_code == 0, result.stderr
    assert despur("evaluate", "-w", own_work).exit_code == 0
    return own_work


def test_tuning_ends_in_means_and_deviations_on_test(own_work: Path, despur) -> None:
    words = ("mitigate", "-w", own_work, "-M", "erm", "-M", "jtt", "--batch-size", 16, "--tune", 4, *QUICK, "--json")
    first = despur(*words)
    assert first.exit_code == 0, first.stderr
    answer = json.loads(first.stdout)
    by_name = {row["method"]: row for row in answer["methods"]}
    assert by_name.keys() == {"pretrained", "erm", "jtt"}
    assert by_name["erm"]["seeds"] == 2
    assert 0 <= by_name["erm"]["worst_group"]["mean"] <= by_name["erm"]["average"]["mean"] <= 1
    assert by_name["erm"]["worst_group"]["deviation"] is not None
    assert json.loads(despur(*words).stdout) == answer


def test_what_a_search_chooses_is_not_given_beside_it(own_work: Path, despur) -> None:
    both = despur("mitigate", "-w", own_work, "-M", "erm", "--tune", 4, "--lr", 1e-3)
    assert both.exit_code == 2
    assert "--learning-rate: --tune searches what it gives" in both.stderr


def test_an_option_of_a_method_is_given_by_name(own_work: Path, despur) -> None:
    words = ("mitigate", "-w", own_work, "--batch-size", 16, "--epochs", 2, "-M")
    assert despur(*words, "jtt", "--option", "upweight=5").exit_code == 0
    wrong = despur(*words, "jtt", "--option", "upwight=5")
    assert wrong.exit_code == 2
    assert "did you mean 'upweight'" in wrong.stderr


def test_compare_prints_one_table(own_work: Path, despur) -> None:
    words = ("compare", "-w", own_work, "-M", "erm", "-M", "orth-proj", *QUICK)
    shown = despur(*words)
    assert shown.exit_code == 0, shown.stderr
    assert "Orthogonal prompts" in shown.stdout
    assert "reference" in shown.stdout
    assert "may be chance" in shown.stderr  # a small world's validation groups are small
    answer = json.loads(despur(*words, "--against", "pretrained", "--json").stdout)
    assert answer["reference"] == "pretrained"
    assert [row["method"] for row in answer["rows"]] == ["pretrained", "orth-proj", "erm"]


def test_check_passes_or_fails_with_one_line_and_status_1(mitigated: Path, tmp_path: Path, despur) -> None:
    held = despur("check", "-w", mitigated, "--min-average", 0.0, "--max-gap", 1.0)
    assert held.exit_code == 0, held.stderr
    assert "2 of 2 thresholds hold" in held.stdout
    junit = tmp_path / "check.xml"
    words = ("check", "-w", mitigated, "--run", "erm-seed0", "--min-average", 1.0, "--min-aiou", 0.1, "--junit", junit)
    failed = despur(*words)
    assert failed.exit_code == 1
    lines = failed.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("erm-seed0: average is ")
    assert ElementTree.parse(junit).getroot().get("failures") == "2"
    answer = json.loads(despur(*words, "--json").stdout)
    assert answer["passed"] is False
    assert [entry["passed"] for entry in answer["checks"]] == [False, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no threshold is given"),
        (("--min-average", "7"), "min_average"),
        (("--min-average", "0.5", "--run", "erm-seed9"), "did you mean 'erm-seed0'"),
    ],
)
def test_what_cannot_be_checked_is_status_2(words: tuple[str, ...], said: str, mitigated: Path, despur) -> None:
    result = despur("check", "-w", mitigated, *words)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("command", ["compare", "check"])
def test_help_shows_an_example(command: str, despur) -> None:
    assert f"despur {command} -w WORK" in despur(command, "--help").stdout


def test_epochs_can_be_chosen_by_average_where_no_group_is_known(own_work: Path, despur) -> None:
    words = ("mitigate", "-w", own_work, "-M", "erm", "--batch-size", 16, "--epochs", 3, "--select")
    result = despur(*words, "average", "--json")
    assert result.exit_code == 0, result.output
    history = read_parquet(own_work / "runs" / "erm-seed0" / "history.parquet").to_pydict()
    kept = read_json(own_work / "runs" / "erm-seed0" / "config.json")["best_epoch"]
    assert history["average"][kept] == max(history["average"][1:])
    shown = despur(*words, "average").stdout
    assert "validation average" in shown
    assert f"{100 * history['average'][kept]:.1f}%" in shown
    assert "validation average" in despur(*words, "average", "--tune", 2).stdout
    refused = despur(*words, "median")
    assert refused.exit_code == 2
    assert "worst-group" in refused.stderr


def test_a_method_that_does_not_help_on_validation_is_warned_of(own_work: Path, despur) -> None:
    """Steps of no size leave every accuracy where it was."""
    words = ("mitigate", "-w", own_work, "-M", "erm", "--batch-size", 16, "--epochs", 1, "--lr", "1e-30")
    result = despur(*words, "--json")
    assert any("no better on validation" in warning for warning in json.loads(result.stdout)["warnings"])
    assert "warning: no better on validation than the model as it came" in " ".join(result.stderr.split())
