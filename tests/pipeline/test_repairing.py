"""A flipped bit anywhere in a workspace is found and named, and only what it spoilt is computed again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from despur.catalog import load_backbone, load_dataset
from despur.cli.repair import repaired_text
from despur.detect import DetectSettings
from despur.errors import WorkspaceError
from despur.features import engine
from despur.features.encode import Encoded, encode_images
from despur.features.engine import EmbedSettings
from despur.pipeline import MitigateSettings, ModelSettings, embed_stage, evaluate_stage, mitigate_stage, predict_stage
from despur.pipeline.detecting import SearchSettings, detect_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.repairing import Damage, repair, verify
from despur.workspace import Workspace

MODEL = ModelSettings(spec="birdland:vit")
ERM = MitigateSettings(methods=("erm",), seeds=1, train={"epochs": 1, "batch_size": 16})


@pytest.fixture(scope="session")
def whole(birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features in three shards, predictions, the columns' detections, and one trained run."""
    workspace = Workspace.create(
        tmp_path_factory.mktemp("whole") / "work", dataset=f"waterbirds:{birds}", model=MODEL.spec
    )
    backbone = load_backbone(MODEL.spec)
    dataset = load_dataset(f"waterbirds:{birds}")
    with workspace.lock():
        embed_stage(workspace, dataset, backbone, MODEL, settings=EmbedSettings(shard_rows=40, workers=1))
        embedded = Embedded(workspace, torch.device("cpu"), backbone)
        predict_stage(embedded)
        detect_stage(embedded, SearchSettings(detector="column"))
        mitigate_stage(embedded, ERM)
    return workspace.root


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(whole, tmp_path / "work"))


def flip(file: Path, place: int = -9) -> None:
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    content[place] ^= 0b100
    file.write_bytes(content)


def contents(root: Path) -> dict[str, bytes]:
    """Every result; workspace.json holds times, and a lock holds nothing."""
    files = [file for file in root.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files if file.name != "workspace.json"}


def test_a_workspace_as_it_was_written_is_whole(work: Workspace) -> None:
    assert verify(work) == []
    assert repair(work, device="cpu").damaged == ()


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("features/shard-00001.npy", "embed"),
        ("features/index.json", "embed"),
        ("features/heads.safetensors", "embed"),
        ("examples.parquet", "embed"),
        ("predictions.parquet", "predict"),
        ("detections.parquet", "detect"),
    ],
)
def test_a_flipped_bit_is_found_and_the_bytes_are_as_before(file: str, stage: str, work: Workspace) -> None:
    before = contents(work.root)
    flip(work.path(file), 40)
    found = repair(work, device="cpu")
    assert found.damaged == (Damage(stage, file),)
    assert (found.computed, found.changed, found.left) == ((stage,), (), ())
    assert contents(work.root) == before


def test_only_the_bad_shard_is_computed_again(work: Workspace) -> None:
    shards = [work.path("features", f"shard-0000{number}.npy") for number in range(3)]
    before = [shard.stat().st_mtime_ns for shard in shards]
    flip(shards[2])
    repair(work, device="cpu")
    after = [shard.stat().st_mtime_ns for shard in shards]
    assert [new != old for new, old in zip(after, before, strict=True)] == [False, False, True]


def test_a_repair_that_computes_other_last_digits_says_so(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*arguments: Any, **options: Any) -> Iterator[Encoded]:
        for batch in encode_images(*arguments, **options):
            yield dataclasses.replace(batch, features=batch.features * 1.01)

    monkeypatch.setattr(engine, "encode_images", elsewhere)
    flip(work.path("features", "shard-00001.npy"))
    repaired = repair(work, device="cpu")
    assert (repaired.computed, repaired.changed) == (("embed",), ("embed",))
    assert "other bytes than before: embed" in repaired_text(repaired)


def test_a_search_is_repaired_with_the_sizes_that_it_was_made_with(work: Workspace) -> None:
    embedded = Embedded(work, torch.device("cpu"))
    search = SearchSettings(detector="birdland:detector", vocabulary=("birdland",), split="val")
    detect_stage(embedded, search, search=DetectSettings(batch_size=3, shard_rows=5, workers=1))
    before = work.path("detections.parquet").read_bytes()
    flip(work.path("detections.parquet"))
    assert repair(work, device="cpu").computed == ("detect",)
    assert work.path("detections.parquet").read_bytes() == before
    record = work.record("detect")
    assert record is not None
    assert record.effort == {"batch_size": 3, "shard_rows": 5}


def test_a_torn_shard_and_a_flipped_one_are_both_found(work: Workspace) -> None:
    before = contents(work.root)
    torn = work.path("features", "shard-00000.npy")
    torn.write_bytes(torn.read_bytes()[:50])
    flip(work.path("features", "shard-00002.npy"))
    assert {damage.file for damage in repair(work, device="cpu").damaged} == {
        "features/shard-00000.npy",
        "features/shard-00002.npy",
    }
    assert contents(work.root) == before


def test_a_damaged_run_is_taken_away_and_trained_again_by_the_next_command(whole: Path, work: Workspace) -> None:
    file = "runs/erm-seed0/heads.safetensors"
    flip(work.path(file))
    found = repair(work, device="cpu")
    assert (found.computed, found.left) == ((), ("mitigate/erm",))
    assert not work.path(file).exists()
    mitigate_stage(Embedded(work, torch.device("cpu")), ERM)
    assert work.path(file).read_bytes() == (whole / file).read_bytes()


def test_a_stage_that_is_run_again_does_not_take_damaged_files_for_its_own(work: Workspace) -> None:
    before = contents(work.root)
    flip(work.path("predictions.parquet"), 40)
    assert predict_stage(Embedded(work, torch.device("cpu")))
    assert contents(work.root) == before


def test_heads_that_somebody_exchanged_are_named_with_the_command_that_mends_them(work: Workspace) -> None:
    flip(work.path("features", "heads.safetensors"))
    with pytest.raises(WorkspaceError, match=r"heads\.safetensors: it is not what was written; run: despur repair"):
        _ = Embedded(work, torch.device("cpu")).heads


def test_heads_of_another_run_or_model_are_not_taken_for_a_run_s(work: Workspace) -> None:
    evaluate_stage(Embedded(work, torch.device("cpu")))
    file = work.path("runs", "erm-seed0", "heads.safetensors")
    heads = {name: torch.zeros([size + 1 for size in head.shape]) for name, head in load_file(file).items()}
    save_file(heads, file)
    with pytest.raises(WorkspaceError, match=r"heads\.safetensors: it is not what was written; run: despur repair"):
        evaluate_stage(Embedded(work, torch.device("cpu")))


def test_a_dataset_that_has_changed_since_is_told_after_the_repair(own_birds: Path, work: Workspace) -> None:
    work.describe(dataset=f"waterbirds:{own_birds}")
    table = own_birds / "metadata.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    flip(work.path("features", "shard-00001.npy"))
    with pytest.raises(WorkspaceError, match="not what they were"):
        repair(work, device="cpu")
