"""Nothing stale is ever read: what was computed from something else does not count as this."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.birdland.models import as_backbone, new_small
from despur.data.waterbirds import load_waterbirds
from despur.errors import WorkspaceError
from despur.pipeline import (
    MitigateSettings,
    ModelSettings,
    embed_stage,
    evaluate_stage,
    explain_stage,
    mitigate_stage,
    report_stage,
    training,
)
from despur.pipeline.embedded import Embedded
from despur.pipeline.exporting import export_run
from despur.pipeline.reporting import section_of
from despur.pipeline.runner import run_stage
from despur.pipeline.training import run_names
from despur.workspace import Workspace, read_json, write_parquet

ERM = MitigateSettings(methods=("erm",), seeds=2, train={"epochs": 2, "batch_size": 16})


@pytest.fixture
def mine(own_work: Path, backbone: Backbone) -> Embedded:
    """A copy of the finished run: pretrained, and two seeds of erm and of clip+lc+vc+ls."""
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


def stage(workspace: Workspace, settings: str, work: Callable[[], None]) -> bool:
    return run_stage(
        workspace,
        "draw",
        settings={"what": settings},
        inputs="",
        outputs=[workspace.path("drawn.txt")],
        work=work,
    )


def test_a_stage_stopped_on_its_way_to_another_outcome_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)

    def draw(what: str) -> None:
        workspace.path("drawn.txt").write_text(what)

    def stopped() -> None:
        draw("half a dog")
        raise KeyboardInterrupt

    stage(workspace, "cat", lambda: draw("cat"))
    with pytest.raises(KeyboardInterrupt):
        stage(workspace, "dog", stopped)
    assert stage(workspace, "cat", lambda: draw("cat"))
    assert workspace.path("drawn.txt").read_text() == "cat"


def test_a_run_that_diverged_is_not_taken_for_the_sound_one_before_it(mine: Embedded) -> None:
    mitigate_stage(mine, ERM)
    heads = mine.workspace.path("runs", "erm-seed0", "heads.safetensors")
    before = heads.read_bytes()
    wild = ERM.model_copy(update={"train": {**ERM.train, "learning_rate": 1e38}})
    mitigate_stage(mine, wild)
    assert read_json(heads.with_name("config.json"))["diverged_step"] is not None
    mitigate_stage(mine, ERM)
    assert read_json(heads.with_name("config.json"))["diverged_step"] is None
    assert heads.read_bytes() == before


def test_a_method_that_diverged_says_so_each_time_it_is_asked_for(mine: Embedded) -> None:
    wild = ERM.model_copy(update={"train": {**ERM.train, "learning_rate": 1e38}, "seeds": 1})
    for _ in range(2):
        with pytest.raises(training.DivergedError, match="step"):
            mitigate_stage(mine, wild)


def test_runs_with_the_settings_of_an_earlier_command_are_not_counted_with_the_new_ones(mine: Embedded) -> None:
    fewer = MitigateSettings(methods=("erm",), seeds=1, train={"epochs": 1, "batch_size": 16})
    mitigate_stage(mine, fewer)
    assert [name for name in run_names(mine.workspace) if name.startswith("erm")] == ["erm-seed0"]
    assert mine.workspace.path("runs", "erm-seed1").exists()  # nobody's results are deleted


def test_runs_on_another_datasets_features_are_not_evaluated(mine: Embedded, birds: Path, backbone: Backbone) -> None:
    whole = load_waterbirds(birds)
    fewer = whole.rows(np.arange(1, len(whole)))
    embed_stage(mine.workspace, fewer, backbone, ModelSettings(spec="birdland:vit", random_weights=True))
    again = Embedded(mine.workspace, torch.device("cpu"), backbone)
    assert run_names(mine.workspace) == []
    with pytest.raises(WorkspaceError, match="despur mitigate"):
        evaluate_stage(again)


def test_weights_that_were_replaced_under_the_same_name_are_not_taken_for_those_of_the_features(
    own_work: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {"birdland:vit": as_backbone(new_small("vit", seed=0))}
    monkeypatch.setattr("despur.pipeline.embedded.load_backbone", lambda spec, **_: found[spec])
    reopened = Embedded(Workspace.open(own_work), torch.device("cpu"))
    assert reopened.backbone.fingerprint() == backbone.fingerprint()
    found["birdland:vit"] = as_backbone(new_small("vit", seed=1))
    replaced = Embedded(Workspace.open(own_work), torch.device("cpu"))
    with pytest.raises(WorkspaceError, match=r"birdland:vit is not the model any more .* embed"):
        export_run(replaced, tmp_path / "out", to="open-clip")
    with pytest.raises(WorkspaceError, match="birdland:vit is not the model any more"):
        explain_stage(replaced)
    assert not (tmp_path / "out").exists()


def test_a_run_folder_that_the_user_deleted_is_left_out(mine: Embedded) -> None:
    folder = mine.workspace.path("runs", "erm-seed1")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    evaluate_stage(mine)
    assert "erm-seed1" not in run_names(mine.workspace)


def test_the_report_refuses_metrics_of_runs_that_have_changed(mine: Embedded) -> None:
    mitigate_stage(mine, MitigateSettings(methods=("erm",), seeds=2, train={"epochs": 1, "batch_size": 16}))
    with pytest.raises(WorkspaceError, match="changed since they were evaluated; run: despur evaluate"):
        report_stage([mine], mine.workspace.path("report.html"))
    evaluate_stage(mine)
    report_stage([mine], mine.workspace.path("report.html"))


def test_strips_of_runs_that_have_changed_are_not_shown(mine: Embedded) -> None:
    assert section_of(mine).strips
    mitigate_stage(mine, MitigateSettings(methods=("erm",), seeds=2, train={"epochs": 1, "batch_size": 16}))
    evaluate_stage(mine)
    assert not section_of(mine).strips


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"split": "test"}'])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("runs/erm-seed0/metrics.json", "it holds no .*delete it"),
        ("strips/strips.json", "it is not what was written; run: despur explain"),
    ],
)
def test_a_file_that_somebody_rewrote_is_named(file: str, said: str, content: str, mine: Embedded) -> None:
    mine.workspace.path(file).write_text(content)
    with pytest.raises(WorkspaceError, match=f"{file}: {said}"):
        section_of(mine)


def test_a_run_whose_history_is_another_table_is_named(mine: Embedded) -> None:
    write_parquet(mine.workspace.path("runs", "erm-seed0", "history.parquet"), pa.table({"epoch": [0, 1, 2]}))
    with pytest.raises(WorkspaceError, match="erm-seed0: it does not describe a run"):
        evaluate_stage(mine)
