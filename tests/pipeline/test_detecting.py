"""Searching a workspace's images, and counting what was found."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import despur
from despur.backbones.protocol import Backbone
from despur.data.waterbirds import load_waterbirds
from despur.detect import DetectSettings
from despur.errors import DataError, DespurError, ModelError, SettingsError, WorkspaceError
from despur.pipeline import embed_stage, predict_stage
from despur.pipeline.detecting import SearchSettings, detect_stage, finished_search, read_vocabulary
from despur.pipeline.embedded import Embedded
from despur.pipeline.ranking import COLUMNS, rank_stage, read_ranking
from despur.pipeline.settings import ModelSettings
from despur.pipeline.shortlisted import counts_text, discrepancy_table, shown_rows
from despur.rank import RankSettings
from despur.workspace import Workspace, read_parquet

BIRDLAND = SearchSettings(detector="birdland:detector", vocabulary=("birdland",))
COLUMN = SearchSettings(detector="column")
SHARDS = DetectSettings(batch_size=8, shard_rows=32)


@pytest.fixture
def embedded(own_work: Path, backbone: Backbone) -> Embedded:
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


def test_detections_name_images_of_the_workspace_and_phrases_of_the_vocabulary(embedded: Embedded) -> None:
    assert detect_stage(embedded, BIRDLAND, search=SHARDS)
    table = read_parquet(embedded.workspace.path("detections.parquet"))
    assert table.column_names == ["id", "phrase", "score", "x0", "y0", "x1", "y1"]
    assert set(table["id"].to_pylist()) <= set(embedded.dataset.ids)
    _, searched = finished_search(embedded.workspace)
    assert set(table["phrase"].to_pylist()) <= set(searched.phrases) == set(read_vocabulary(["birdland"]).phrases)
    assert not detect_stage(embedded, BIRDLAND, search=SHARDS)


def test_class_names_are_not_looked_for_and_the_removal_is_told(embedded: Embedded) -> None:
    file = embedded.workspace.root / "words.txt"
    file.write_text("landbird\nland birds\ncup\n")
    detect_stage(embedded, SearchSettings(detector="birdland:detector", vocabulary=(f"file:{file}",)))
    _, searched = finished_search(embedded.workspace)
    assert searched.phrases == ("cup",)
    assert {gone.phrase for gone in searched.removed} == {"landbird", "land birds"}


@pytest.mark.parametrize("detector", ["birdland:detector", "tagger"])
def test_a_detector_that_can_read_no_phrase_is_told_and_does_not_pass_for_seeing_nothing(
    detector: str, embedded: Embedded
) -> None:
    file = embedded.workspace.root / "words.txt"
    file.write_text("a very long phrase " * 60)
    with pytest.raises(
        SettingsError, match=r"can read none of the 1 phrases \(the first is longer than the text context"
    ):
        detect_stage(embedded, SearchSettings(detector=detector, vocabulary=(f"file:{file}",)))
    assert embedded.workspace.record("detect") is None
    assert not embedded.workspace.path("detections.parquet").exists()


class Stopped(BaseException):
    """What a person's Ctrl-C is here."""


def stops_after(steps: int):
    def progress(loop: Iterable[object], **_: object) -> Iterator[object]:
        for number, step in enumerate(loop):
            if number == steps:
                raise Stopped
            yield step

    return progress


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_stopped_search_goes_on_and_ends_with_the_same_bytes(steps: int, own_work: Path, embedded: Embedded) -> None:
    detect_stage(embedded, BIRDLAND, search=SHARDS)
    path = embedded.workspace.path("detections.parquet")
    undisturbed = path.read_bytes()
    other = Workspace.open(shutil.copytree(own_work, own_work.with_name("other")))
    other.path("detections.parquet").unlink()
    stopped = Embedded(other, torch.device("cpu"), embedded.backbone, stops_after(steps))
    with pytest.raises(Stopped):
        detect_stage(stopped, BIRDLAND, search=SHARDS)
    assert not other.path("detections.parquet").exists()
    detect_stage(Embedded(other, torch.device("cpu"), embedded.backbone), BIRDLAND, search=SHARDS)
    assert other.path("detections.parquet").read_bytes() == undisturbed


