"""Shards kept in an object store beside those of the workspace, so that they outlive the machine that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from despur.data.stores import exists, fetch_file, send_file, stored_root
from despur.workspace import write_whole

Found = TypeVar("Found")


@dataclass(frozen=True)
class ShardMirror:
    """A folder of a store in which shards lie by their state, so that workspaces of all kinds may share one.

    A shard is the files that make it up, its note last: one whose note is there is whole. Whoever fetches one still
    holds it against the checksum in its note, as every shard that is found on disk.

    Attributes:
        root: as :func:`~despur.data.stores.stored_root` gives it.
    """

    root: Path

    def found(self, files: Sequence[Path], state: str, look: Callable[[], Found]) -> Found:
        """What is on disk of a shard, which is fetched if only the store has it, and sent if only the disk has.

        Args:
            files: where a run writes the shard, its note last.
            look: what is on disk of it; nothing that is true where it is not there, or not whole.

        Raises:
            DataError: the store cannot be reached.
            WorkspaceError: the folder cannot be written.
        """
        here = look()
        if here:
            if not self._holds(files, state):
                self.send(files, state)
            return here
        if not self._holds(files, state):
            return here
        for file in files:
            with write_whole(file) as temporary:
                fetch_file(self._place(file, state), temporary)
        return look()

    def send(self, files: Sequence[Path], state: str) -> None:
        """Send a shard that was computed, over a damaged one if that is what the store held.

        Raises:
            DataError: the store cannot be written.
        """
        for file in files:
            send_file(file, self._place(file, state))

    def _holds(self, files: Sequence[Path], state: str) -> bool:
        """Whether all of a shard is in the store, from which somebody may have deleted a part."""
        return all(exists(self._place(file, state)) for file in reversed(files))

    def _place(self, file: Path, state: str) -> Path:
        return self.root / state / file.name


def named_mirror(url: str | None) -> ShardMirror | None:
    """The mirror at an address; None where none is given.

    Raises:
        DataError: it is no address, or this machine cannot use such a store.
    """
    return None if url is None else ShardMirror(stored_root(url))
