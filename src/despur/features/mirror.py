"""Shards kept in an object store beside those of the workspace, so that they outlive the machine that wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from despur.data.stores import exists, fetch_file, send_file, stored_root
from despur.workspace import write_whole


@dataclass(frozen=True)
class ShardMirror:
    """A folder of a store in which shards lie by their state, so that workspaces of all kinds may share one.

    A shard is the files that make it up, its note last: one whose note is there is whole. Whoever fetches one still
    holds it against the checksum in its note, as every shard that is found on disk.

    Attributes:
        root: as :func:`~despur.data.stores.stored_root` gives it.
    """

    root: Path

    def fetch(self, files: Sequence[Path], state: str) -> None:
        """Put a shard that the store holds where a run would have written it; one that it has not is left alone.

        Raises:
            DataError: the store cannot be read.
            WorkspaceError: the folder cannot be written.
        """
        if not exists(self._place(files[-1], state)):
            return
        for file in files:
            with write_whole(file) as temporary:
                fetch_file(self._place(file, state), temporary)

    def keep(self, files: Sequence[Path], state: str) -> None:
        """Send a shard that was found on disk, unless the store has it.

        Raises:
            DataError: the store cannot be reached.
        """
        if not exists(self._place(files[-1], state)):
            self.send(files, state)

    def send(self, files: Sequence[Path], state: str) -> None:
        """Send a shard that was computed, over a damaged one if that is what the store held.

        Raises:
            DataError: the store cannot be written.
        """
        for file in files:
            send_file(file, self._place(file, state))

    def _place(self, file: Path, state: str) -> Path:
        return self.root / state / file.name


def named_mirror(url: str | None) -> ShardMirror | None:
    """The mirror at an address; None where none is given.

    Raises:
        DataError: it is no address, or this machine cannot use such a store.
    """
    return None if url is None else ShardMirror(stored_root(url))
