"""The way from the original weights to the repaired ones, in ten steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.errors import SettingsError
from despur.pipeline import MitigateSettings, mitigate_stage
from despur.pipeline.blending import blend_stage
from despur.pipeline.chosen import best_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.pipeline.training import load_runs
from despur.report.blend import BlendPoint, blend_figure, figure_page
from despur.workspace import Workspace, read_json


@pytest.fixture
def mine(own_work: Path, backbone: Backbone) -> Embedded:
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


def test_the_curve_leads_from_the_model_as_it_came_to_the_best_run(mine: Embedded) -> None:
    curve = blend_stage(mine)
    runs = load_runs(mine.workspace)
    assert curve.run == best_run(runs)
    assert [point.share for point in curve.points] == [step / 10 for step in range(11)]
    for run, point in ((runs["pretrained"], curve.points[0]), (runs[curve.run], curve.points[-1])):
        report, _ = accuracy_of(mine, run.heads, split_of(mine, "test", run.attribute))
        assert (point.average, point.worst_group) == (report.average, report.worst_group)


def test_the_curve_is_written_as_data_and_as_a_page_and_not_computed_again(mine: Embedded) -> None:
    curve = blend_stage(mine, "erm-seed1", "val")
    data, page = curve.files
    assert read_json(data)["run"] == "erm-seed1"
    assert len(read_json(data)["points"]) == 11
    assert "erm-seed1" in page.read_text(encoding="utf-8")
    before = page.stat().st_mtime_ns
    assert blend_stage(mine, "erm-seed1", "val") == curve
    assert page.stat().st_mtime_ns == before
    blend_stage(mine, "erm-seed1", "test")
    assert page.stat().st_mtime_ns > before


def test_a_run_that_is_not_there_or_has_no_counterpart_is_refused(mine: Embedded) -> None:
    with pytest.raises(SettingsError, match="did you mean 'erm-seed1'"):
        blend_stage(mine, "erm-sed1")
    mitigate_stage(mine, MitigateSettings(methods=("erm-adapter",), train={"epochs": 1}))
    with pytest.raises(SettingsError, match="nothing to blend it with"):
        blend_stage(mine, "erm-adapter-seed0")


def test_the_page_needs_nothing_beside_it_and_says_the_figure_in_words() -> None:
    figure = blend_figure("<b>", [BlendPoint(0.0, 0.75, 0.25), BlendPoint(1.0, 0.7, 0.6)])
    assert [list(line["y"]) for line in figure.plot.data] == [[75.0, 70.0], [25.0, 60.0]]
    page = figure_page(figure)
    assert "1: average 70.0%, worst group 60.0%" in page
    assert "<b>" not in page.split("<figure>")[0]
    assert 'src="http' not in page
