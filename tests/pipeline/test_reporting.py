"""What the report says beside its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.mitigate.methods import find_method
from despur.pipeline import ExplainSettings, MitigateSettings, evaluate_stage, explain_stage, mitigate_stage
from despur.pipeline.chosen import best_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.reporting import report_stage, section_of
from despur.pipeline.training import load_runs
from despur.workspace import Workspace, read_json, write_json


@pytest.fixture
def own(own_work: Path, backbone: Backbone) -> Embedded:
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


def give_energy(embedded: Embedded, run: str, value: float) -> None:
    file = embedded.workspace.path("runs", run, "metrics.json")
    metrics = read_json(file)
    metrics["explanations"]["energy"]["average"] = value
    write_json(file, metrics)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([0.41, 0.45], "is 40.0% before and 43.0% after"),
        ([0.41, 0.45], "it rises with every seed"),
        ([0.39, 0.45], "it does not rise with seed 0"),
        ([0.40, 0.30], "it does not rise with seed 0, 1"),
    ],
)
def test_the_report_says_with_which_seeds_the_map_does_not_move_onto_the_object(
    own: Embedded, tmp_path: Path, after: list[float], said: str
):
    runs = load_runs(own.workspace)
    method = runs[best_run(runs) or ""].method
    give_energy(own, "pretrained", 0.40)
    for name, run in runs.items():
        if run.method == method:
            give_energy(own, name, after[run.seed])
    report_stage([own], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert said in page
    assert find_method(method).title in page


def test_the_map_of_a_seed_that_diverged_is_not_counted(own: Embedded, tmp_path: Path):
    runs = load_runs(own.workspace)
    method = runs[best_run(runs) or ""].method
    config = own.workspace.path("runs", f"{method}-seed1", "config.json")
    write_json(config, {**read_json(config), "diverged_step": 3})
    explain_stage(own, ExplainSettings(images=12, strips=0, checks=0))
    evaluate_stage(own)
    give_energy(own, "pretrained", 0.40)
    give_energy(own, f"{method}-seed0", 0.45)
    give_energy(own, f"{method}-seed1", 0.05)
    report_stage([own], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"45.0% after {find_method(method).title} (one seed): it rises." in page


def test_one_seed_is_not_called_a_mean(own: Embedded, tmp_path: Path):
    with own.workspace.lock():
        own.workspace.forget("mitigate/clip+lc+vc+ls")
        mitigate_stage(own, MitigateSettings(methods=("erm",), train={"epochs": 1, "batch_size": 16}))
        explain_stage(own, ExplainSettings(images=12, strips=0, checks=0))
        evaluate_stage(own)
    give_energy(own, "pretrained", 0.40)
    give_energy(own, "erm-seed0", 0.45)
    report_stage([own], tmp_path / "report.html")
    assert "after ERM (one seed): it rises." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_checks_of_the_maps_are_those_of_the_two_models_that_are_compared(own: Embedded):
    section = section_of(own)
    assert [check.title for check in section.map_checks] == ["Pre-trained", section.after_title]
    pretrained = read_json(own.workspace.path("runs", "pretrained", "metrics.json"))
    assert section.map_checks[0].deletion == pretrained["explanations"]["checks"]["deletion"]
