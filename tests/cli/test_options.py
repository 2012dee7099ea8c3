"""Options that every command takes, and results that JSON can say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text

from despur.cli import app

QUICK = ("--epochs", 1, "--batch-size", 16)


def _commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    for name, entry in group.commands.items():
        if hasattr(entry, "commands"):
            yield from _commands(entry, *before, name)
        else:
            yield " ".join((*before, name)), entry


def test_every_command_takes_json_a_device_and_a_seed() -> None:
    found = dict(_commands(typer.main.get_command(app)))
    assert len(found) > 20
    for name, entry in found.items():
        options = {option for parameter in entry.params for option in parameter.opts}
        assert options >= {"--json", "--device", "--seed"}, name


def test_no_word_of_a_help_text_is_taken_for_markup_and_not_shown() -> None:
    for name, entry in _commands(typer.main.get_command(app)):
        for parameter in entry.params:
            told = parameter.help or ""
            assert Text.from_markup(told).plain == told, (name, parameter.name)


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_a_seed_that_nothing_can_draw_from(seed: int, own_work: Path, tmp_path: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, "-M", "erm", *QUICK, "--seed", seed), "seed")
    refused(despur("explain", "-w", own_work, "--seed", seed), "seed")
    refused(despur("demo", tmp_path / "demo", "--quick", "--seed", seed), "seed")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("number", [10**12, 2**70])
@pytest.mark.parametrize("option", ["epochs", "seeds", "tune"])
def test_a_number_beyond_all_patience_is_refused(option: str, number: int, own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, "-M", "erm", f"--{option}", number), option.rstrip("s"))


def test_a_study_file_is_held_to_the_same_numbers(own_work: Path, tmp_path: Path, despur, refused) -> None:
    tmp_path.joinpath("study.yaml").write_text(f"dataset: x\nmodels: y\nworkspace: z\ntune: {10**12}\n")
    refused(despur("run", tmp_path / "study.yaml"), "tune")


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_unreadable_images_is_a_share(share: float, own_work: Path, tmp_path: Path, despur) -> None:
    for command in (
        ("embed", "birdland", "--model", "birdland:resnet", "-w", tmp_path / "new"),
        ("detect", "-w", own_work),
        ("datasets", "build-waterbirds", tmp_path, tmp_path, tmp_path / "new"),
    ):
        refused = despur(*command, "--max-unreadable", share)
        assert refused.exit_code == 2
        assert "--max-unreadable" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_device_that_holds_no_numbers(own_work: Path, despur, refused) -> None:
    refused(despur("evaluate", "-w", own_work, "--device", "meta"), "'meta'", "--device cpu")


def test_no_losses_are_not_all_losses(own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, "--losses", ""), "method")
    assert not (own_work / "runs").exists()


def test_a_weight_of_a_loss(own_work: Path, despur, refused) -> None:
    result = despur("mitigate", "-w", own_work, "--losses", "clip,vc", "--weight", "vc=0.5", *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    config = json.loads((own_work / "runs" / "clip+vc-seed0" / "config.json").read_text())
    assert config["settings"]["weights"] == {"vc": 0.5}
    refused(despur("mitigate", "-w", own_work, "--losses", "clip,vc", "--weight", "vs=2", *QUICK), "'vs'")
    twice = ("--weight", "vc=0.5", "--weight", "vc=2")
    refused(despur("mitigate", "-w", own_work, "--losses", "clip,vc", *twice, *QUICK), "'vc' is given twice")


def test_groups_of_no_kind_are_not_the_usual_ones(own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, "-M", "erm", "--groups", "", *QUICK), "groups cannot be ''")


def test_stages_that_need_a_run_say_which_command_makes_one(own_work: Path, despur, refused) -> None:
    for command in ("evaluate", "explain", "report"):
        refused(despur(command, "-w", own_work, "--json"), "despur mitigate")


def test_explaining_leaves_the_split_that_was_evaluated(own_work: Path, despur) -> None:
    despur("mitigate", "-w", own_work, "-M", "pretrained")
    despur("evaluate", "-w", own_work, "--split", "val")
    assert despur("explain", "-w", own_work, "--images", 2, "--strips", 0, "--checks", 0).exit_code == 0
    metrics = json.loads((own_work / "runs" / "pretrained" / "metrics.json").read_text())
    assert metrics["split"] == "val"


def test_a_method_none_of_whose_seeds_stayed_finite_is_null_in_json(birds: Path, tmp_path: Path, despur) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"dataset: waterbirds:{birds}\nmodels: birdland:vit\nworkspace: work\n"
        "mitigate: {methods: [erm, clip], seeds: 2, train: {epochs: 2, batch_size: 16},\n"
        "  by_method: {erm: {learning_rate: 1.0e+38}}}\n"
        "explain: {images: 2, strips: 0, checks: 0}\n"
    )
    result = despur("run", study, "--json")
    assert result.exit_code == 0, result.stderr
    (erm,) = (row for row in json.loads(result.stdout)["rows"] if row["method"] == "erm")
    assert (erm["diverged"], erm["average"], erm["worst_group"]) == (2, None, None)
