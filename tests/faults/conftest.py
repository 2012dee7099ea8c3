"""A study of 16 images, and what can befall it: killed, torn, refused and disturbed at each of its writes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from despur.birdland.detector_model import load_small_detector
from despur.birdland.models import as_backbone, new_small
from despur.data.waterbirds import load_waterbirds
from despur.detect import DetectSettings
from despur.features.engine import EmbedSettings
from despur.pipeline import (
    MitigateSettings,
    ModelSettings,
    embed_stage,
    evaluate_stage,
    mitigate_stage,
    predict_stage,
)
from despur.pipeline.detecting import SearchSettings, detect_stage
from despur.pipeline.embedded import Embedded
from despur.workspace import Workspace

KINDS = (".parquet", ".npy", ".safetensors", ".png")
"""Results that are the same bytes each time; JSON holds how long things took."""

MODEL = ModelSettings(spec="birdland:vit", random_weights=True)
SEARCH = SearchSettings(detector="birdland:detector", vocabulary=("birdland",))
ERM = MitigateSettings(methods=("erm",), seeds=1, train={"epochs": 1, "batch_size": 8})

Study = Callable[[Path], None]


@pytest.fixture(scope="session")
def study(birds: Path) -> Study:
    """Runs every stage over two images of each group and split, in shards of eight, into a folder."""
    backbone = as_backbone(new_small("vit", seed=0))
    load_small_detector()  # read once: a round is to take a second
    everything = load_waterbirds(birds)
    keys = np.array(
        [
            f"{split} {group}"
            for split, group in zip(everything.table["split"].to_pylist(), everything.groups(None), strict=True)
        ]
    )
    rows = np.sort(np.concatenate([np.flatnonzero(keys == key)[:2] for key in np.unique(keys)]))
    dataset = everything.rows(rows)

    def run(root: Path) -> None:
        workspace = Workspace.create(root, dataset=f"waterbirds:{birds}", model=MODEL.spec)
        with workspace.lock():
            embed_stage(workspace, dataset, backbone, MODEL, settings=EmbedSettings(shard_rows=8, workers=1))
            embedded = Embedded(workspace, torch.device("cpu"), backbone)
            predict_stage(embedded)
            detect_stage(embedded, SEARCH, search=DetectSettings(shard_rows=8, workers=1))
            mitigate_stage(embedded, ERM)
            evaluate_stage(embedded)

    return run


@pytest.fixture(scope="session")
def undisturbed(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the study leaves when nothing befalls it; copy before changing."""
    root = tmp_path_factory.mktemp("undisturbed") / "work"
    study(root)
    return root


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, str]]:
    """Tells a digest of every result by its place, and of nothing that a stopped run may have left."""

    def told(root: Path) -> dict[str, str]:
        return {
            file.relative_to(root).as_posix(): hashlib.blake2b(file.read_bytes()).hexdigest()
            for file in sorted(root.rglob("*"))
            if file.suffix in KINDS
        }

    return told


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Disk:
    """Stands between the program and the system's calls that change what is on the disk, or read from it.

    Attributes:
        befalls: called with the number of a call before it is made; may raise, or end the process.
        writes: whether calls that write are counted; else those that open a file of the workspace for reading.
        root: only files below it count.
        count: calls so far.
    """

    befalls: Callable[[int], None]
    root: Path
    writes: bool = True
    count: int = 0
    _real: dict[tuple[Any, str], Any] = field(default_factory=dict)

    def _meets(self) -> None:
        number = self.count
        self.count += 1
        self.befalls(number)

    def _is_mine(self, file: object) -> bool:
        return isinstance(file, str | os.PathLike) and Path(os.fspath(file)).is_relative_to(self.root)

    def __enter__(self) -> Disk:
        def watched(holder: Any, name: str, counts: Callable[..., bool]) -> None:
            real = getattr(holder, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                if counts(*args, **kwargs):
                    self._meets()
                return real(*args, **kwargs)

            self._real[holder, name] = real
            setattr(holder, name, call)

        def opens(file: object, mode: str = "r", *_: Any, **__: Any) -> bool:
            return self._is_mine(file) and self.writes == (mode[0] in "wax" or "+" in mode)

        def opens_low(file: object, flags: int, *_: Any, **__: Any) -> bool:
            return self._is_mine(file) and self.writes and bool(flags & WRITES)

        watched(io, "open", opens)
        watched(os, "open", opens_low)
        if self.writes:
            watched(os, "fsync", lambda *_: True)
            watched(os, "replace", lambda file, *_: self._is_mine(file))
            watched(os, "mkdir", lambda file, *_, **__: self._is_mine(file))
        return self

    def __exit__(self, *_: object) -> None:
        for (holder, name), real in self._real.items():
            setattr(holder, name, real)


@pytest.fixture(scope="session")
def disk() -> type[Disk]:
    return Disk


@pytest.fixture(scope="session")
def ended_by() -> Callable[[Callable[[], None]], int]:
    """Runs something in a process of its own; returns the signal that ended it, 0 where it came to its end."""

    def run(work: Callable[[], None]) -> int:
        child = os.fork()
        if child == 0:
            try:
                work()
            except BaseException:  # noqa: BLE001 - whatever it is, this copy of the tests must not go on
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    return run


@pytest.fixture(scope="session")
def count_of_writes(study: Study, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls that write an undisturbed run makes."""
    root = tmp_path_factory.mktemp("counted") / "work"
    with Disk(lambda number: None, root) as counted:
        study(root)
    return counted.count
