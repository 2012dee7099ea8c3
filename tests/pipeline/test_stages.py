"""The stages over a workspace: what they write, when they run again, and how a stopped run ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from despur.backbones.protocol import Backbone
from despur.birdland.models import as_backbone, new_small
from despur.data.images import UnreadableImage, read_image
from despur.data.waterbirds import load_waterbirds
from despur.errors import DataError, SettingsError, WorkspaceError
from despur.features import batching, decode
from despur.features.batching import EmbedChoices
from despur.features.engine import EmbedSettings
from despur.features.workers import KILLED
from despur.mitigate.runs import load_run
from despur.pipeline import MitigateSettings, ModelSettings, embed_stage, evaluate_stage, mitigate_stage, predict_stage
from despur.pipeline.embedded import Embedded
from despur.workspace import Workspace, read_json, read_parquet


def digests(root: Path) -> dict[str, str]:
    """Contents of every result by its place; workspace.json holds times and a lock holds nothing."""
    kept = (".parquet", ".npy", ".safetensors", ".png")
    return {
        str(file.relative_to(root)): hashlib.blake2b(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.suffix in kept
    }


MODEL = ModelSettings(spec="birdland:vit", random_weights=True)
QUICK = MitigateSettings(methods=("erm", "clip+lc+vc+ls"), seeds=2, train={"epochs": 2, "batch_size": 16})
Everything = Callable[..., Embedded]


def states(workspace: Workspace) -> dict[str, str]:
    return {stage: record.inputs for stage, record in workspace.about()["stages"].items()}


def test_a_study_leaves_its_tables_and_four_files_a_run(finished: Embedded) -> None:
    found = {str(file.relative_to(finished.workspace.root)) for file in finished.workspace.root.rglob("*.*")}
    wanted = {"workspace.json", "examples.parquet", "quarantine.parquet", "predictions.parquet"}
    wanted |= {
        f"runs/{run}/{file}"
        for run in ("pretrained", "erm-seed0", "erm-seed1", "clip+lc+vc+ls-seed0", "clip+lc+vc+ls-seed1")
        for file in ("config.json", "heads.safetensors", "history.parquet", "metrics.json")
    }
    assert wanted <= found


def test_metrics_hold_every_group_and_agree_with_their_average(finished: Embedded) -> None:
    metrics = read_json(finished.workspace.path("runs", "erm-seed1", "metrics.json"))
    assert {"method", "split", "accuracy", "aiou", "best_epoch", "seconds"} <= metrics.keys()
    accuracy = metrics["accuracy"]
    assert [(group["class"], group["present"]) for group in accuracy["groups"]] == [
        ("landbird", False),
        ("landbird", True),
        ("waterbird", False),
        ("waterbird", True),
    ]
    weighted = sum(group["n"] * group["accuracy"] for group in accuracy["groups"])
    assert accuracy["average"] == pytest.approx(weighted / sum(group["n"] for group in accuracy["groups"]))
    assert accuracy["worst_group"] == min(group["accuracy"] for group in accuracy["groups"])
    assert 0 < metrics["aiou"]["average"] < 1


def test_the_pretrained_run_agrees_with_the_predictions(finished: Embedded) -> None:
    table = read_parquet(finished.workspace.path("predictions.parquet"))
    test = np.asarray(finished.dataset.table["split"].to_pylist()) == "test"
    metrics = read_json(finished.workspace.path("runs", "pretrained", "metrics.json"))
    assert metrics["accuracy"]["average"] == pytest.approx(table["correct"].to_numpy()[test].mean())


def test_what_is_up_to_date_is_not_computed_again(birds: Path, own_work: Path, run_everything: Everything) -> None:
    before = {file: file.stat().st_mtime_ns for file in own_work.rglob("*.*") if file.is_file()}
    run_everything(birds, own_work)
    after = {file: file.stat().st_mtime_ns for file in own_work.rglob("*.*") if file.is_file()}
    assert after == before


def test_one_changed_pixel_runs_every_stage_that_sees_it_again(
    own_birds: Path, tmp_path: Path, run_everything: Everything
) -> None:
    before = states(run_everything(own_birds, tmp_path / "work").workspace)
    file = next(own_birds.glob("*/*.jpg"))
    image = Image.open(file).copy()
    image.putpixel((3, 3), (255, 0, 255))
    image.save(file, quality=100)
    after = states(run_everything(own_birds, tmp_path / "work").workspace)
    assert all(after[stage] != before[stage] for stage in before)


def test_another_training_setting_leaves_the_embedding_as_it_is(
    birds: Path, own_work: Path, finished: Embedded, run_everything: Everything
) -> None:
    before = states(finished.workspace)
    other = MitigateSettings(methods=("erm",), seeds=2, train={"epochs": 3, "batch_size": 16})
    after = states(run_everything(birds, own_work, mitigate=other).workspace)
    changed = {stage for stage in after if after[stage] != before.get(stage)}
    assert changed == {"mitigate/erm", "explain", "evaluate"}, "the model as it came takes no steps"


def test_other_weights_run_everything_again(
    birds: Path, own_work: Path, finished: Embedded, run_everything: Everything
) -> None:
    before = states(finished.workspace)
    other = as_backbone(new_small("vit", seed=1))
    after = states(run_everything(birds, own_work, model=other).workspace)
    assert all(after[stage] != before[stage] for stage in before)


def test_another_precision_runs_everything_again_and_keeps_features_of_that_precision(
    birds: Path, own_work: Path, finished: Embedded, run_everything: Everything
) -> None:
    before = states(finished.workspace)
    again = run_everything(birds, own_work, embed=EmbedSettings(dtype="float32"))
    after = states(again.workspace)
    assert all(after[stage] != before[stage] for stage in before)
    assert (finished.store.rows(np.arange(1)).dtype, again.store.rows(np.arange(1)).dtype) == (
        torch.float16,
        torch.float32,
    )


def test_an_encoder_in_half_precision_runs_everything_again(
    birds: Path, own_work: Path, finished: Embedded, run_everything: Everything
) -> None:
    before, features = states(finished.workspace), finished.store.rows(np.arange(4))
    again = run_everything(birds, own_work, embed=EmbedSettings(precision="bfloat16"))
    after = states(again.workspace)
    assert all(after[stage] != before[stage] for stage in before)
    assert not torch.equal(again.store.rows(np.arange(4)), features)


class Stopped(BaseException):
    """What a person's Ctrl-C is here."""


