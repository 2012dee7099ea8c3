"""Whatever the disk or the system does to a run, the next one ends with the bytes of an undisturbed one.

Workspaces are small, faults are real: the process is ended by the signal itself, at the call that is about to write.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from despur.errors import DespurError, WorkspaceError

Study = Callable[[Path], None]
Contents = Callable[[Path], dict[str, str]]
Ended = Callable[[Callable[[], None]], int]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied, to be killed without a new start")

FEW = 6
"""Places at which the quick tests strike; the slow ones strike at all."""


TEXTS = "features/texts.safetensors"
"""Kept so that no text is encoded twice: damaged, it is not read, and filled when a text is next asked for."""


def results(contents: dict[str, str]) -> dict[str, str]:
    """Without what is only kept to save time."""
    return {place: digest for place, digest in contents.items() if place != TEXTS}


def places(count: int, few: int) -> list[int]:
    """Places evenly spread over all writes, the first and the last among them."""
    return sorted({round(step * (count - 1) / (few - 1)) for step in range(few)})


def struck(disk: Any, study: Study, root: Path, place: int, by: signal.Signals) -> Callable[[], None]:
    """The study, ended by a signal at one of its writes."""

    def befalls(number: int) -> None:
        if number == place:
            os.kill(os.getpid(), by)
            time.sleep(60)  # the signal comes while it sleeps

    def work() -> None:
        with disk(befalls, root):
            study(root)

    return work


def check_killed(
    chosen: list[int],
    by: signal.Signals,
    study: Study,
    disk: Any,
    ended_by: Ended,
    whole: dict[str, str],
    contents: Contents,
    folder: Path,
) -> None:
    for place in chosen:
        root = folder / f"killed at {place}"
        assert ended_by(struck(disk, study, root, place, by)) == by
        study(root)
        assert contents(root) == whole, f"killed at write {place}"
        assert not list(root.rglob("*.partial*"))
        shutil.rmtree(root)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_some_of_its_writes_a_run_goes_on_to_the_same_bytes(
    by: signal.Signals,
    study: Study,
    disk: Any,
    ended_by: Ended,
    count_of_writes: int,
    undisturbed: Path,
    contents: Contents,
    tmp_path: Path,
) -> None:
    check_killed(places(count_of_writes, FEW), by, study, disk, ended_by, contents(undisturbed), contents, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_of_its_writes_a_run_goes_on_to_the_same_bytes(
    study: Study,
    disk: Any,
    ended_by: Ended,
    count_of_writes: int,
    undisturbed: Path,
    contents: Contents,
    tmp_path: Path,
) -> None:
    every = list(range(count_of_writes))
    check_killed(every, signal.SIGKILL, study, disk, ended_by, contents(undisturbed), contents, tmp_path)


def check_refused(
    chosen: list[int], number: int, study: Study, disk: Any, whole: dict[str, str], contents: Contents, folder: Path
) -> None:
    """From one write on, the disk refuses all of them; a sentence says so, and with room the run goes on."""
    for place in chosen:
        root = folder / f"refused at {place}"

        def befalls(call: int, place: int = place) -> None:
            if call >= place:
                raise OSError(number, os.strerror(number))

        with disk(befalls, root), pytest.raises(DespurError, match=f"(?i){os.strerror(number)}"):
            study(root)
        study(root)
        assert contents(root) == whole, f"refused at write {place}"
        shutil.rmtree(root)


def test_a_disk_that_is_full_is_told_in_a_sentence_and_with_room_the_run_goes_on(
    study: Study, disk: Any, count_of_writes: int, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    check_refused(places(count_of_writes, FEW), errno.ENOSPC, study, disk, contents(undisturbed), contents, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_any_write_is_told_in_a_sentence(
    number: int, study: Study, disk: Any, count_of_writes: int, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    check_refused(list(range(count_of_writes)), number, study, disk, contents(undisturbed), contents, tmp_path)


def test_a_finished_workspace_on_a_read_only_disk_is_told_in_a_sentence_and_stays_as_it_is(
    study: Study, disk: Any, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(undisturbed, tmp_path / "work"))

    def befalls(number: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with disk(befalls, root), pytest.raises(WorkspaceError, match="read-only file system"):
        study(root)
    assert contents(root) == contents(undisturbed)


def test_a_file_that_cannot_be_read_is_told_or_computed_again(
    study: Study, disk: Any, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(undisturbed, tmp_path / "work"))
    with disk(lambda number: None, root, writes=False) as counted:
        study(root)
    assert counted.count > 10
    for place in range(counted.count):

        def befalls(number: int, place: int = place) -> None:
            if number == place:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        try:
            with disk(befalls, root, writes=False):
                study(root)
        except DespurError:
            study(root)
        assert results(contents(root)) == results(contents(undisturbed)), f"unreadable at {place}"


def test_an_image_that_cannot_be_read_for_now_stops_the_run_and_the_next_ends_with_the_same_bytes(
    study: Study, disk: Any, birds: Path, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    with disk(lambda number: None, birds, writes=False) as counted:
        study(tmp_path / "counted")
    assert counted.count > 10
    for place in places(counted.count, FEW):
        root = tmp_path / f"unreadable at {place}"

        def befalls(number: int, place: int = place) -> None:
            if number == place:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with disk(befalls, birds, writes=False), pytest.raises(DespurError, match="it cannot be read now"):
            study(root)
        study(root)
        assert contents(root) == contents(undisturbed), f"unreadable at {place}"


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_torn_file_anywhere_is_computed_again(
    cut: int, study: Study, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    for place in results(contents(undisturbed)):
        root = Path(shutil.copytree(undisturbed, tmp_path / "work"))
        file = root / place
        file.write_bytes(file.read_bytes()[:cut])
        study(root)
        assert results(contents(root)) == results(contents(undisturbed)), place
        shutil.rmtree(root)


def test_a_flipped_bit_anywhere_is_computed_again(
    study: Study, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    draw = random.Random(0)
    for place in results(contents(undisturbed)):
        root = Path(shutil.copytree(undisturbed, tmp_path / "work"))
        file = root / place
        content = bytearray(file.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
        study(root)
        assert results(contents(root)) == results(contents(undisturbed)), place
        shutil.rmtree(root)


def test_two_processes_on_one_workspace_end_with_the_bytes_of_one(
    study: Study, ended_by: Ended, undisturbed: Path, contents: Contents, tmp_path: Path
) -> None:
    root = tmp_path / "work"
    ends: list[int] = []
    both = [threading.Thread(target=lambda: ends.append(ended_by(lambda: study(root)))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert ends == [0, 0]
    assert contents(root) == contents(undisturbed)


def test_a_clock_that_goes_back_a_year_changes_nothing(
    study: Study,
    disk: Any,
    ended_by: Ended,
    count_of_writes: int,
    undisturbed: Path,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "work"
    assert ended_by(struck(disk, study, root, count_of_writes // 2, signal.SIGKILL)) == signal.SIGKILL
    real, year = time.time, 365 * 86400
    for file in root.rglob("*"):
        os.utime(file, (real() + year, real() + year))
    monkeypatch.setattr(time, "time", lambda: real() - year)
    kept = {file: file.stat().st_mtime_ns for file in root.rglob("shard-*.npy")}
    study(root)
    assert kept
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert contents(root) == contents(undisturbed)
