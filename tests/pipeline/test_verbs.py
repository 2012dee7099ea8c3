"""The Python face: the same results as over a workspace, and nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import despur
from despur.backbones.protocol import Backbone
from despur.data.waterbirds import load_waterbirds
from despur.pipeline.embedded import Embedded
from despur.workspace import read_json


def test_verbs_in_memory_agree_with_the_stages(birds: Path, backbone: Backbone, finished: Embedded) -> None:
    embedded = despur.embed(load_waterbirds(birds), backbone)
    before = despur.evaluate(embedded)
    stored = read_json(finished.workspace.path("runs", "pretrained", "metrics.json"))["accuracy"]
    # The store keeps float16: an image on the edge between two classes may fall to either side.
    assert before.average == pytest.approx(stored["average"], abs=0.02)
    (run,) = despur.mitigate(embedded, "erm", epochs=2, batch_size=16, learning_rate=0.1)
    assert run.history.num_rows == 3
    after = despur.evaluate(embedded, run, split="val")
    kept = run.history["worst_group"][run.best_epoch].as_py()
    assert after.worst_group == pytest.approx(kept, abs=1e-6)


def test_explain_gives_a_number_for_every_image_with_a_mask(birds: Path, backbone: Backbone) -> None:
    dataset = load_waterbirds(birds)
    few = dataset.rows(np.arange(0, len(dataset), 3))
    embedded = despur.embed(few, backbone)
    runs = despur.mitigate(embedded, "pretrained")
    aiou = despur.explain(embedded, runs, split="val")["pretrained"]
    assert aiou.shape == (len(few.split("val")),)
    assert ((aiou >= 0) & (aiou <= 1)).all()


def test_a_report_in_memory_holds_the_numbers_of_the_verbs(birds: Path, backbone: Backbone, tmp_path: Path) -> None:
    embedded = despur.embed(load_waterbirds(birds), backbone)
    runs = despur.mitigate(embedded, "erm", seeds=(0, 1), epochs=2, batch_size=16, learning_rate=0.1)
    half = {"pretrained": np.full(len(embedded.dataset.split("test")), 0.25)}
    page = despur.report(embedded, runs, tmp_path / "new" / "page.html", aiou=half, title="Mine")
    assert page == tmp_path / "new" / "page.html"
    text = page.read_text(encoding="utf-8")
    assert "<title>Mine</title>" in text
    worst = [despur.evaluate(embedded, run).worst_group for run in runs]
    for rate in (despur.evaluate(embedded).worst_group, sum(worst) / 2, 0.25):
        assert f"{100 * rate:.1f}" in text
    assert 'src="http' not in text


def test_a_report_of_no_run_is_of_the_model_as_it_came(birds: Path, backbone: Backbone, tmp_path: Path) -> None:
    embedded = despur.embed(load_waterbirds(birds), backbone)
    text = despur.report(embedded, [], tmp_path / "page.html", split="val").read_text(encoding="utf-8")
    assert f"{100 * despur.evaluate(embedded, split='val').worst_group:.1f}" in text
    assert "ERM" not in text


def test_every_listed_name_can_be_had() -> None:
    for name in despur.__all__:
        assert getattr(despur, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="despair"):
        _ = despur.despair
