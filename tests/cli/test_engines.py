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
