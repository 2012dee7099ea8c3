"""Draws chunks of scenes side by side.

The workers are Pythons of their own and no multiprocessing pool: a pool's workers begin by importing the script that
was started, so that two lines in a file without a ``__main__`` guard, or typed at a prompt, would draw nothing.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from despur.birdland.studies import ScenePlan
from despur.errors import DataError, DespurError
from despur.workspace import write_json

Row = dict[str, Any]
"""What a scene adds to the dataset's lists; ``files`` maps each file that it wrote to its size in bytes."""


@dataclass(frozen=True)
class Chunk:
    """Scenes that are drawn together.

    Attributes:
        folder: where their files go.
        note: what is written when all are there: each scene's row.
        plans: of the scenes.
        write_scene: draws one and writes its files.
    """

    folder: Path
    note: Path
    plans: Sequence[ScenePlan]
    write_scene: Callable[[Path, ScenePlan], Row]

    def draw(self) -> None:
        """Write every scene of the chunk, and then the note that says so."""
        write_json(self.note, [self.write_scene(self.folder, plan) for plan in self.plans])


def drawn(chunks: Sequence[Chunk], workers: int) -> Generator[None]:
    """Draw chunks and yield after each; closed early, the workers are stopped where they are.

    Raises:
        DataError: a worker was killed.
        WorkspaceError: a file cannot be written.
    """
    workers = min(workers, len(chunks)) if sys.executable else 1
    if workers <= 1:
        for chunk in chunks:
            chunk.draw()
            yield
        return
    processes = [_start(chunks[first::workers]) for first in range(workers)]
    try:
        for number, chunk in enumerate(chunks):
            problem = _answer(processes[number % workers], chunk.folder)
            if problem is not None:
                raise problem
            yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate()


def _start(chunks: Sequence[Chunk]) -> subprocess.Popen[bytes]:
    """A worker that draws these one after another."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", "from despur.birdland.drawing import draw_what_is_asked as draw; draw()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,  # Ctrl-C reaches every process of a terminal; the one that was started answers it
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:  # a worker that is gone already is told of in _answer
        pickle.dump(chunks, stdin)
    process.stdin = None
    return process


def _answer(process: subprocess.Popen[bytes], folder: Path) -> DespurError | None:
    """What a worker says of its next chunk."""
    assert process.stdout is not None
    try:
        return pickle.load(process.stdout)  # noqa: S301 - a pipe to a process of our own
    except (EOFError, pickle.UnpicklingError):
        return DataError(
            "a process that was drawing it was ended", where=folder, now="run the same command again; it goes on"
        )


def draw_what_is_asked() -> None:
    """A worker's whole life: chunks from stdin, and on stdout what went wrong with each, or None."""
    chunks: Sequence[Chunk] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    for chunk in chunks:
        problem: DespurError | None = None
        try:
            chunk.draw()
        except DespurError as error:
            problem = error
        pickle.dump(problem, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        if problem is not None:
            break
