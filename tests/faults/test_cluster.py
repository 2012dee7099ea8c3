"""Two simulated nodes, one of which is lost, and actors that are killed: the bytes of one process, whatever happens."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from despur.backbones.protocol import Backbone
from despur.birdland.detector_model import DETECTED, load_small_detector
from despur.birdland.write import write_birds
from despur.catalog import load_backbone
from despur.data.examples import Dataset
from despur.data.waterbirds import load_waterbirds
from despur.detect import DetectSettings, Vocabulary, detect_to_table
from despur.detect.ray_search import ray_search
from despur.detect.searching import SearchEngine, search_here
from despur.features.engine import EmbedSettings, Engine, loop
from despur.features.ray_actors import RaySettings
from despur.features.ray_engine import ray_engine
from despur.features.store import embed_to_store

WORDS = Vocabulary(tuple(sorted(DETECTED)))
TWO = RaySettings(actors=2)
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}

Sizes = tuple[int, int]
"""Images a batch, and a shard."""


def embedded(dataset: Dataset, folder: Path, sizes: Sizes, engine: Engine = loop) -> dict[str, bytes]:
    """Every file of a store, by name."""
    settings = EmbedSettings(batch_size=sizes[0], shard_rows=sizes[1], workers=1)
    store = embed_to_store(dataset, backbone(), folder, state="s", settings=settings, engine=engine)
    assert len(store) == len(dataset)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def detected(dataset: Dataset, folder: Path, sizes: Sizes, engine: SearchEngine = search_here) -> bytes:
    """``detections.parquet``."""
    folder.mkdir()
    settings = DetectSettings(batch_size=sizes[0], shard_rows=sizes[1])
    detect_to_table(dataset, load_small_detector(), WORDS, folder / "detections.parquet", settings, engine=engine)
    return (folder / "detections.parquet").read_bytes()


def backbone() -> Backbone:
    return load_backbone("birdland:vit")


def noted(load: Callable[[], Any], register: Path) -> Any:
    """What ``load`` loads, once this process has entered itself in a register of those that did."""
    (register / str(os.getpid())).touch()
    return load()


def dying(load: Callable[[], Any], work: str, register: Path) -> Any:
    """A model whose process is killed in the second batch, if it is the first in the register."""
    model, calls = noted(load, register), []
    inner = getattr(model, work)

    def deadly(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2 and not (register / "killed").exists():
            (register / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*given)

    setattr(model, work, deadly)
    return model


@contextmanager
def two_nodes() -> Generator[Callable[[], None]]:
    """A cluster of two nodes with a processor each, joined; yields what kills one and adds another."""
    import ray
    from ray.cluster_utils import Cluster

    # Workers cannot import a test's module.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        second = cluster.add_node(**NODE)
        ray.init(address=cluster.address, log_to_driver=False)

        def replace() -> None:
            cluster.remove_node(second, allow_graceful=False)
            cluster.add_node(**NODE)

        yield replace
    finally:
        ray.shutdown()
        cluster.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def after(engine: Callable[..., Iterator[Any]], shards: int, happens: Callable[[], None]) -> Callable[..., Any]:
    """The engine, to whose shards something happens after so many of them."""

    def disturbed(*given: Any) -> Iterator[Any]:
        for number, shard in enumerate(engine(*given)):
            if number == shards:
                happens()
            yield shard

    return disturbed


def check_a_node_lost(
    work: Callable[..., Any],
    engine: Callable[..., Any],
    load: Callable[[], Any],
    dataset: Dataset,
    sizes: Sizes,
    at: Path,
) -> None:
    """One process's bytes, with a node killed half-way and another one added."""
    register = at / "loaded"
    register.mkdir()
    alone = work(dataset, at / "alone", sizes)
    half = len(dataset) // sizes[1] // 2
    with two_nodes() as replace:
        inner = engine(partial(noted, load, register), TWO)
        assert work(dataset, at / "cluster", sizes, after(inner, half, replace)) == alone
    # Two nodes' actors, and the one that took the lost one's place: else nothing was lost.
    assert len(list(register.iterdir())) >= 3


def check_a_worker_killed(
    work: Callable[..., Any],
    engine: Callable[..., Any],
    load: Callable[[], Any],
    deadly: str,
    dataset: Dataset,
    sizes: Sizes,
    at: Path,
) -> None:
    """One process's bytes, with an actor killed in the middle of a shard."""
    import ray

    register = at / "loaded"
    register.mkdir()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    alone = work(dataset, at / "alone", sizes)
    try:
        assert work(dataset, at / "ray", sizes, engine(partial(dying, load, deadly, register), TWO)) == alone
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert (register / "killed").exists()


@pytest.fixture(scope="session")
def many_birds(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A little over 2,000 scenes."""
    folder = tmp_path_factory.mktemp("world") / "many"
    write_birds(folder, scale=0.17, workers=1)
    dataset = load_waterbirds(folder)
    assert len(dataset) >= 2000
    return dataset


def test_detections_survive_a_killed_worker(birds: Path, tmp_path: Path) -> None:
    check_a_worker_killed(
        detected, ray_search, load_small_detector, "detect", load_waterbirds(birds), (4, 12), tmp_path
    )


@pytest.mark.slow
def test_features_survive_a_killed_worker(many_birds: Dataset, tmp_path: Path) -> None:
    check_a_worker_killed(embedded, ray_engine, backbone, "image_features", many_birds, (10, 50), tmp_path)


@pytest.mark.slow
def test_features_of_2000_images_survive_a_lost_node(many_birds: Dataset, tmp_path: Path) -> None:
    check_a_node_lost(embedded, ray_engine, backbone, many_birds, (10, 50), tmp_path)


@pytest.mark.slow
def test_detections_in_2000_images_survive_a_lost_node(many_birds: Dataset, tmp_path: Path) -> None:
    check_a_node_lost(detected, ray_search, load_small_detector, many_birds, (10, 50), tmp_path)
