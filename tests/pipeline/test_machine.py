from __future__ import annotations

from pathlib import Path

import pytest
import torch

from despur.pipeline import machine
from despur.pipeline.embedded import Embedded
from despur.pipeline.machine import machine_of


def test_every_stage_says_what_it_was_computed_on(finished: Embedded) -> None:
    stages = finished.workspace.about()["stages"]
    assert {"embed", "predict", "explain", "evaluate", "mitigate/erm"} <= set(stages)
    assert all(record.machine == machine_of(torch.device("cpu")) for record in stages.values())


def test_threads_are_those_that_torch_uses() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert machine_of(None)["threads"] == "1"
    finally:
        torch.set_num_threads(before)


def test_the_processor_has_a_name_where_the_system_tells_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: A Processor @ 2 GHz\n")
    monkeypatch.setattr(machine, "CPUINFO", told)
    assert machine_of(None)["processor"] == "A Processor @ 2 GHz"
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine_of(None)["processor"]
