"""``--engine ray`` and ``--memory`` on the command line: what is refused, and the bytes of one process in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

DETECT = ("--detector", "birdland:detector", "--vocabulary", "birdland")


@pytest.mark.parametrize("detector", ["column", "tagger"])
def test_actors_are_refused_where_no_image_is_looked_at(own_work: Path, despur, refused, detector: str) -> None:
    result = despur("detect", "-w", own_work, "--detector", detector, "--engine", "ray")
    refused(result, f"{detector} looks at no image", "leave out --engine ray")


@pytest.mark.parametrize("option", [("--actors", 2), ("--address", "auto"), ("--num-gpus", 0.5), ("--num-cpus", 2)])
def test_detect_refuses_options_of_ray_without_it(own_work: Path, despur, refused, option: tuple[str, object]) -> None:
    refused(despur("detect", "-w", own_work, *DETECT, *option), "add --engine ray")


def test_detect_tells_the_nearest_engine(own_work: Path, despur, refused) -> None:
    refused(despur("detect", "-w", own_work, *DETECT, "--engine", "rya"), "did you mean 'ray'")


@pytest.mark.slow
def test_detect_on_ray_writes_the_same_bytes_and_is_then_up_to_date(own_work: Path, despur) -> None:
    other = Path(shutil.copytree(own_work, own_work.with_name("other")))
    assert despur("detect", "-w", own_work, *DETECT).exit_code == 0
    result = despur("detect", "-w", other, *DETECT, "--engine", "ray", "--actors", 2, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["computed"]
    assert (other / "detections.parquet").read_bytes() == (own_work / "detections.parquet").read_bytes()
    assert not json.loads(despur("detect", "-w", other, *DETECT, "--json").stdout)["computed"]


def study_of(folder: Path, birds: Path, engine: str) -> Path:
    """A study that embeds and detects with that engine, and trains little."""
    folder.mkdir(exist_ok=True)
    lines = (
        f"dataset: waterbirds:{birds}",
        "models: birdland:vit",
        "workspace: work",
        f"engine: {engine}",
        "detect: {detector: 'birdland:detector', vocabulary: birdland}",
        "mitigate: {methods: [erm], train: {epochs: 1}}",
        "explain: {images: 4, strips: 0, checks: 0}",
    )
    (folder / "study.yaml").write_text("\n".join(lines))
    return folder / "study.yaml"


@pytest.mark.parametrize(
    ("engine", "said"),
    [("rya", "did you mean 'ray'"), ("{actors: 2}", "add --engine ray"), ("{name: ray, actors: 0}", "actors")],
)
def test_a_study_with_an_engine_that_is_none_is_refused_before_it_begins(
    birds: Path, tmp_path: Path, despur, refused, engine: str, said: str
) -> None:
    refused(despur("run", study_of(tmp_path, birds, engine)), said)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_study_on_ray_writes_the_bytes_of_the_plain_loop(birds: Path, tmp_path: Path, despur) -> None:
    for name, engine in (("one", "loop"), ("many", "{name: ray, actors: 2}")):
        result = despur("run", study_of(tmp_path / name, birds, engine))
        assert result.exit_code == 0, result.stderr
    one, many = tmp_path / "one" / "work", tmp_path / "many" / "work"
    files = [*(one / "features").glob("*.safetensors"), one / "detections.parquet"]
    assert len(files) > 2
    for file in files:
        assert (many / file.relative_to(one)).read_bytes() == file.read_bytes()


def test_a_mirror_gives_another_workspace_what_one_had_computed(birds: Path, tmp_path: Path, despur) -> None:
    mirror = ("--mirror", f"file://{tmp_path}/store")
    works = [tmp_path / "one", tmp_path / "two"]
    for work in works:
        for command in (("embed", f"waterbirds:{birds}", "--model", "birdland:vit"), ("detect", *DETECT)):
            result = despur(*command, "-w", work, *mirror)
            assert result.exit_code == 0, result.stderr
    sent = {file.name: file.read_bytes() for file in (tmp_path / "store").glob("*/shard-*")}
    assert {name.rsplit(".")[-1] for name in sent} == {"npy", "parquet", "json"}
    for name in ("features/shard-00000.npy", "detections.parquet"):
        assert (works[0] / name).read_bytes() == (works[1] / name).read_bytes()
    assert sent["shard-00000.npy"] == (works[0] / "features" / "shard-00000.npy").read_bytes()


def test_a_mirror_that_is_no_address_is_refused_before_it_begins(birds: Path, tmp_path: Path, despur, refused) -> None:
    options = ("--model", "birdland:vit", "-w", tmp_path / "work")
    refused(despur("embed", f"waterbirds:{birds}", *options, "--mirror", "some/folder"), "no address of a store")
    study = study_of(tmp_path, birds, "loop")
    study.write_text(study.read_text() + "\nmirror: nowhere://bucket\n")
    refused(despur("run", study), "nowhere:// cannot be reached from here")
    assert not (tmp_path / "work").exists()


TRAIN = ("--method", "erm", "--epochs", 2, "--batch-size", 16)


def test_training_from_disk_writes_the_heads_of_training_in_memory(own_work: Path, despur) -> None:
    other = Path(shutil.copytree(own_work, own_work.with_name("other")))
    for work, more in ((own_work, ()), (other, ("--memory", "20kB"))):
        result = despur("mitigate", "-w", work, *TRAIN, "--shuffle-within", 64, *more)
        assert result.exit_code == 0, result.stderr
    heads = [work / "runs" / "erm-seed0" / "heads.safetensors" for work in (own_work, other)]
    assert heads[0].read_bytes() == heads[1].read_bytes()
    again = despur("mitigate", "-w", other, *TRAIN, "--shuffle-within", 64, "--json")
    assert again.exit_code == 0, again.stderr


def test_features_larger_than_memory_need_a_window(own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, *TRAIN, "--memory", "20kB"), "20 KB hold", "--shuffle-within")


def test_an_amount_of_memory_that_is_none_is_refused(own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, *TRAIN, "--memory", "plenty"), "'plenty' is no amount of memory")


def test_rank_with_little_memory_is_refused_and_with_enough_writes_the_same(own_work: Path, despur, refused) -> None:
    for words in (("predict",), ("detect", *DETECT)):
        assert despur(words[0], "-w", own_work, *words[1:]).exit_code == 0
    refused(despur("rank", "-w", own_work, "--memory", "plenty"), "'plenty' is no amount of memory")
    refused(despur("rank", "-w", own_work, "--memory", "4kB"), "4 KB of memory are too little", "--memory")
    assert despur("rank", "-w", own_work, "--memory", "400MB").exit_code == 0
    assert not list(own_work.glob(".rank-*"))
