"""A study file that also asks for what the images show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from despur.detect import detect_to_table, load
from despur.errors import DataError, ModelError, WorkspaceError
from despur.pipeline import StudySettings, detecting, run_study
from despur.pipeline.awaiting import Awaited
from despur.pipeline.order import in_order
from despur.review.events import Action, now
from despur.review.store import VERDICTS, VerdictStore
from despur.workspace import Workspace, read_parquet

CPU = torch.device("cpu")


def study(birds: Path, work: Path, **said: object) -> StudySettings:
    return StudySettings.model_validate(
        {
            "dataset": f"waterbirds:{birds}",
            "models": "birdland:vit",
            "workspace": work,
            "detect": {"detector": "column"},
            "rank": {"min_count": 1},
            "mitigate": {"methods": ["erm"], "train": {"epochs": 1}},
            "explain": {"images": 4, "strips": 0, "checks": 0},
            **said,
        }
    )


def stages(heard: list[str]) -> list[str]:
    return [line.partition(": ")[2] for line in heard if line.startswith("birdland:vit: ")]


def test_detect_and_rank_run_between_predicting_and_retraining_and_once(birds: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    run_study(study(birds, tmp_path / "work"), device=CPU, announce=heard.append)
    assert stages(heard) == ["embed", "predict", "detect", "rank", "mitigate", "explain", "evaluate"]
    work = Workspace.open(tmp_path / "work")
    finished = list(dict.fromkeys(name.partition("/")[0] for name in work.about()["stages"]))
    assert in_order(sorted(finished)) == finished
    pairs = read_parquet(work.path("discrepancies.parquet")).select(["class", "attribute"]).to_pylist()
    assert {(pair["class"], pair["attribute"]) for pair in pairs} == {("landbird", "water"), ("waterbird", "water")}

    written = {name: work.path(name).stat().st_mtime_ns for name in ("detections.parquet", "discrepancies.parquet")}
    run_study(study(birds, tmp_path / "work"), device=CPU)
    assert {name: work.path(name).stat().st_mtime_ns for name in written} == written
    run_study(study(birds, tmp_path / "work", rank={"min_count": 2}), device=CPU)
    assert work.path("detections.parquet").stat().st_mtime_ns == written["detections.parquet"]
    assert work.path("discrepancies.parquet").stat().st_mtime_ns > written["discrepancies.parquet"]


def test_a_study_that_waits_for_verdicts_stops_after_ranking_and_goes_on_with_them(birds: Path, tmp_path: Path) -> None:
    mitigate = {"methods": ["group-dro"], "groups": "verdicts", "train": {"epochs": 1}}
    waiting = study(birds, tmp_path / "work", mitigate=mitigate)
    stopped = run_study(waiting, device=CPU)
    work = Workspace.open(tmp_path / "work")
    assert stopped.waiting == [Awaited(work.root, pairs=2, judged=0)]
    assert stopped.report is None
    assert work.record("rank") is not None
    judge(work, "spurious", "waterbird")
    heard: list[str] = []
    finished = run_study(waiting, device=CPU, announce=heard.append)
    assert finished.waiting == []
    assert finished.report == work.path("report.html")
    warned = [line for line in heard if line.startswith("warning: only ")]
    assert warned
    # The page warns of the labels' groups, by which it judges; methods were selected by those of verdicts.
    assert "what was selected by them may be chance" in (tmp_path / "work" / "report.html").read_text()
    assert work.path("runs", "group-dro-seed0", "metrics.json").exists()


def judge(work: Workspace, verdict: str, *classes: str) -> None:
    store = VerdictStore(work.path(VERDICTS))
    for name in classes:
        judged = {"class_name": name, "attribute": "water", "verdict": verdict}
        store.add(Action.model_validate({"kind": "verdict", "who": "Ada", "at": now(), **judged}))
    store.close()


def test_nothing_is_waited_for_where_every_pair_is_judged_and_none_is_spurious(birds: Path, tmp_path: Path) -> None:
    mitigate = {"methods": ["group-dro"], "groups": "verdicts", "train": {"epochs": 1}}
    waiting = study(birds, tmp_path / "work", mitigate=mitigate)
    run_study(waiting, device=CPU)
    work = Workspace.open(tmp_path / "work")
    judge(work, "healthy", "waterbird")
    assert run_study(waiting, device=CPU).waiting == [Awaited(work.root, pairs=2, judged=1)]
    judge(work, "healthy", "landbird")
    with pytest.raises(WorkspaceError, match="no pair is judged spurious"):
        run_study(waiting, device=CPU)


def test_a_study_in_whose_images_nothing_is_seen_has_nothing_to_judge(birds: Path, tmp_path: Path) -> None:
    mitigate = {"methods": ["group-dro"], "groups": "verdicts"}
    with pytest.raises(WorkspaceError, match=r"nothing to judge.*lower min_count"):
        run_study(study(birds, tmp_path / "work", mitigate=mitigate, rank={"min_count": 10_000}), device=CPU)


def test_every_model_of_a_study_is_ranked_before_it_waits(birds: Path, tmp_path: Path) -> None:
    mitigate = {"methods": ["group-dro"], "groups": "verdicts", "train": {"epochs": 1}}
    models = ["birdland:vit", "birdland:resnet"]
    stopped = run_study(study(birds, tmp_path / "work", models=models, mitigate=mitigate), device=CPU)
    assert [one.workspace for one in stopped.waiting] == stopped.workspaces
    assert len(set(stopped.workspaces)) == 2


def test_a_study_of_images_without_attributes_finds_and_then_waits_for_verdicts(birds: Path, tmp_path: Path) -> None:
    for place, name in enumerate(("landbird", "waterbird")):
        for split in ("train", "val", "test"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (24, 24), (60 * number, 90 * place, 40)).save(folder / f"{number}.png")
    (tmp_path / "phrases.txt").write_text("water\nbamboo\n")
    found = study(
        birds,
        tmp_path / "work",
        dataset=f"folder:{tmp_path / 'photos'}",
        detect={"detector": "tagger", "vocabulary": f"file:{tmp_path / 'phrases.txt'}", "threshold": 0},
    )
    assert len(run_study(found, device=CPU).waiting) == 1
    assert Workspace.open(tmp_path / "work").record("rank") is not None
    refused = found.model_copy(update={"mitigate": found.mitigate.model_copy(update={"groups": "attribute"})})
    with pytest.raises(DataError, match="attribute"):
        run_study(refused, device=CPU)
    alone = {"groups": "classes", "train": {**found.mitigate.train, "selection": "average"}}
    done = run_study(found.model_copy(update={"mitigate": found.mitigate.model_copy(update=alone)}), device=CPU)
    assert "No shortcut is known, so that each class is one group" in done.report.read_text()
    assert "each class is one group, and nothing here says" in done.report.read_text()


def test_the_same_images_are_searched_once_for_all_models_of_a_study(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[Path] = []

    def counted(dataset: Any, detector: Any, vocabulary: Any, path: Path, *more: Any, **options: Any) -> Any:
        searched.append(path)
        return detect_to_table(dataset, detector, vocabulary, path, *more, **options)

    monkeypatch.setattr(detecting, "detect_to_table", counted)
    models = ["birdland:vit", "birdland:resnet"]
    detect = {"detector": "birdland:detector", "vocabulary": "birdland"}
    done = run_study(study(birds, tmp_path / "work", models=models, detect=detect), device=CPU)
    one, other = (folder / "detections.parquet" for folder in done.workspaces)
    assert searched == [one]
    assert one.read_bytes() == other.read_bytes()
    assert (done.workspaces[1] / "discrepancies.parquet").is_file()
    run_study(
        study(birds, tmp_path / "work", models=models, detect={"detector": "tagger", "vocabulary": "birdland"}),
        device=CPU,
    )
    assert one.read_bytes() != other.read_bytes()  # the model itself was asked


def test_a_detector_that_cannot_be_had_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(repository: str, *files: str) -> None:
        raise OSError("nothing answers")

    monkeypatch.setattr(load, "expect_files", nobody)
    nowhere = study(tmp_path / "no such folder", tmp_path / "work", detect={"detector": "owlvit"})
    with pytest.raises(ModelError, match=r"owlvit-base-patch32.*cannot be had") as told:
        run_study(nowhere, device=CPU)
    assert "--detector hf:DIR" in told.value.now
    assert "owlvit-base-patch32/resolve/main/model.safetensors" in told.value.now
    (tmp_path / "empty").mkdir()
    nowhere = study(tmp_path / "no such folder", tmp_path / "work", detect={"detector": f"hf:{tmp_path / 'empty'}"})
    with pytest.raises(ModelError, match=r"empty.*cannot be had"):
        run_study(nowhere, device=CPU)
    assert not (tmp_path / "work").exists()