def test_the_datasets_own_attribute_ranks_as_its_groups_say(embedded: Embedded) -> None:
    detect_stage(embedded, COLUMN)
    rank_stage(embedded, RankSettings(min_count=1))
    table = read_parquet(embedded.workspace.path("discrepancies.parquet"))
    correct = read_parquet(embedded.workspace.path("predictions.parquet"))["correct"].to_numpy()
    dataset = embedded.dataset
    water = dataset.present("water")
    assert table.num_rows == 2
    for row in table.to_pylist():
        own = dataset.labels == dataset.classes.index(row["class"])
        assert (row["n_with"], row["n_without"]) == ((own & water).sum(), (own & ~water).sum())
        assert row["accuracy_with"] == pytest.approx(correct[own & water].mean())
        assert row["accuracy_without"] == pytest.approx(correct[own & ~water].mean())
        assert row["discrepancy"] == pytest.approx(row["accuracy_with"] - row["accuracy_without"])


def test_discrepancies_have_the_columns_of_the_contract(embedded: Embedded) -> None:
    detect_stage(embedded, COLUMN)
    rank_stage(embedded)
    assert (
        read_parquet(embedded.workspace.path("discrepancies.parquet")).column_names
        == COLUMNS
        == [
            *("class", "attribute", "n_with", "n_without", "accuracy_with", "accuracy_without", "discrepancy"),
            *("ci_low", "ci_high", "p_value", "q_value", "mutual_information", "confused_class"),
        ]
    )


def test_the_tagger_asks_the_model_itself_without_reading_an_image(embedded: Embedded, own_work: Path) -> None:
    file = own_work / "words.txt"
    file.write_text("water\nland\nboat\n")
    settings = SearchSettings(detector="tagger", vocabulary=(f"file:{file}",), threshold=0.5)
    detect_stage(embedded, settings)
    table = read_parquet(embedded.workspace.path("detections.parquet"))
    assert set(table["phrase"].to_pylist()) <= {"water", "land", "boat"}
    assert table["x0"].null_count == table.num_rows


def test_rank_says_what_to_run_first(embedded: Embedded) -> None:
    with pytest.raises(WorkspaceError, match="despur detect"):
        rank_stage(embedded)
    with pytest.raises(WorkspaceError, match="despur rank"):
        read_ranking(embedded.workspace)


def test_only_the_split_that_was_searched_is_counted(embedded: Embedded) -> None:
    detect_stage(embedded, COLUMN.model_copy(update={"split": "test"}))
    rank_stage(embedded)
    assert read_ranking(embedded.workspace).images == len(embedded.dataset.split("test"))
    with pytest.raises(SettingsError, match="only the split 'test' was searched"):
        rank_stage(embedded, RankSettings(split="train"))


def test_a_split_that_no_dataset_has_is_not_counted_but_told_with_the_nearest(embedded: Embedded) -> None:
    detect_stage(embedded, COLUMN)
    with pytest.raises(SettingsError, match="rank: there is no split 'tset'; did you mean 'test'"):
        rank_stage(embedded, RankSettings(split="tset"))


def test_a_quarantined_image_counts_nowhere_and_an_unseen_one_as_without(
    own_birds: Path, tmp_path: Path, backbone: Backbone
) -> None:
    next(own_birds.glob("*/*.jpg")).write_bytes(b"no image")
    dataset = load_waterbirds(own_birds)
    workspace = Workspace.create(tmp_path / "work")
    embed_stage(workspace, dataset, backbone, ModelSettings(spec="birdland:vit"))
    embedded = Embedded(workspace, torch.device("cpu"), backbone)
    predict_stage(embedded)
    detect_stage(embedded, COLUMN)
    rank_stage(embedded)
    ranking = read_ranking(workspace)
    water = embedded.dataset.present("water")
    assert (ranking.images, ranking.quarantined) == (len(dataset) - 1, 1)
    assert ranking.unseen == (~water).sum()
    assert "1 quarantined" in counts_text(ranking)


def test_a_quarantined_image_is_counted_in_its_own_split_alone(
    own_birds: Path, tmp_path: Path, backbone: Backbone
) -> None:
    dataset = load_waterbirds(own_birds)
    dataset.image_paths()[int(dataset.split_rows("train")[0])].write_bytes(b"no image")
    workspace = Workspace.create(tmp_path / "work")
    embed_stage(workspace, dataset, backbone, ModelSettings(spec="birdland:vit"))
    on_disk = Embedded(workspace, torch.device("cpu"), backbone)
    predict_stage(on_disk)
    detect_stage(on_disk, COLUMN)
    in_memory = despur.embed(dataset, backbone)
    detections = despur.detect(in_memory, "column")
    for split, lost in ((None, 1), ("train", 1), ("val", 0), ("test", 0)):
        listed = len(dataset) if split is None else len(dataset.split_rows(split))
        rank_stage(on_disk, RankSettings(split=split))
        for ranking in (read_ranking(workspace), despur.rank(in_memory, detections, split=split)):
            assert (ranking.images, ranking.quarantined) == (listed - lost, lost)


