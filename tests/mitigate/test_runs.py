"""A run's folder gives back the run, or says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from despur.errors import WorkspaceError
from despur.mitigate import METHODS, Run, TrainSettings, load_run, save_run, train
from despur.mitigate.study import Study
from despur.workspace import read_json


@pytest.fixture
def run(study: Study) -> Run:
    (run,) = train(study, METHODS["clip+lc+vc+ls"], TrainSettings(epochs=2, batch_size=16), seeds=[4])
    return run


def test_a_saved_run_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    save_run(tmp_path / "runs" / "one", run, {"model": "birdland"})
    back = load_run(tmp_path / "runs" / "one")
    assert back.heads.keys() == run.heads.keys()
    assert all(torch.equal(back.heads[name], head) for name, head in run.heads.items())
    assert back.history.equals(run.history)
    assert (back.method, back.seed, back.settings, back.best_epoch) == (run.method, 4, run.settings, run.best_epoch)
    assert read_json(tmp_path / "runs" / "one" / "config.json")["model"] == "birdland"
    assert {file.name for file in (tmp_path / "runs" / "one").iterdir()} == {
        "config.json",
        "heads.safetensors",
        "history.parquet",
    }


@pytest.mark.parametrize("name", ["config.json", "heads.safetensors", "history.parquet"])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_damaged_run_is_an_error_that_names_the_file(run: Run, tmp_path: Path, name: str, damage: str) -> None:
    save_run(tmp_path, run)
    file = tmp_path / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(WorkspaceError, match=name):
        load_run(tmp_path)


def test_a_config_of_something_else_is_not_a_run(run: Run, tmp_path: Path) -> None:
    save_run(tmp_path, run)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WorkspaceError, match="does not describe a run"):
        load_run(tmp_path)
