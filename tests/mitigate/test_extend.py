"""The page on adding one's own does what it says: its method, loss, detector and dataset."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import despur
from despur.backbones.heads import class_logits, embed_images
from despur.data.load import KINDS
from despur.detect.load import DETECTORS, load_detector
from despur.mitigate import Method, TrainSettings, find_method, objective, train
from despur.mitigate import methods as all_methods
from despur.mitigate.study import Study
from despur.mitigate.tuning import search_space

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


@pytest.fixture
def shown(tmp_path: Path) -> Callable[[str], Any]:
    """What the page's block under a heading defines."""

    def find(heading: str) -> dict[str, Any]:
        section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
        (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        assert len(block.splitlines()) <= 30
        (tmp_path / "own.py").write_text(block, encoding="utf-8")
        return runpy.run_path(str(tmp_path / "own.py"))

    return find


@pytest.fixture
def method(shown: Callable[[str], Any]) -> Method:
    return shown("A method")["GCE"]


def test_the_page_s_method_trains_stacks_and_is_searched(study: Study, method: Method) -> None:
    several = [TrainSettings(learning_rate=1e-2, epochs=2, batch_size=16, options={"q": q}) for q in (0.3, 1.0)]
    stacked = train(study, method, several)
    (alone,) = train(study, method, several[1])
    for name, head in alone.heads.items():
        torch.testing.assert_close(stacked[1].heads[name], head, rtol=0, atol=1e-10)
    assert search_space(method, several[0]).keys() == {"learning_rate", "weight_decay", "options.q"}


def test_with_q_at_1_the_page_s_loss_is_one_minus_the_probability(study: Study, method: Method) -> None:
    settings = TrainSettings(learning_rate=1e-12, epochs=1, batch_size=64, options={"q": 1.0})
    (run,) = train(study, method, settings)
    shares = class_logits(study.heads, study.train.features, study.class_prompts).softmax(-1)
    own = shares[torch.arange(64), study.train.labels]
    assert run.history["loss"].to_pylist()[1] == pytest.approx(float((1 - own).mean()), abs=1e-8)


def test_a_line_makes_the_page_s_term_a_loss_of_its_own(
    study: Study, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = {**objective.TERMS, "uniformity": shown("A loss term")["uniformity"]}
    monkeypatch.setattr(objective, "TERMS", terms)
    monkeypatch.setattr(all_methods, "TERMS", terms)
    settings = TrainSettings(learning_rate=1e-12, epochs=1, batch_size=64, weights={"uniformity": 0.5})
    (run,) = train(study, find_method("clip+uniformity"), settings)
    images = embed_images(study.heads, study.train.features)
    squared = (images[:, None] - images).square().sum(-1)
    expected = float((-2 * squared).exp().mean().log())
    assert run.history["loss/uniformity"].to_pylist()[1] == pytest.approx(expected, abs=1e-8)


def test_a_line_makes_the_page_s_detector_one_of_the_command_line(
    shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS, "colours", shown("A detector")["Colours"])
    detector = load_detector("colours", threshold=0.5)
    queries = detector.encode(["blue", "cat", "red"])
    assert (queries.phrases, [removal.phrase for removal in queries.removed]) == (("blue", "red"), ["cat"])
    seen = detector.detect([Image.new("RGB", (4, 4), name) for name in ("red", "gray", "blue")], queries)
    assert list(zip(seen.image, seen.phrase, strict=True)) == [(0, 1), (2, 0)]
    assert detector.fingerprint() != load_detector("colours", threshold=0.6).fingerprint()


def test_a_line_makes_the_page_s_dataset_one_that_loads(
    shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(KINDS, "lines", shown("A dataset")["load_lines"])
    rows = [
        {"image": "a.jpg", "class": "waterbird", "split": "train", "water": True},
        {"image": "b.jpg", "class": "landbird", "split": "test", "water": False},
    ]
    (tmp_path / "birds.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    dataset = despur.load_dataset(f"lines:{tmp_path / 'birds.jsonl'}")
    assert dataset.classes == ("landbird", "waterbird")
    assert dataset.image_paths() == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert np.array_equal(dataset.groups("water"), [3, 0])


def test_the_page_s_callback_says_where_the_worst_group_is(
    study: Study, shown: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(learning_rate=1e-2, epochs=2, batch_size=16)
    (run,) = train(study, find_method("erm"), settings, seeds=[4], callbacks=[shown("A look at training")["Say"]()])
    *epochs, last = capsys.readouterr().out.splitlines()
    worst = run.history["worst_group"].to_pylist()
    assert epochs == [f"erm, seed 4, epoch {epoch}: worst group {value:.1%}" for epoch, value in enumerate(worst)]
    assert last == f"erm, seed 4: epoch {run.best_epoch} is kept"