def stops_after(steps: int):
    """A progress that raises in the given step, counted over all loops."""
    left = [steps]

    def progress(loop: Iterable[object], **_: object) -> Iterator[object]:
        for step in loop:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped
            yield step

    return progress


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 6, 7])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    steps: int, birds: Path, tmp_path: Path, backbone: Backbone, finished: Embedded, run_everything: Everything
) -> None:
    undisturbed = digests(finished.workspace.root)
    workspace = Workspace.create(tmp_path / "work")
    dataset = load_waterbirds(birds)
    progress = stops_after(steps)
    embedded = Embedded(workspace, torch.device("cpu"), backbone, progress)

    def stages() -> None:
        embed_stage(workspace, dataset, backbone, MODEL, progress=progress)
        predict_stage(embedded)
        mitigate_stage(embedded, QUICK)

    with pytest.raises(Stopped):
        stages()
    resumed = run_everything(birds, tmp_path / "work")
    assert digests(resumed.workspace.root) == undisturbed


def test_how_many_processes_decode_makes_nothing_stale(birds: Path, tmp_path: Path, backbone: Backbone) -> None:
    workspace, dataset = Workspace.create(tmp_path / "work"), load_waterbirds(birds)
    assert embed_stage(workspace, dataset, backbone, MODEL, settings=EmbedSettings(workers=1))
    assert not embed_stage(workspace, dataset, backbone, MODEL, settings=EmbedSettings(workers=2))