def test_an_image_that_is_lost_is_quarantined_by_the_search_and_a_share_that_is_lost_costs_none(
    own_birds: Path, tmp_path: Path, backbone: Backbone
) -> None:
    dataset = load_waterbirds(own_birds)
    workspace = Workspace.create(tmp_path / "work")
    embed_stage(workspace, dataset, backbone, ModelSettings(spec="birdland:vit"))
    embedded = Embedded(workspace, torch.device("cpu"), backbone)
    predict_stage(embedded)
    next(own_birds.glob("*/*.jpg")).unlink()
    detect_stage(embedded, BIRDLAND)
    searched = workspace.path("detections.parquet").read_bytes()
    own_birds.rename(tmp_path / "unmounted")
    with pytest.raises(DataError, match="there is no such file"):
        detect_stage(embedded, BIRDLAND)
    (tmp_path / "unmounted").rename(own_birds)
    assert not detect_stage(embedded, BIRDLAND)
    assert workspace.path("detections.parquet").read_bytes() == searched
    rank_stage(embedded)
    ranking = read_ranking(workspace)
    assert (ranking.images, ranking.quarantined) == (len(dataset) - 1, 1)


def test_verbs_in_memory_agree_with_the_stages(birds: Path, embedded: Embedded) -> None:
    detect_stage(embedded, BIRDLAND)
    rank_stage(embedded, RankSettings(min_count=5))
    detections = despur.detect(embedded, "birdland:detector", "birdland")
    stored = read_parquet(embedded.workspace.path("detections.parquet"))
    assert detections.equals(stored)
    ranking = despur.rank(embedded, detections, min_count=5)
    assert ranking.table.select(COLUMNS).equals(read_ranking(embedded.workspace).table.select(COLUMNS))
    few = despur.detect(embedded, "column", split="val")
    assert despur.rank(embedded, few).images == len(embedded.dataset.split("val"))


@pytest.mark.parametrize(
    ("chosen", "kind", "said"),
    [
        ({"detector": "owl-vit"}, SettingsError, "did you mean 'owlvit'"),
        ({"detector": "birdland:eye"}, ModelError, "birdland:detector"),
        ({"detector": "birdlnd:detector"}, SettingsError, "did you mean 'birdland:detector'"),
        ({"detector": "columns"}, SettingsError, "did you mean 'column'"),
        ({"vocabulary": ("birdlnd",)}, SettingsError, "did you mean 'birdland'"),
        ({"vocabulary": ("visual-genom:x",)}, SettingsError, "visual-genome"),
        ({"vocabulary": ("file:nowhere.txt",)}, DataError, "nowhere.txt"),
        ({"split": "tset"}, SettingsError, "did you mean 'test'"),
    ],
)
def test_what_cannot_be_searched_is_told(
    embedded: Embedded, chosen: dict[str, object], kind: type[DespurError], said: str
) -> None:
    settings = SearchSettings.model_validate({"detector": "birdland:detector", **chosen})
    with pytest.raises(kind, match=said):
        detect_stage(embedded, settings)
    assert embedded.workspace.record("detect") is None


def test_overlapping_attributes_are_one_row_and_the_sides_stand_apart(embedded: Embedded) -> None:
    detect_stage(embedded, COLUMN)
    dataset, ids = embedded.dataset, np.array(embedded.dataset.ids)
    water = ids[dataset.present("water")]
    # "lake" is seen exactly where "water" is.
    detections = pa.table({"id": [*water, *water], "phrase": ["water"] * len(water) + ["lake"] * len(water)})
    ranking = despur.rank(embedded, detections, min_count=1)
    helps, hurts = shown_rows(ranking)
    assert len(helps) + len(hurts) == 2
    assert all((row["attribute"], row["same"]) == ("lake", ["water"]) for row in helps + hurts)
    assert all(row["discrepancy"] >= 0 for row in helps)
    assert all(row["discrepancy"] < 0 for row in hurts)
    assert discrepancy_table(helps + hurts, title="all").row_count == 2
