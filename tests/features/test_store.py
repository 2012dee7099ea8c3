"""The feature store: never stale, never torn, and the same bytes whatever happened on the way."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL.PngImagePlugin import PngImageFile

from despur.data.examples import Dataset, make_dataset
from despur.data.images import NO_MEMORY
from despur.errors import DataError, ModelError, WorkspaceError
from despur.features.engine import ComputedShard, EmbedSettings, loop
from despur.features.store import FeatureStore, begun_batch_size, embed_to_store
from despur.workspace import write_whole

Photographs = Callable[[int], list[Path]]


def as_dataset(paths: list[Path]) -> Dataset:
    columns: dict[str, Any] = {
        "id": [f"bird {path.stem}" for path in paths],
        "image": [path.name for path in paths],
        "label": [0] * len(paths),
        "split": ["train"] * len(paths),
    }
    return make_dataset("birds", paths[0].parent, ["bird"], [], columns)


def build(folder: Path, backbone: Any, paths: list[Path], *, state: str = "first", **options: Any) -> FeatureStore:
    settings = EmbedSettings(**{"batch_size": 3, "shard_rows": 4, "dtype": "float32", **options})
    return embed_to_store(as_dataset(paths), backbone, folder, state=state, settings=settings)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def reds(store: FeatureStore) -> list[float]:
    """The number of each photograph, from its mean red."""
    return (store.rows(np.arange(len(store))).float()[:, 0] * 255).round(decimals=1).tolist()


def test_a_store_gives_back_what_the_encoder_gave(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    store = build(tmp_path / "f", colour(), photographs(10))
    assert reds(store) == list(range(10))
    assert store.ids == [f"bird {number}" for number in range(10)]
    assert [len(shard.ids) for shard in store.shards] == [4, 4, 2]


def test_rows_come_in_the_order_asked_for_and_in_batches(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    store = build(tmp_path / "f", colour(), photographs(10))
    chosen = store.rows(np.array([9, 0, 5, 5]))
    torch.testing.assert_close(chosen[:, 0] * 255, torch.tensor([9.0, 0, 5, 5]))
    spans, parts = zip(*store.batches(6), strict=True)
    assert spans == (range(6), range(6, 10))
    assert torch.equal(torch.cat(parts), store.rows(np.arange(10)))


def test_half_precision_keeps_eleven_bits(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    features = build(tmp_path / "f", colour(), photographs(10), dtype="float16").rows(np.arange(10))
    assert features.dtype == torch.float16
    torch.testing.assert_close(features[:, 0].float(), torch.arange(10.0) / 255, rtol=2.0**-11, atol=0)


def test_features_that_half_precision_cannot_hold_are_refused(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="too large for float16"):
        build(tmp_path / "f", colour(gain=1e6), photographs(2), dtype="float16")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_features_that_are_no_numbers_are_refused(
    colour: Any, photographs: Photographs, tmp_path: Path, dtype: str
) -> None:
    with pytest.raises(ModelError, match="colour: a feature is not a finite number; check the model's weights"):
        build(tmp_path / "f", colour(gain=float("nan")), photographs(2), dtype=dtype)


@pytest.mark.parametrize("lost", [[1, 4, 5, 6, 7], [0, 1, 2, 3, 9], [8, 9]])
def test_unreadable_images_have_no_row_and_are_listed(
    colour: Any, photographs: Photographs, tmp_path: Path, lost: list[int]
) -> None:
    paths = photographs(10)
    for number in lost:
        paths[number].write_bytes(b"")
    store = build(tmp_path / "f", colour(), paths)
    assert reds(store) == [number for number in range(10) if number not in lost]
    assert store.unreadable == [(f"bird {n}", f"{n}.png", "it is empty (zero bytes)") for n in lost]


def test_an_image_that_goes_while_the_work_is_on_stops_it_and_one_that_was_gone_before_is_quarantined(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    paths = photographs(10)
    dataset, settings = as_dataset(paths), EmbedSettings(batch_size=3, shard_rows=4, dtype="float32")

    def embed(backbone: Any, absent: set[int]) -> FeatureStore:
        return embed_to_store(dataset, backbone, tmp_path / "f", state="s", settings=settings, absent=absent)

    kept = paths[6].read_bytes()
    paths[6].unlink()
    with pytest.raises(DataError, match=r"6\.png: it was read when the work began, and now there is no such file"):
        embed(colour(), set())
    assert not (tmp_path / "f" / "shard-00001.json").exists()
    assert len(embed(colour(), {6})) == 9
    paths[6].write_bytes(kept)
    again = colour()
    assert reds(embed(again, set())) == list(range(10))  # as under a state that was found when it was there
    assert sum(again.batches) == 4


def test_an_engine_is_ended_when_the_work_stops(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    ended: list[str] = []
    paths = photographs(10)
    paths[0].unlink()

    def engine(*given: Any) -> Iterator[ComputedShard]:
        try:
            yield from loop(*given)
        finally:
            ended.append("ended")

    with pytest.raises(DataError) as problem:  # whose traceback holds on to what was suspended
        embed_to_store(as_dataset(paths), colour(), tmp_path / "f", state="s", absent=set(), engine=engine)
    assert ended == ["ended"]
    assert problem.traceback


def test_an_image_that_memory_did_not_suffice_for_is_asked_again(
    colour: Any, photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(10)

    def short(image: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(PngImageFile, "load", short)
        assert len(build(tmp_path / "f", colour(), paths)) == 0
        again = colour()
        assert build(tmp_path / "f", again, paths).unreadable[3] == ("bird 3", "3.png", NO_MEMORY)
        assert again.batches == []
    assert reds(build(tmp_path / "f", colour(), paths)) == list(range(10))


def test_a_current_store_is_not_computed_again(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    paths = photographs(10)
    build(tmp_path / "f", colour(), paths)
    before, again = contents(tmp_path / "f"), colour()
    build(tmp_path / "f", again, paths)
    assert again.batches == []
    assert contents(tmp_path / "f") == before


def test_another_state_computes_everything_again(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    paths = photographs(10)
    build(tmp_path / "f", colour(), paths)
    again = colour(gain=2.0)
    store = build(tmp_path / "f", again, paths, state="second")
    assert sum(again.batches) == 10
    assert reds(store)[9] == 18


@pytest.mark.parametrize("change", [{"dtype": "float16"}, {"shard_rows": 5}, {"batch_size": 2}])
def test_another_precision_batch_or_shard_size_computes_everything_again(
    colour: Any, photographs: Photographs, tmp_path: Path, change: dict[str, Any]
) -> None:
    paths = photographs(10)
    build(tmp_path / "f", colour(), paths)
    again = colour()
    build(tmp_path / "f", again, paths, **change)
    assert sum(again.batches) == 10
    build(tmp_path / "anew", colour(), paths, **change)
    assert contents(tmp_path / "f") == contents(tmp_path / "anew")


def test_a_run_that_goes_on_with_another_batch_size_says_so_and_ends_with_the_bytes_of_that_size(
    colour: Any, photographs: Photographs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = photographs(10)
    build(tmp_path / "f", colour(), paths)
    (tmp_path / "f" / "shard-00002.json").unlink()  # as if it was killed while it computed the last shard
    assert not caplog.records
    build(tmp_path / "f", colour(), paths, batch_size=2)
    (record,) = caplog.records
    assert "computed with batch size 3 (2 of them) are computed again with 2" in record.message
    build(tmp_path / "anew", colour(), paths, batch_size=2)
    assert contents(tmp_path / "f") == contents(tmp_path / "anew")


def test_the_batch_size_of_what_is_there_is_known_where_nothing_else_is_another(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    build(tmp_path / "f", colour(), photographs(10))
    (tmp_path / "f" / "shard-sorted.json").write_text("{}")
    (tmp_path / "f" / "shard-00000.json").write_text("torn")
    settings = EmbedSettings(batch_size=64, shard_rows=4, dtype="float32")
    assert begun_batch_size(tmp_path / "f", "first", settings) == 3
    assert begun_batch_size(tmp_path / "f", "second", settings) is None
    assert begun_batch_size(tmp_path / "f", "first", settings.model_copy(update={"dtype": "float16"})) is None
    assert begun_batch_size(tmp_path / "nothing", "first", settings) is None


def test_renamed_examples_keep_their_features_and_take_their_new_names(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    paths = photographs(10)
    paths[7].write_bytes(b"")
    build(tmp_path / "f", colour(), paths)
    moved = [path.rename(path.with_name(f"{number + 100}.png")) for number, path in enumerate(paths)]
    again = colour()
    store = build(tmp_path / "f", again, moved)
    assert again.batches == []
    assert store.ids == [f"bird {number + 100}" for number in range(10) if number != 7]
    assert store.unreadable == [("bird 107", "107.png", "it is empty (zero bytes)")]


def test_a_store_of_more_shards_than_a_process_may_open_files_is_read(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    build(tmp_path / "f", colour(), photographs(250), shard_rows=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        assert reds(FeatureStore(tmp_path / "f")) == list(range(250))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_smaller_dataset_leaves_no_shards_behind(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    paths = photographs(10)
    build(tmp_path / "f", colour(), paths)
    (tmp_path / "f" / ".shard-00002.1234abcd.partial.npy").write_bytes(b"half")
    build(tmp_path / "f", colour(), paths[:3], state="second")
    assert sorted(contents(tmp_path / "f")) == ["index.json", "shard-00000.json", "shard-00000.npy"]


@pytest.mark.parametrize("damage", ["torn", "altered", "gone", "note", "index"])
def test_a_damaged_store_is_mended(colour: Any, photographs: Photographs, tmp_path: Path, damage: str) -> None:
    paths, folder = photographs(10), tmp_path / "f"
    assert build(folder, colour(), paths).damaged() == []
    whole, path = contents(folder), folder / "shard-00001.npy"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "altered":
        path.write_bytes(path.read_bytes()[:-5] + b"\0" * 5)
    elif damage == "gone":
        path.unlink()
    elif damage == "note":
        path.with_suffix(".json").write_text("{}")
    else:
        (folder / "index.json").write_text("{")
    again = colour()
    build(folder, again, paths)
    assert sum(again.batches) == (0 if damage == "index" else 4)
    assert contents(folder) == whole


def test_an_altered_shard_is_told_from_a_whole_one(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    store = build(tmp_path / "f", colour(), photographs(10))
    altered, gone = (tmp_path / "f" / f"shard-0000{number}.npy" for number in (1, 2))
    altered.write_bytes(altered.read_bytes()[:-5] + b"\0" * 5)
    assert FeatureStore(tmp_path / "f").damaged() == [altered]
    gone.unlink()
    assert store.damaged() == [altered, gone]


def test_reading_a_torn_or_unfinished_store_is_an_error(colour: Any, photographs: Photographs, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="does not exist"):
        FeatureStore(tmp_path)
    build(tmp_path / "f", colour(), photographs(10))
    one, another = (tmp_path / "f" / f"shard-0000{number}.npy" for number in (1, 2))
    whole = one.read_bytes()
    one.write_bytes(b"torn")
    with pytest.raises(WorkspaceError, match=r"shard-00001\.npy: the shard is missing or damaged"):
        FeatureStore(tmp_path / "f")
    one.write_bytes(whole)
    another.write_bytes(whole)
    with pytest.raises(WorkspaceError, match=r"shard-00002\.npy: the shard does not hold the rows"):
        FeatureStore(tmp_path / "f")
    (tmp_path / "f" / "index.json").write_text("{}")
    with pytest.raises(WorkspaceError, match="does not describe a feature store"):
        FeatureStore(tmp_path / "f")


@pytest.mark.parametrize("stop_at", range(9))
def test_an_interrupted_run_goes_on_at_the_first_missing_shard_and_ends_with_the_same_bytes(
    colour: Any, photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """The store writes a shard, its note, the next shard, ..., the index: every file after ``stop_at`` fails."""
    paths = photographs(14)  # four shards, of 4, 3, 4 and 2 readable images
    paths[6].write_bytes(b"")
    build(tmp_path / "undisturbed", colour(), paths)
    written = 0

    def failing(path: Path) -> Any:
        nonlocal written
        written += 1
        if written > stop_at:
            raise KeyboardInterrupt
        return write_whole(path)

    with monkeypatch.context() as patch:
        patch.setattr("despur.features.store.write_whole", failing)
        patch.setattr("despur.workspace.files.write_whole", failing)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "f", colour(), paths)
    with pytest.raises(WorkspaceError):
        FeatureStore(tmp_path / "f")
    again = colour()
    build(tmp_path / "f", again, paths)
    assert contents(tmp_path / "f") == contents(tmp_path / "undisturbed")
    assert sum(again.batches) == sum([4, 3, 4, 2][stop_at // 2 :])


@pytest.mark.parametrize("stop_after", range(6))
def test_a_run_stopped_between_batches_goes_on_at_its_shard(
    colour: Any, photographs: Photographs, tmp_path: Path, stop_after: int
) -> None:
    """Ctrl-C lands in the progress display: six batches, of 3, 1, 3, 1, 3 and 1 images, two a shard."""
    paths = photographs(12)
    build(tmp_path / "undisturbed", colour(), paths)

    def stopping(steps: Iterable[Any], **_: object) -> Iterator[Any]:
        for number, step in enumerate(steps):
            if number == stop_after:
                raise KeyboardInterrupt
            yield step

    settings = EmbedSettings(batch_size=3, shard_rows=4, dtype="float32")
    with pytest.raises(KeyboardInterrupt):
        embed_to_store(
            as_dataset(paths), colour(), tmp_path / "f", state="first", settings=settings, progress=cast(Any, stopping)
        )
    again = colour()
    build(tmp_path / "f", again, paths)
    assert contents(tmp_path / "f") == contents(tmp_path / "undisturbed")
    assert again.batches == [3, 1] * (3 - stop_after // 2)


def test_a_killed_run_loses_at_most_one_shard_and_ends_with_the_same_bytes(
    colour: Any, photographs: Photographs, tmp_path: Path
) -> None:
    paths = photographs(40)  # ten shards
    build(tmp_path / "undisturbed", colour(), paths)
    process = multiprocessing.get_context("fork").Process(
        target=build, args=(tmp_path / "f", colour(pause=0.02), paths)
    )
    process.start()
    while not (tmp_path / "f" / "shard-00002.npy").exists() and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    finished = len(list((tmp_path / "f").glob("shard-*.npy")))
    again = colour()
    build(tmp_path / "f", again, paths)
    assert contents(tmp_path / "f") == contents(tmp_path / "undisturbed")
    assert sum(again.batches) <= 40 - 4 * (finished - 1)
