"""Ray's actors: the bytes of the plain loop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from despur.catalog import load_backbone
from despur.data.examples import Dataset, make_dataset
from despur.errors import ModelError, SettingsError
from despur.features import ray_actors
from despur.features.engine import EmbedSettings, loop
from despur.features.engines import choose_engine
from despur.features.ray_actors import Plan, RaySettings, Work
from despur.features.ray_engine import ray_engine
from despur.features.store import embed_to_store

MODEL = partial(load_backbone, "birdland:resnet")
SMALL = EmbedSettings(batch_size=4, shard_rows=12, workers=1)


@pytest.fixture
def birds(tmp_path: Path) -> Callable[[int], Dataset]:
    """Noise, and one file that is no image."""

    def draw(count: int) -> Dataset:
        folder = tmp_path / "photographs"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / "7.png").write_bytes(b"no image")
        columns: dict[str, Any] = {
            "id": [f"bird {number}" for number in range(count)],
            "image": [f"{number}.png" for number in range(count)],
            "label": [0] * count,
            "split": ["train"] * count,
        }
        return make_dataset("birds", folder, ["bird"], [], columns)

    return draw


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_ray_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(SettingsError, match=r"pip install 'despur\[scale\]'"):
        ray_engine(MODEL)


@pytest.mark.slow
def test_two_actors_write_the_bytes_of_the_loop(birds: Callable[[int], Dataset], tmp_path: Path) -> None:
    dataset, backbone = birds(200), MODEL()
    engine = ray_engine(MODEL, RaySettings(actors=2))
    alone = embed_to_store(dataset, backbone, tmp_path / "loop", state="s", settings=SMALL, engine=loop)
    many = embed_to_store(dataset, backbone, tmp_path / "ray", state="s", settings=SMALL, engine=engine)
    assert contents(many.folder) == contents(alone.folder)
    assert [name for name, _, _ in many.unreadable] == ["bird 7"]


@pytest.mark.slow
def test_an_actor_with_other_weights_stops_the_work(birds: Callable[[int], Dataset], tmp_path: Path) -> None:
    other = partial(load_backbone, "birdland:vit")
    with pytest.raises(ModelError, match="other weights"):
        embed_to_store(
            birds(12), MODEL(), tmp_path / "ray", state="s", settings=SMALL, engine=ray_engine(other, RaySettings())
        )
    assert not (tmp_path / "ray" / "index.json").exists()


def breaking() -> Work:
    def work(plan: Plan) -> bytes:
        raise RuntimeError("no kernel image is available\nand much more")

    return work


def deadly() -> Work:
    def work(plan: Plan) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    return work


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (breaking, r"an actor broke off \(RuntimeError: no kernel image is available\)"),
        (deadly, r"no actor could finish \(Actor"),
    ],
)
def test_what_breaks_every_actor_is_told_in_a_sentence_and_not_tried_for_ever(
    make: Callable[[], Work], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setattr(ray_actors, "RESTARTS", 1)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test's module
    try:
        with pytest.raises(ModelError, match=rf"ray: {told}.*; mend that") as problem:
            list(ray_actors.answers([{"paths": []}], make, RaySettings()))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert len(str(problem.value).splitlines()) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_settings_of_ray_are_refused_by_the_plain_loop() -> None:
    with pytest.raises(SettingsError, match="--engine ray"):
        choose_engine("loop", MODEL, RaySettings(actors=2))


def test_an_unknown_engine_is_told_its_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'loop'"):
        choose_engine("lop", MODEL, RaySettings())
