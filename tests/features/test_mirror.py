"""A mirror in an object store: another machine goes on from it, and what is damaged in it is never taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from despur.data.examples import Dataset, make_dataset
from despur.errors import DataError, WorkspaceError
from despur.features.engine import EmbedSettings, loop
from despur.features.mirror import ShardMirror, named_mirror
from despur.features.store import FeatureStore, embed_to_store

Photographs = Callable[[int], list[Path]]
SHARDS = 3  # of ten photographs, four a shard


class FullStore(MemoryFileSystem):
    """A store that takes nothing."""

    protocol = "full"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("full://", "memory://"))

    def put_file(self, *arguments: Any, **options: Any) -> None:
        raise PermissionError("the bucket is read-only")


@pytest.fixture(params=["memory", "file"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[ShardMirror]:
    """An empty store."""
    made = named_mirror("memory://mirror" if request.param == "memory" else f"file://{tmp_path}/deep/mirror")
    assert made is not None
    yield made
    store = fsspec.filesystem("memory")
    if store.exists("/mirror"):
        store.rm("/mirror", recursive=True)


def photographed(paths: list[Path]) -> Dataset:
    columns: dict[str, Any] = {
        "id": [path.stem for path in paths],
        "image": [path.name for path in paths],
        "label": [0] * len(paths),
        "split": ["train"] * len(paths),
    }
    return make_dataset("birds", paths[0].parent, ["bird"], [], columns)


class Machine:
    """Embeds ten photographs, and counts the images that it had to compute.

    Args:
        stop: it is gone after as many shards.
    """

    def __init__(self, backbone: Any, paths: list[Path], mirror: ShardMirror, stop: int = SHARDS) -> None:
        self.backbone, self.paths, self.mirror, self.stop, self.computed = backbone, paths, mirror, stop, 0

    def embed(self, folder: Path, *, state: str = "s") -> dict[str, bytes]:
        settings = EmbedSettings(batch_size=3, shard_rows=4, dtype="float32")
        embed_to_store(
            photographed(self.paths),
            self.backbone,
            folder,
            state=state,
            settings=settings,
            engine=self._engine,
            mirror=self.mirror,
        )
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    def _engine(self, paths: Any, sizes: Any, *rest: Any) -> Iterator[Any]:
        self.computed = len(paths)
        for number, shard in enumerate(loop(paths, sizes, *rest)):
            if number == self.stop:
                raise KeyboardInterrupt
            yield shard


def objects(mirror: ShardMirror) -> list[str]:
    """Everything in the store, without its address."""
    kind = mirror.root.parts[0][:-1]
    names = fsspec.filesystem(kind).find("/" + "/".join(mirror.root.parts[1:]))
    return sorted(name.rsplit("/", 1)[1] for name in names)


def test_another_machine_takes_what_the_first_had_sent_and_computes_the_rest(
    colour: Any, photographs: Photographs, tmp_path: Path, mirror: ShardMirror
) -> None:
    paths = photographs(10)
    with pytest.raises(KeyboardInterrupt):
        Machine(colour(), paths, mirror, stop=2).embed(tmp_path / "lost")
    assert objects(mirror) == [f"shard-0000{n}.{kind}" for n in (0, 1) for kind in ("json", "npy")]
    second = Machine(colour(), paths, mirror)
    undisturbed = Machine(colour(), paths, ShardMirror(mirror.root / "other")).embed(tmp_path / "undisturbed")
    assert second.embed(tmp_path / "second") == undisturbed
    assert second.computed == 2  # of the last shard
    third = Machine(colour(), paths, mirror)
    assert third.embed(tmp_path / "third") == undisturbed
    assert third.computed == 0


def test_a_shard_that_is_damaged_in_the_mirror_is_computed_and_mended_there(
    colour: Any, photographs: Photographs, tmp_path: Path, mirror: ShardMirror
) -> None:
    paths = photographs(10)
    whole = Machine(colour(), paths, mirror).embed(tmp_path / "first")
    file = fsspec.filesystem(mirror.root.parts[0][:-1])
    damaged = next(name for name in file.find("/" + "/".join(mirror.root.parts[1:])) if name.endswith("1.npy"))
    file.pipe_file(damaged, file.cat_file(damaged)[:-1] + b"?")
    second = Machine(colour(), paths, mirror)
    assert second.embed(tmp_path / "second") == whole
    assert second.computed == 4
    third = Machine(colour(), paths, mirror)
    assert third.embed(tmp_path / "third") == whole
    assert third.computed == 0


@pytest.mark.parametrize("kind", ["npy", "json"])
def test_a_shard_of_which_the_mirror_lost_a_file_is_computed_and_mended_there(
    colour: Any, photographs: Photographs, tmp_path: Path, mirror: ShardMirror, kind: str
) -> None:
    paths = photographs(10)
    whole = Machine(colour(), paths, mirror).embed(tmp_path / "first")
    store = fsspec.filesystem(mirror.root.parts[0][:-1])
    for name in store.find("/" + "/".join(mirror.root.parts[1:])):
        if name.endswith(f"shard-00001.{kind}"):
            store.rm(name)
    second = Machine(colour(), paths, mirror)
    assert second.embed(tmp_path / "second") == whole
    assert second.computed == 4
    third = Machine(colour(), paths, mirror)
    assert third.embed(tmp_path / "third") == whole
    assert third.computed == 0


def test_a_full_disk_here_is_not_laid_at_the_mirrors_door(
    colour: Any, photographs: Photographs, tmp_path: Path, mirror: ShardMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(colour(), photographs(10), mirror).embed(tmp_path / "first")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kind = fsspec.get_filesystem_class(mirror.root.parts[0][:-1])
    monkeypatch.setattr(kind, "get_file", full)
    with pytest.raises(WorkspaceError, match=r"it cannot be written \(no space left on device\); make room"):
        Machine(colour(), photographs(10), mirror).embed(tmp_path / "second")


def test_shards_that_were_there_before_the_mirror_are_sent_too(
    colour: Any, photographs: Photographs, tmp_path: Path, mirror: ShardMirror
) -> None:
    paths = photographs(10)
    Machine(colour(), paths, ShardMirror(mirror.root / "other")).embed(tmp_path / "first")
    first = Machine(colour(), paths, mirror)
    first.embed(tmp_path / "first")
    assert first.computed == 0
    second = Machine(colour(), paths, mirror)
    second.embed(tmp_path / "second")
    assert second.computed == 0


def test_what_another_model_wrote_is_not_taken(
    colour: Any, photographs: Photographs, tmp_path: Path, mirror: ShardMirror
) -> None:
    paths = photographs(10)
    Machine(colour(), paths, mirror).embed(tmp_path / "first")
    other = Machine(colour(), paths, mirror)
    other.embed(tmp_path / "second", state="of another model")
    assert other.computed == 10


def test_a_mirror_that_takes_nothing_says_so_and_the_shard_is_kept(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    fsspec.register_implementation("full", FullStore, clobber=True)
    mirror = named_mirror("full://bucket")
    assert mirror is not None
    with pytest.raises(DataError, match=r"the store cannot be written \(the bucket is read-only\)"):
        Machine(colour(), photographs(10), mirror).embed(tmp_path / "f")
    assert (tmp_path / "f" / "shard-00000.json").exists()
    with pytest.raises(WorkspaceError):
        FeatureStore(tmp_path / "f")


def test_no_mirror_is_none_and_a_folder_is_no_address() -> None:
    assert named_mirror(None) is None
    with pytest.raises(DataError, match="no address of a store"):
        named_mirror("some/folder")
