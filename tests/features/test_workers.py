"""Decoding in worker processes: the same as in threads, and what happens when one is killed."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from despur.features import decode, workers
from despur.features.encode import cut, encode_images
from despur.features.workers import processes_can_decode

Photographs = Callable[[int], list[Path]]

pytestmark = pytest.mark.skipif(not processes_can_decode(), reason="workers are forked on Linux only")


@pytest.fixture(autouse=True)
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "FEW", 0)


def children() -> set[int]:
    return {int(task) for file in Path("/proc/self/task").glob("*/children") for task in file.read_text().split()}


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def deadly(colour: Any, red: int, deed: Callable[[], None]) -> Any:
    """A backbone whose preprocessing does the deed to its process when it meets that red."""
    backbone = colour()
    preprocess = backbone.preprocess

    def meeting(image: Image.Image) -> torch.Tensor:
        if image.getpixel((0, 0))[0] == red:
            deed()
        return preprocess(image)

    backbone.preprocess = meeting
    return backbone


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (4, 3), (100, 2)])
def test_processes_give_what_threads_give(
    colour: Any, photographs: Photographs, monkeypatch: pytest.MonkeyPatch, batch_size: int, workers: int
) -> None:
    paths = photographs(20)
    paths[4].write_bytes(b"")
    for row in (8, 9, 10, 11):
        paths[row].write_text("a text file")
    found = []
    for few in (0, 1000):
        monkeypatch.setattr(decode, "FEW", few)
        found.append(list(encode_images(paths, colour(), batch_size=batch_size, workers=workers, block=8)))
    for processes, threads in zip(*found, strict=True):
        assert processes.rows == threads.rows
        assert processes.unreadable == threads.unreadable
        assert torch.equal(processes.features, threads.features)


def test_a_batch_that_is_kept_is_not_written_over(colour: Any, photographs: Photographs) -> None:
    paths = photographs(30)
    batches = list(decode.decode_images(paths, colour(), cut(30, 4), workers=2))
    assert [round(255 * float(pixel[0, 0, 0])) for batch in batches for pixel in batch.pixels] == list(range(30))


def test_the_image_that_kills_its_workers_is_named_and_the_others_are_encoded(
    colour: Any, photographs: Photographs, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        batches = list(encode_images(photographs(20), deadly(colour, 13, kill), batch_size=8, workers=2))
    assert [row for batch in batches for row in batch.rows] == [row for row in range(20) if row != 13]
    assert [entry for batch in batches for entry in batch.unreadable] == [
        (13, "the worker that decodes it is killed (SIGKILL)")
    ]
    reds = torch.cat([batch.features for batch in batches])[:, 0] * 255
    assert reds.round().int().tolist() == [row for row in range(20) if row != 13]
    assert [record.message.endswith("(SIGKILL) while it read " + str(record.args[2])) for record in caplog.records] == [
        True,
        True,
    ]


def test_an_image_whose_worker_was_killed_once_is_encoded_all_the_same(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    def once() -> None:
        if not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            kill()

    batches = list(encode_images(photographs(12), deadly(colour, 5, once), batch_size=4, workers=2))
    assert [row for batch in batches for row in batch.rows] == list(range(12))
    assert not any(batch.unreadable for batch in batches)
    assert (tmp_path / "killed").exists()


def test_workers_killed_from_outside_at_any_moment_lose_nothing(
    colour: Any, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chance may hit the same image twice, for which it would be given up.
    monkeypatch.setattr(workers, "TRIES", 100)
    before = children()
    killed = 0
    rows: list[int] = []
    reds: list[int] = []
    for batch in encode_images(photographs(120), colour(), batch_size=4, workers=2):
        rows += batch.rows
        reds += (batch.features[:, 0] * 255).round().int().tolist()
        if batch.rows[0] % 16 == 0:
            for worker in children() - before:
                os.kill(worker, signal.SIGKILL)
                killed += 1
    assert killed >= 8
    assert rows == reds == list(range(120))


def test_an_error_that_is_no_images_fault_is_raised_here(colour: Any, photographs: Photographs) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(encode_images(photographs(6), deadly(colour, 3, fail), batch_size=2, workers=2))


def test_an_image_whose_workers_fail_by_what_passes_is_not_given_up(colour: Any, photographs: Photographs) -> None:
    mine = os.getpid()

    def fail() -> None:
        if os.getpid() != mine:
            raise ConnectionResetError("the store hung up")

    batches = list(encode_images(photographs(12), deadly(colour, 5, fail), batch_size=4, workers=2))
    assert [row for batch in batches for row in batch.rows] == list(range(12))
    reds = torch.cat([batch.features for batch in batches])[:, 0] * 255
    assert reds.round().int().tolist() == list(range(12))


def test_workers_end_with_a_parent_that_is_killed(colour: Any, photographs: Photographs) -> None:
    paths = photographs(200)
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        before = children()
        batches = iter(decode.decode_images(paths, colour(), cut(200, 2), workers=2))
        next(batches)
        os.write(writer, " ".join(map(str, children() - before)).encode())
        time.sleep(60)
        os._exit(0)
    workers = [int(word) for word in os.read(reader, 1000).split()]
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
