"""Decoding in worker processes, which share the memory that pixels are written to.

A worker that the system kills, as it does where memory runs out or a decoder crashes, is known by the image that it had
in hand. That image is tried once more, and given up when a second worker dies of it; all others are decoded as ever.
"""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from despur.data.images import UnreadableImage, read_image

AHEAD = 2
"""Batches that are decoded ahead of the one in use."""

TRIES = 2
"""Workers that may die of one image before it is given up."""

ORPHANED_AFTER = 5.0
"""Seconds between a waiting worker's looks at whether the process that started it is still there."""

WAITING, DECODED = 0, 1

KILLED = "the worker that decodes it is killed"

Preprocess = Callable[[Image.Image], Tensor]

log = logging.getLogger(__name__)


def processes_can_decode() -> bool:
    """Whether workers can be forked here: they take the preprocessing along as it is, and start in milliseconds.

    macOS has libraries that do not live through a fork, Windows has none, and a daemon may have no children.
    """
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


@dataclass(frozen=True)
class Task:
    """Consecutive images of one batch, and the slot of shared memory that the first of them goes to."""

    batch: int
    rows: range
    slot: int


@dataclass(eq=False)
class Worker:
    """A process, the pipe to it, and what it was given and has not answered yet, oldest first."""

    process: BaseProcess
    pipe: Connection
    tasks: deque[Task] = field(default_factory=deque[Task])


class DecodingPool:
    """Worker processes that decode batches of photographs into a ring of shared memory."""

    def __init__(
        self, paths: Sequence[Path], preprocess: Preprocess, shape: tuple[int, int, int], batch_size: int, workers: int
    ) -> None:
        self.paths = paths
        self.preprocess = preprocess
        self.batch_size = batch_size
        slots = (AHEAD + 1) * batch_size
        self.pixels: Float[Tensor, "slots 3 height width"] = _shared(torch.float32, slots, *shape)
        self.states: UInt8[Tensor, "slots"] = _shared(torch.uint8, slots)
        self._unreadable: dict[int, dict[int, str]] = {}
        self._deaths: Counter[int] = Counter()
        self._workers: list[Worker] = []
        for _ in range(workers):
            self._workers.append(self._start())

    def submit(self, number: int, batch: range) -> None:
        """Begin with a batch; batch ``number - AHEAD - 1`` must be out of use."""
        first = number % (AHEAD + 1) * self.batch_size
        self.states[first : first + len(batch)] = WAITING
        self._unreadable[number] = {}
        size = max(1, -(-len(batch) // (2 * len(self._workers))))
        for start in range(0, len(batch), size):
            self._give(Task(number, batch[start : start + size], first + start))

    def collect(self, number: int, batch: range) -> tuple[Tensor, dict[int, str]]:
        """Wait for a batch: its pixels, those of unreadable images undefined, and why each of these is."""
        while any(task.batch == number for worker in self._workers for task in worker.tasks):
            busy = [worker for worker in self._workers if worker.tasks]
            wait([source for worker in busy for source in (worker.pipe, worker.process.sentinel)])
            for worker in busy:
                # Replacing one that is dead gives out work, on which another may be found dead and replaced as well.
                if worker in self._workers:
                    self._hear(worker)
        first = number % (AHEAD + 1) * self.batch_size
        return self.pixels[first : first + len(batch)], self._unreadable.pop(number)

    def decode(self, task: Task, place: int) -> str | None:
        """Put an image of a task where it belongs; why, if it cannot be read."""
        try:
            self.pixels[task.slot + place].copy_(self.preprocess(read_image(self.paths[task.rows[place]])))
        except UnreadableImage as problem:
            return problem.reason
        self.states[task.slot + place] = DECODED
        return None

    def close(self) -> None:
        """Stop all workers, whatever they are at."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
            worker.pipe.close()

    def _start(self) -> Worker:
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        others = [worker.pipe for worker in self._workers]
        process = context.Process(target=_work, args=(self, theirs, [mine, *others], os.getpid()), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, mine)

    def _give(self, task: Task) -> None:
        worker = min(self._workers, key=lambda worker: sum(len(task.rows) for task in worker.tasks))
        worker.tasks.append(task)
        try:
            worker.pipe.send(task)
        except OSError:
            self._bury(worker)  # it died while it had nothing to do, or has more to answer for

    def _hear(self, worker: Worker) -> None:
        """Take all answers that a worker has sent; replace it where it is dead."""
        try:
            while worker.tasks and worker.pipe.poll():
                reasons: dict[int, str] = worker.pipe.recv()
                task = worker.tasks.popleft()
                self._unreadable[task.batch].update(reasons)
        except (EOFError, OSError):
            self._bury(worker)
            return
        if worker.tasks and not worker.process.is_alive() and not worker.pipe.poll():
            self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """Replace a dead worker, and give out again what it left undone."""
        worker.process.join()
        status = worker.process.exitcode or 0
        pid = worker.process.pid
        worker.process.close()
        worker.pipe.close()
        self._workers.remove(worker)
        self._workers.append(self._start())
        left = [task for task in worker.tasks if not self._is_done(task)]
        if not left:
            return
        for task in left[1:]:
            self._give(task)
        for task in self._without_culprit(left[0], pid, status):
            self._give(task)

    def _is_done(self, task: Task) -> bool:
        return bool((self.states[task.slot : task.slot + len(task.rows)] == DECODED).all())

    def _without_culprit(self, task: Task, pid: int | None, status: int) -> Iterator[Task]:
        """What is left to do of the task that a worker died of, image by image."""
        left = [place for place in range(len(task.rows)) if self.states[task.slot + place] != DECODED]
        culprit = task.rows[left[0]]
        if status > 0:
            # Not killed but failed, which is no image's fault: it is decoded here, and failing again shows how.
            reason = self.decode(task, left[0])
            if reason is not None:
                self._unreadable[task.batch][culprit] = reason
            for place in left[1:]:
                yield Task(task.batch, task.rows[place : place + 1], task.slot + place)
            return
        self._deaths[culprit] += 1
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        log.warning("decoding worker %s was killed (%s) while it read %s", pid, how, self.paths[culprit])
        if self._deaths[culprit] >= TRIES:
            self._unreadable[task.batch][culprit] = f"{KILLED} ({how})"
            left = left[1:]
        for place in left:
            yield Task(task.batch, task.rows[place : place + 1], task.slot + place)


def _shared(dtype: torch.dtype, *shape: int) -> Tensor:
    """Zeros in memory that forked processes share, given back by the system when the last of them lets go."""
    count = torch.Size(shape).numel() * dtype.itemsize
    return torch.frombuffer(mmap.mmap(-1, max(count, 1)), dtype=dtype, count=torch.Size(shape).numel()).view(shape)


def _work(pool: DecodingPool, pipe: Connection, others: Sequence[Connection], parent: int) -> None:
    """A worker's life; it ends without what a program does at its end, which is the parent's to do."""
    status = 1
    try:
        # Ctrl-C reaches every process of a terminal; only the one that was started answers it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(1)
        for other in others:
            other.close()
        _serve(pool, pipe, parent)
        status = 0
    finally:
        os._exit(status)


def _serve(pool: DecodingPool, pipe: Connection, parent: int) -> None:
    while True:
        while not pipe.poll(ORPHANED_AFTER):
            if os.getppid() != parent:
                return
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        reasons: dict[int, str] = {}
        for place, row in enumerate(task.rows):
            reason = pool.decode(task, place)
            if reason is not None:
                reasons[row] = reason
        pipe.send(reasons)
