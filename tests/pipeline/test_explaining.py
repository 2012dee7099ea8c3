"""The stage explain: what lies in the workspace after it, strips that say how they were chosen, and the figures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from despur.backbones.protocol import Backbone
from despur.birdland.models import as_backbone, new_small
from despur.data.examples import to_arrow
from despur.detect.protocol import Detections, Queries
from despur.detect.schema import SCHEMA
from despur.errors import ModelError, SettingsError, WorkspaceError
from despur.explain.measure import ON_OBJECT
from despur.pipeline import ExplainSettings, detecting, evaluate_stage, explain_stage, explaining
from despur.pipeline.detecting import SearchSettings
from despur.pipeline.embedded import Embedded
from despur.pipeline.figures import write_figures
from despur.pipeline.repairing import verify
from despur.pipeline.reporting import report_stage
from despur.pipeline.strips import CHOICES, choose, how_chosen
from despur.review.events import Action, now
from despur.review.store import VERDICTS, VerdictStore
from despur.workspace import Workspace, read_json, read_parquet, write_parquet

TINY = ExplainSettings(images=8, strips=1, checks=2, batch_size=8)


@pytest.fixture
def own(own_work: Path, backbone: Backbone) -> Embedded:
    return Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)


def test_metrics_hold_every_measure_and_the_checks_of_the_compared_runs(finished: Embedded):
    metrics = read_json(finished.workspace.path("runs", "pretrained", "metrics.json"))
    found = metrics["explanations"]
    assert {"iou", "energy", "pointing", "checks"} == found.keys()
    table = read_parquet(finished.workspace.path("explanations.parquet"))
    for measure in ON_OBJECT:
        column = "pretrained" if measure == "aiou" else f"pretrained/{measure}"
        values = table[column].to_numpy()
        expected = (metrics["aiou"] if measure == "aiou" else found[measure])["average"]
        assert expected == pytest.approx(np.nanmean(values))
    assert set(found["checks"]) == {"deletion", "deletion_random", "insertion", "insertion_random", "agreement"}


def test_maps_are_checked_a_few_images_at_once_and_a_bar_shows_it(own: Embedded, monkeypatch: pytest.MonkeyPatch):
    checked: list[int] = []

    def noting(*arguments: Any, **choices: Any) -> dict[str, torch.Tensor]:
        checked.append(len(arguments[3]))
        return {"deletion": arguments[3].mean((1, 2, 3))}

    bars: dict[str, int] = {}

    def showing(steps: Iterable[Any], *, total: int, label: str, unit: str = "steps", each: int = 1) -> Iterator[Any]:
        bars[label] = total
        yield from steps

    monkeypatch.setattr(explaining, "check_maps", noting)
    own.progress = showing
    explain_stage(own, TINY.model_copy(update={"checks": 5, "batch_size": 22}))
    assert checked == [2, 2, 2, 2, 1, 1], "two images fill a batch of 22 pictures, under each of the two compared runs"
    assert bars["checking maps"] == 5
    assert bars["comparing maps"] == 4
    assert bars["drawing strips"] == 4
    found = read_json(own.workspace.path("checks.json"))
    rows = np.sort(np.random.default_rng(0).permutation(len(own.dataset.split("test")))[:5])
    paths = own.dataset.split("test").rows(rows).image_paths()
    pixels = torch.stack([own.backbone.preprocess(Image.open(path).convert("RGB")) for path in paths])
    assert found["images"] == 5
    assert found["runs"]["pretrained"]["deletion"] == pytest.approx(float(pixels.mean()), abs=1e-5)


def test_strips_show_every_group_and_say_how_each_was_chosen(finished: Embedded):
    content = read_json(finished.workspace.path("strips", "strips.json"))
    groups = [entry["group"] for entry in content["strips"]]
    assert list(dict.fromkeys(groups)) == [
        "landbird on land",
        "landbird on water",
        "waterbird on land",
        "waterbird on water",
    ]
    assert {entry["chosen"] for entry in content["strips"]} <= set(CHOICES)
    assert "at random (seed 0)" in content["chosen"]
    for entry in content["strips"]:
        assert entry["panels"][0]["caption"] == "photograph"
        for panel in entry["panels"]:
            assert Image.open(finished.workspace.path("strips", panel["file"])).size == (96, 96)


def test_images_are_chosen_by_their_change_in_turns_and_none_twice():
    change = np.array([0.1, 0.9, 0.5, 0.3])
    chosen = choose(change, 4, np.random.default_rng(0))
    assert [how for _, how in chosen] == ["at random", "largest change", "smallest change", "at random"]
    first = chosen[0][0]
    assert chosen[1][0] == next(image for image in (1, 2) if image != first)
    assert chosen[2][0] == next(image for image in (0, 3) if image != first)
    assert sorted(image for image, _ in chosen) == [0, 1, 2, 3]
    assert len(choose(change, 9, np.random.default_rng(0))) == 4


def test_the_words_name_only_the_ways_that_were_used():
    assert how_chosen({"at random"}, 3) == "at random (seed 3)"
    assert how_chosen(set(CHOICES), 3) == (
        "at random (seed 3), where the map changed most and where it changed least, as each says "
        "(change is compared over at most 24 images of a group, drawn at random)"
    )


def test_without_a_second_model_all_images_are_random():
    assert {how for _, how in choose(np.full(3, np.nan), 3, np.random.default_rng(0))} == {"at random"}


def test_where_no_map_changed_more_than_another_none_is_said_to_have_changed_most():
    assert {how for _, how in choose(np.zeros(3), 3, np.random.default_rng(0))} == {"at random"}


def test_a_picture_that_is_gone_or_damaged_is_found_told_and_drawn_again(own: Embedded, tmp_path: Path):
    explain_stage(own, TINY)
    evaluate_stage(own)
    pictures = sorted(own.workspace.path("strips").glob("*.png"))
    drawn = [picture.read_bytes() for picture in pictures]
    pictures[0].unlink()
    pictures[1].write_bytes(drawn[1][:-20])
    assert {damage.file for damage in verify(own.workspace)} == {f"strips/{picture.name}" for picture in pictures[:2]}
    with pytest.raises(WorkspaceError, match="despur explain"):
        report_stage([own], tmp_path / "report.html")
    assert explain_stage(own, TINY)
    assert [picture.read_bytes() for picture in pictures] == drawn
    assert not explain_stage(own, TINY)


def test_fewer_strips_leave_no_pictures_of_earlier_ones(own: Embedded):
    assert own.workspace.path("strips", "05-photograph.png").exists()
    explain_stage(own, TINY.model_copy(update={"strips": 0}))
    assert [file.name for file in own.workspace.path("strips").iterdir()] == ["strips.json"]


def test_the_report_names_the_split_that_its_strips_are_of(own: Embedded, tmp_path: Path):
    evaluate_stage(own, "val")
    report_stage([own], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Explanation maps of the labelled class, over images of split “test”" in page


def test_another_map_method_lies_beside_the_papers_and_leaves_its_numbers(own: Embedded):
    before = own.workspace.path("explanations.parquet").read_bytes()
    explain_stage(own, TINY.model_copy(update={"method": "rollout"}))
    evaluate_stage(own)
    table = read_parquet(own.workspace.path("explanations-rollout.parquet"))
    values = table["pretrained"].to_numpy()
    assert values[~np.isnan(values)] == pytest.approx(0.5), "rollout shows every class the same map"
    assert own.workspace.path("strips-rollout", "strips.json").exists()
    assert own.workspace.path("explanations.parquet").read_bytes() == before


def test_detections_with_boxes_add_where_the_model_looks_instead(own: Embedded):
    rows = [
        {"id": image, "phrase": "water", "score": 0.5, "x0": 0.0, "y0": 0.0, "x1": 400.0, "y1": 40.0}
        for image in own.dataset.split("test").ids
    ]
    write_parquet(own.workspace.path("detections.parquet"), pa.Table.from_pylist(rows, schema=SCHEMA))
    assert explain_stage(own, TINY), "detections are an input of the stage"
    evaluate_stage(own)
    groups = read_json(own.workspace.path("runs", "pretrained", "metrics.json"))["explanations"]["elsewhere"]
    assert sum(group["n"] for group in groups) == 8
    for group in groups:
        assert 0 < group["attribute_area"] < 1
        assert 0 <= group["on_attribute"] <= 1 - group["on_object"] + 1e-6


class SeesEverything:
    """Sees whatever it is asked for, in the same place of every image."""

    spec = "everything"

    def fingerprint(self) -> str:
        return self.spec

    def encode(self, phrases: Sequence[str]) -> Queries[None]:
        return Queries(tuple(phrases), (), None)

    def detect(self, images: Sequence[Image.Image], queries: Queries[None]) -> Detections:
        image, phrase = np.indices((len(images), len(queries.phrases))).reshape(2, -1)
        places = {"water": [0, 50, 96, 96], "landbird": [20, 10, 60, 50], "waterbird": [20, 10, 60, 50]}
        box = np.array([places[queries.phrases[index]] for index in phrase], dtype=np.float32)
        return Detections(image, phrase, np.full(len(image), 0.5, dtype=np.float32), box, {})


@pytest.fixture
def searched(own: Embedded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Embedded:
    """Images of which the dataset does not say where the object is, searched for water alone."""
    monkeypatch.setattr(detecting, "_load_detector", lambda *_, **__: SeesEverything())
    (tmp_path / "words.txt").write_text("water\n")
    bare = [None] * len(own.dataset)
    columns = {name: own.dataset.table[name] for name in own.dataset.table.column_names} | {"box": bare, "mask": bare}
    table = pa.table(columns, schema=own.dataset.table.schema)
    write_parquet(own.workspace.path("examples.parquet"), to_arrow(replace(own.dataset, table=table)))
    found = Embedded(own.workspace, own.device, own.backbone)
    detecting.detect_stage(found, SearchSettings(vocabulary=(f"file:{tmp_path / 'words.txt'}",)))
    return found


def elsewhere(embedded: Embedded) -> list[dict[str, Any]]:
    explain_stage(embedded, TINY)
    evaluate_stage(embedded)
    return (read_json(embedded.workspace.path("runs", "pretrained", "metrics.json"))["explanations"] or {})["elsewhere"]


def test_without_any_ground_truth_the_detector_says_where_the_object_is(searched: Embedded):
    groups = elsewhere(searched)
    assert sum(group["n"] for group in groups) == 8
    for group in groups:
        assert group["object_area"] == pytest.approx((40 / 96) ** 2, abs=0.01)
        assert group["attribute_area"] == pytest.approx(46 / 96, abs=0.01)
    seen = read_parquet(searched.workspace.path("objects.parquet"))
    assert len(set(seen["id"].to_pylist())) == 8, "the images that are explained, and no others"
    assert "water" not in seen["phrase"].to_pylist()
    searched.workspace.path("objects.parquet").unlink()
    assert explain_stage(searched, TINY)
    assert not explain_stage(searched, TINY)


def test_what_people_struck_out_has_no_place_in_the_maps(searched: Embedded):
    whole = elsewhere(searched)
    images = read_parquet(searched.workspace.path("objects.parquet"))["id"].to_pylist()
    labels = dict(zip(searched.dataset.ids, searched.dataset.labels.tolist(), strict=True))
    store = VerdictStore(searched.workspace.path(VERDICTS))
    struck = {"kind": "strike", "who": "ann", "at": now(), "attribute": "water", "image": images[0], "struck": True}
    store.add(Action.model_validate({**struck, "class_name": searched.dataset.classes[labels[images[0]]]}))
    store.close()
    assert sum(group["n"] for group in whole) - 1 == sum(group["n"] for group in elsewhere(searched))


def test_an_unknown_map_method_and_one_that_a_resnet_cannot_have_are_refused(own: Embedded):
    with pytest.raises(SettingsError, match="did you mean 'rollout'"):
        explain_stage(own, ExplainSettings(method="rolout"))
    resnet = Embedded(own.workspace, own.device, as_backbone(new_small("resnet", seed=0)))
    with pytest.raises(ModelError, match="--method gradcam"):
        explain_stage(resnet, ExplainSettings(method="relevance"))


def test_without_the_model_as_it_came_maps_and_figures_are_refused_in_a_sentence(own: Embedded):
    shutil.rmtree(own.workspace.path("runs", "pretrained"))
    with pytest.raises(WorkspaceError, match=r"pretrained: the run of the model as it came.*mitigate.*pretrained"):
        explain_stage(own, TINY)
    with pytest.raises(WorkspaceError, match="mitigate"):
        write_figures(own)
    assert not own.workspace.path("figures").exists()


def test_both_figures_are_written_as_png_and_svg(own: Embedded):
    files = write_figures(own, contour=True)
    assert [file.name for file in files] == ["shortcuts.png", "shortcuts.svg", "methods.png", "methods.svg"]
    assert Image.open(files[2]).width > 500
    words = " ".join(" ".join(ElementTree.parse(files[3]).getroot().itertext()).split())
    for wanted in ("photograph", "landbird on water", "waterbird on land", "at random (seed 0)", "says"):
        assert wanted in words


def test_a_seed_that_nothing_can_be_drawn_by_is_refused_for_figures(own: Embedded):
    with pytest.raises(SettingsError, match="seed"):
        write_figures(own, seed=-1)
