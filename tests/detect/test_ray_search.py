"""Ray's actors search: the bytes of one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from despur.birdland.detector_model import DETECTED, load_small_detector
from despur.data.examples import Dataset
from despur.data.waterbirds import load_waterbirds
from despur.detect import DetectSettings, Vocabulary, detect_to_table
from despur.detect.ray_search import ray_search
from despur.detect.searching import SearchEngine, search_here
from despur.errors import ModelError, SettingsError
from despur.features.ray_actors import RaySettings

SMALL = DetectSettings(batch_size=4, shard_rows=12)
WORDS = Vocabulary(tuple(sorted(DETECTED)))

Search = Callable[[str, SearchEngine], Path]


@pytest.fixture
def dataset(own_birds: Path) -> Dataset:
    """Scenes of birdland, one of them torn."""
    dataset = load_waterbirds(own_birds)
    dataset.image_paths()[17].write_bytes(b"torn")
    return dataset


@pytest.fixture
def searched(dataset: Dataset, tmp_path: Path) -> Search:
    def run(name: str, engine: SearchEngine) -> Path:
        path = tmp_path / name / "detections.parquet"
        path.parent.mkdir()
        found = detect_to_table(dataset, load_small_detector(), WORDS, path, SMALL, engine=engine)
        assert [name for name, _, _ in found.quarantined] == [dataset.ids[17]]
        return path

    return run


def test_without_ray_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(SettingsError, match=r"pip install 'despur\[scale\]'"):
        ray_search(load_small_detector)


@pytest.mark.slow
def test_two_actors_write_the_bytes_of_one_process(searched: Search) -> None:
    alone = searched("alone", search_here)
    many = searched("many", ray_search(partial(load_small_detector), RaySettings(actors=2)))
    assert many.read_bytes() == alone.read_bytes()


@pytest.mark.slow
def test_an_actor_that_would_see_other_things_stops_the_search(searched: Search) -> None:
    other = partial(load_small_detector, threshold=0.9)
    with pytest.raises(ModelError, match="other weights"):
        searched("other", ray_search(other))
