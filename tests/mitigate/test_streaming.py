"""Training on features that are read from disk: the heads of training in memory, in the same order of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from despur.errors import SettingsError, TrainingError
from despur.features.streamed import BLOCK, StreamedFeatures
from despur.mitigate.batches import Batches, group_balanced, shuffled, windows
from despur.mitigate.methods import METHODS, find_method
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Examples, Study
from despur.mitigate.trainer import train

MANY = 4 * BLOCK + 50
WITHIN = 2 * BLOCK
SETTINGS = TrainSettings(epochs=2, batch_size=64, learning_rate=1e-2, shuffle_within=WITHIN)


@pytest.fixture
def large(study: Study) -> Study:
    """The small study in float32, its images repeated until they fill some blocks."""
    small = study.to("cpu")

    def repeated(examples: Examples) -> Examples:
        rows = torch.arange(MANY) * 7 % len(examples)
        return Examples(examples.take(rows) + rows.unsqueeze(-1) / 1000, examples.labels[rows], examples.groups[rows])

    return replace(small, train=repeated(small.train), val=repeated(small.val))


def on_disk(study: Study, memory: int = 2**20) -> Study:
    def moved(examples: Examples) -> Examples:
        features = examples.whole("test")
        read = StreamedFeatures(lambda rows: features[torch.from_numpy(rows)], np.arange(len(examples)), memory=memory)
        return replace(examples, features=read)

    return replace(study, train=moved(study.train), val=moved(study.val))


@pytest.mark.parametrize("method", ["erm", "clip+lc+vc+ls", "group-dro", "jtt", "erm-probe", "contrastive-adapter"])
def test_heads_are_those_of_training_in_memory(large: Study, method: str) -> None:
    chosen = find_method(method)
    given = SETTINGS if method != "group-dro" else SETTINGS.model_copy(update={"learning_rate": 1e-3})
    [held] = train(large, chosen, given, seeds=(3,))
    [read] = train(on_disk(large), chosen, given, seeds=(3,))
    assert held.best_epoch == read.best_epoch
    for name, head in held.heads.items():
        assert torch.equal(read.heads[name], head), name
    assert held.history.equals(read.history)


def test_training_moves_the_heads(large: Study) -> None:
    """Else equal heads would show nothing."""
    [run] = train(on_disk(large), METHODS["erm"], SETTINGS)
    assert not torch.equal(run.heads["image.weight"], large.heads["image.weight"])


def test_a_stopped_training_goes_on_from_disk(large: Study, tmp_path: Path) -> None:
    [whole] = train(on_disk(large), METHODS["erm"], SETTINGS)

    class Stopped(BaseException):
        pass

    def stopping(steps, **_: object):
        for number, step in enumerate(steps):
            if number:
                raise Stopped
            yield step

    file = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        train(large, METHODS["erm"], SETTINGS, progress=stopping, checkpoint=file, checkpoint_seconds=0)
    [resumed] = train(on_disk(large), METHODS["erm"], SETTINGS, checkpoint=file)
    assert torch.equal(resumed.heads["image.weight"], whole.heads["image.weight"])


def test_an_order_that_would_read_everything_for_every_batch_is_refused(large: Study) -> None:
    with pytest.raises(SettingsError, match=r"all images are shuffled together.*--shuffle-within"):
        train(on_disk(large), METHODS["erm"], SETTINGS.model_copy(update={"shuffle_within": None}))
    little = WITHIN * large.train.features.shape[1] * 4
    train(on_disk(large, memory=little), METHODS["erm"], SETTINGS)
    with pytest.raises(SettingsError, match=r"hold 256 of them for each run"):
        train(on_disk(large, memory=little), METHODS["erm"], SETTINGS, seeds=(0, 1))


@pytest.mark.parametrize("method", ["dfr", "afr"])
def test_methods_that_solve_on_all_features_say_so(large: Study, method: str) -> None:
    chosen = METHODS[method]
    with pytest.raises(TrainingError, match="needs all features in memory"):
        train(on_disk(large), chosen, chosen.settings.model_copy(update={"shuffle_within": WITHIN}))


def test_windows_hold_every_image_once_in_blocks_of_neighbours() -> None:
    parts = windows(MANY, WITHIN, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(MANY))
    blocks = [(part // BLOCK).unique_consecutive() for part in parts]
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert sorted(torch.cat(blocks).tolist()) == [0, 1, 2, 3, 4]
    assert torch.cat(blocks).tolist() != [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sampler", [shuffled, group_balanced])
def test_an_epoch_goes_through_one_window_after_the_other(sampler) -> None:
    groups = torch.arange(MANY) % 4
    batches = Batches(
        groups // 2,
        groups,
        batch_size=64,
        templates=3,
        sampler=sampler,
        generators=[torch.Generator().manual_seed(1)],
        within=WITHIN,
    )
    order = windows(MANY, WITHIN, torch.Generator().manual_seed(1))
    rows = batches.epoch().rows.flatten()
    start = 0
    for window in order:
        drawn = rows[start : start + len(window)]
        assert torch.isin(drawn, window).all()
        start += len(window)
    if sampler is shuffled:
        assert len(rows.unique()) == len(rows)
        assert not torch.equal(rows[:WITHIN], order[0])
