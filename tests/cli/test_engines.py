"""``--engine ray`` on the command line: what is refused, and the bytes of one process."""

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
