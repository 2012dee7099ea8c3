"""Images that lie in an object store: read as those in a folder, and a store that fails is no damaged image."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Generator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from despur.backbones.protocol import Backbone
from despur.catalog import load_backbone, load_dataset
from despur.data import stores
from despur.data.images import UnreadableImage, fingerprint_image, read_image
from despur.data.stores import anywhere, is_stored, stored_root, url_of
from despur.errors import DataError
from despur.features.store import embed_to_store
from despur.pipeline import read_study

COUNT = 12


class HungUpError(Exception):
    """What packages of stores raise: aiohttp's and Google's errors are no OSError either."""


class FailingStore(MemoryFileSystem):
    """The same store, whose network is gone from its fifth image on."""

    protocol = "failing"
    error: Exception = ConnectionResetError("connection reset by peer")

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("failing://", "memory://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        if path.endswith("5.png"):
            raise self.error
        return super().cat_file(path, start, end, **kwargs)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve images of noise beside a table; the fourth is torn."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "4.png").write_bytes(b"torn")
    with (tmp_path / "examples.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "split"])
        rows.writerows(
            [f"images/{n}.png", ("cat", "dog")[n % 2], ("train", "val", "test")[n // 2 % 3]] for n in range(COUNT)
        )
    return tmp_path / "examples.csv"


@pytest.fixture
def bucket(table: Path) -> Generator[str]:
    """The images, in a bucket that only this process has."""
    store = fsspec.filesystem("memory")
    for file in (table.parent / "images").iterdir():
        store.pipe_file(f"/bucket/images/{file.name}", file.read_bytes())
    yield "memory://bucket"
    store.rm("/bucket", recursive=True)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("birdland:vit")


def features(spec: str, folder: Path, backbone: Backbone) -> dict[str, bytes]:
    embed_to_store(load_dataset(spec), backbone, folder, state="s")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_features_of_a_bucket_are_those_of_the_folder(
    table: Path, bucket: str, tmp_path: Path, backbone: Backbone
) -> None:
    local = features(f"table:{table}", tmp_path / "local", backbone)
    assert features(f"table:{table},images={bucket}", tmp_path / "stored", backbone) == local
    assert b"images/4.png" in local["index.json"]  # the torn one is told of in both


def test_a_file_address_leads_to_the_same_images(table: Path, tmp_path: Path, backbone: Backbone) -> None:
    local = features(f"table:{table}", tmp_path / "local", backbone)
    assert features(f"table:{table},images=file://{table.parent}", tmp_path / "stored", backbone) == local


def test_the_same_contents_have_the_same_fingerprint_wherever_they_lie(table: Path, bucket: str) -> None:
    stored = stored_root(bucket) / "images" / "3.png"
    assert fingerprint_image(stored) == fingerprint_image(table.parent / "images" / "3.png")
    assert fingerprint_image(stored.with_name("nothing.png")) == "unreadable"


def test_an_image_that_is_not_there_or_is_torn_says_so(bucket: str) -> None:
    images = stored_root(bucket) / "images"
    for name, reason in (("nothing.png", "there is no such file"), ("4.png", "its content is not an image")):
        with pytest.raises(UnreadableImage) as problem:
            read_image(images / name)
        assert problem.value.reason == reason


@pytest.mark.parametrize("kind", [ConnectionResetError, HungUpError, RuntimeError, KeyError])
def test_a_store_that_fails_stops_the_work_and_quarantines_nothing(
    table: Path,
    bucket: str,
    tmp_path: Path,
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    monkeypatch.setattr(FailingStore, "error", kind("connection reset by peer"))
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    with pytest.raises(DataError, match=r"the store cannot be read.*connection reset") as problem:
        features(f"table:{table},images=failing://bucket", tmp_path / "stored", backbone)
    assert not isinstance(problem.value, UnreadableImage)
    assert not (tmp_path / "stored" / "index.json").exists()


def test_a_store_that_nothing_reads_is_told_of_before_any_image_is(table: Path) -> None:
    with pytest.raises(DataError, match="nowhere:// cannot be reached from here"):
        load_dataset(f"table:{table},images=nowhere://bucket")
    with pytest.raises(DataError, match="no address of a store"):
        load_dataset(f"table:{table},images=bucket")
    with pytest.raises(DataError, match=r"reference:// cannot be reached from here \(.*fo.*\)"):
        load_dataset(f"table:{table},images=reference://bucket")


def test_the_server_that_an_address_names_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def connect(self: FTPFileSystem) -> None:
        self.ftp = io.BytesIO()  # it is closed in the end
        asked.append(f"{self.host}:{self.port}")

    monkeypatch.setattr(FTPFileSystem, "_connect", connect)
    stored_root("ftp://archive.example:2121/birds")
    assert asked == ["archive.example:2121"]


def test_a_bucket_without_the_images_is_told_of(table: Path, bucket: str) -> None:
    with pytest.raises(DataError, match="none of the images that it lists exists"):
        load_dataset(f"table:{table},images={bucket}/elsewhere")


@pytest.mark.parametrize("url", ["s3://bucket/some folder", "gs://bucket", "file:///tmp/x", "memory:///x/y"])
def test_an_address_survives_being_a_path(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_filesystem", lambda path: None)
    path = stored_root(url)
    assert is_stored(path)
    assert url_of(path) == url
    assert url_of(Path(anywhere(path / "1.png"))) == f"{url}/1.png"
    assert stored_root(str(path)) == path


@pytest.mark.parametrize("path", ["/tmp/x.png", "x.png", "a:b/x.png", "images/s3:/x.png"])
def test_other_paths_lead_into_no_store(path: str) -> None:
    assert not is_stored(Path(path))


def test_paths_inside_a_store_cannot_climb_out(table: Path, bucket: str) -> None:
    shutil.copy(table, table.with_name("climbing.csv"))
    with table.with_name("climbing.csv").open("a") as file:
        file.write("../other/1.png,cat,train\n")
    with pytest.raises(DataError, match="leads out of the dataset's folder"):
        load_dataset(f"table:{table.with_name('climbing.csv')},images={bucket}")


def plant(*names: str) -> None:
    store = fsspec.filesystem("memory")
    for name in names:
        store.pipe_file(f"/pets/{name}", b"")


@pytest.fixture
def pets() -> Generator[str]:
    yield "memory://pets"
    store = fsspec.filesystem("memory")
    if store.exists("/pets"):
        store.rm("/pets", recursive=True)


@pytest.mark.parametrize(
    "names",
    [
        [f"{kind}/deep/{number}.jpg" for kind in ("cat", "dog") for number in range(10)],
        [f"{split}/{kind}/{n}.jpg" for split in ("train", "val", "test") for kind in ("cat", "dog") for n in range(2)],
    ],
)
def test_class_folders_in_a_bucket_are_read_as_those_on_disk(pets: str, tmp_path: Path, names: list[str]) -> None:
    names = [*names, "cat/.hidden.jpg", ".trash/cat/1.jpg", "notes.txt", "loose.jpg"]
    plant(*names)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    stored, local = load_dataset(f"folder:{pets}", seed=3), load_dataset(f"folder:{tmp_path}", seed=3)
    assert stored.classes == local.classes == ("cat", "dog")
    rows = [sorted(map(str, dataset.table.to_pylist())) for dataset in (stored, local)]
    assert rows[0] == rows[1]
    assert all(is_stored(path) for path in stored.image_paths())


def test_a_bucket_that_holds_no_class_folders_says_so(pets: str) -> None:
    plant("1.jpg", "2.jpg")
    with pytest.raises(DataError, match="it holds 0 class folders"):
        load_dataset(f"folder:{pets}")
    with pytest.raises(DataError, match=r"folder:memory:///nowhere.*0 class folders"):
        load_dataset("folder:memory://nowhere")


def test_a_study_file_leaves_an_address_as_it_is(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("dataset: 'folder:s3://bucket/pets'\nmodels: birdland:vit\nworkspace: work\n")
    assert read_study(study).dataset == "folder:s3://bucket/pets"