def test_a_batch_size_of_auto_stays_what_it_was_when_the_work_was_begun(
    birds: Path, tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, dataset = Workspace.create(tmp_path / "work"), load_waterbirds(birds)
    monkeypatch.setattr(batching, "choose_batch_size", lambda backbone: 16)
    embed_stage(workspace, dataset, backbone, MODEL, settings=EmbedSettings(shard_rows=20, batch_size=16))
    monkeypatch.setattr(batching, "choose_batch_size", lambda backbone: 4)  # the device is busier now
    auto = EmbedChoices(shard_rows=20, batch_size="auto")
    assert not embed_stage(workspace, dataset, backbone, MODEL, settings=auto)
    workspace.path("features", "shard-00001.npy").unlink()
    sound = workspace.path("features", "shard-00000.npy")
    written = sound.stat().st_mtime_ns
    assert embed_stage(workspace, dataset, backbone, MODEL, settings=auto)
    assert sound.stat().st_mtime_ns == written
    embed_stage(workspace, dataset, as_backbone(new_small("vit", seed=1)), MODEL, settings=auto)
    record = workspace.record("embed")
    assert record is not None
    assert record.settings["embed"]["batch_size"] == 4


def test_an_unreadable_image_is_quarantined_and_counts_nowhere(
    own_birds: Path, tmp_path: Path, backbone: Backbone
) -> None:
    next(own_birds.glob("*/*.jpg")).write_bytes(b"no image")
    workspace = Workspace.create(tmp_path / "work")
    dataset = load_waterbirds(own_birds)
    embed_stage(workspace, dataset, backbone, MODEL)
    quarantine = read_parquet(workspace.path("quarantine.parquet"))
    assert quarantine.num_rows == 1
    assert len(Embedded(workspace, torch.device("cpu"), backbone).dataset) == len(dataset) - 1


def test_a_share_that_is_not_mounted_costs_no_features(own_birds: Path, tmp_path: Path, backbone: Backbone) -> None:
    workspace, dataset = Workspace.create(tmp_path / "work"), load_waterbirds(own_birds)
    embed_stage(workspace, dataset, backbone, MODEL)
    before = digests(workspace.root)
    own_birds.rename(tmp_path / "unmounted")
    with pytest.raises(DataError, match=r"images cannot be read.*there is no such file"):
        embed_stage(workspace, dataset, backbone, MODEL)
    assert digests(workspace.root) == before
    (tmp_path / "unmounted").rename(own_birds)
    assert not embed_stage(workspace, dataset, backbone, MODEL)


def test_images_that_killed_their_readers_are_asked_again_by_the_next_embed(
    birds: Path, tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, dataset = Workspace.create(tmp_path / "work"), load_waterbirds(birds)
    path = dataset.image_paths()[3]

    def short(asked: Path) -> Image.Image:
        if asked == path:
            raise UnreadableImage(f"{KILLED} (SIGKILL)", where=path)
        return read_image(asked)

    with monkeypatch.context() as patched:
        patched.setattr(decode, "read_image", short)
        embed_stage(workspace, dataset, backbone, MODEL, max_unreadable=0.1)
    assert read_parquet(workspace.path("quarantine.parquet")).num_rows == 1
    assert embed_stage(workspace, dataset, backbone, MODEL)
    assert read_parquet(workspace.path("quarantine.parquet")).num_rows == 0
    assert not embed_stage(workspace, dataset, backbone, MODEL)


def test_too_many_unreadable_images_stop_the_run_and_are_named(
    own_birds: Path, tmp_path: Path, backbone: Backbone
) -> None:
    for file in list(own_birds.glob("*/*.jpg"))[:5]:
        file.write_bytes(b"no image")
    workspace = Workspace.create(tmp_path / "work")
    with pytest.raises(DataError, match="5 of"):
        embed_stage(workspace, load_waterbirds(own_birds), backbone, MODEL)
    assert workspace.record("embed") is None


def test_stages_before_the_embedding_say_what_to_run(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "work")
    with pytest.raises(WorkspaceError, match="despur embed"):
        predict_stage(Embedded(workspace, torch.device("cpu")))


def test_an_unknown_method_is_refused_before_anything_is_trained(
    birds: Path, tmp_path: Path, backbone: Backbone
) -> None:
    workspace = Workspace.create(tmp_path / "work")
    embed_stage(workspace, load_waterbirds(birds), backbone, MODEL)
    embedded = Embedded(workspace, torch.device("cpu"), backbone)
    with pytest.raises(SettingsError, match="lc"):
        mitigate_stage(embedded, MitigateSettings(methods=("erm", "clip+lcc")))
    assert not workspace.path("runs").exists()


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_that_diverges_says_so_and_the_other_method_finishes(
    seeds: int, birds: Path, tmp_path: Path, run_everything: Everything
) -> None:
    wild = MitigateSettings(
        methods=("erm", "clip"),
        seeds=seeds,
        train={"epochs": 2, "batch_size": 16},
        by_method={"erm": {"learning_rate": 1e38}},
    )
    workspace = run_everything(birds, tmp_path / "work", mitigate=wild).workspace
    assert load_run(workspace.path("runs", "erm-seed0")).diverged_step is not None
    assert load_run(workspace.path("runs", "clip-seed0")).diverged_step is None


def test_evaluation_on_another_split_is_said_in_the_metrics(own_work: Path, backbone: Backbone) -> None:
    evaluate_stage(Embedded(Workspace.open(own_work), torch.device("cpu"), backbone), "val")
    assert read_json(own_work / "runs" / "pretrained" / "metrics.json")["split"] == "val"


def test_a_damaged_shard_is_embedded_again_and_nothing_else(
    birds: Path, own_work: Path, finished: Embedded, run_everything: Everything
) -> None:
    shard = next((own_work / "features").glob("*.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert digests(run_everything(birds, own_work).workspace.root) == digests(finished.workspace.root)
