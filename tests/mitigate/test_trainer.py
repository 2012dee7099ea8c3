"""What training changes, what it keeps, and how it goes on after it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from despur.backbones.heads import Heads, class_logits
from despur.errors import SettingsError, TrainingError
from despur.mitigate import METHODS, DivergedError, Run, TrainSettings, find_method, train
from despur.mitigate.study import Examples, Study

SETTINGS = TrainSettings(learning_rate=1e-2, epochs=4, batch_size=16)
ON_FROZEN_HEADS = {"erm-probe", "afr", "erm-adapter", "contrastive-adapter"}
RECIPE = find_method("clip+lc+vc+vs")
TRAINED = [name for name, method in METHODS.items() if method.terms(SETTINGS)]


def same_heads(one: Heads, other: Heads, tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance)


def worst_by_hand(run: Run, study: Study) -> float:
    correct = class_logits(run.heads, study.val.features, study.class_prompts).argmax(-1) == study.val.labels
    return min(float(correct[study.val.groups == group].float().mean()) for group in range(4))


@pytest.mark.parametrize("name", METHODS)
def test_the_heads_of_the_epoch_with_the_best_worst_group_are_kept(study: Study, name: str) -> None:
    (run,) = train(study, METHODS[name], SETTINGS)
    scores = run.history["worst_group"].to_pylist()
    assert run.history["epoch"].to_pylist() == list(range(len(scores)))
    assert worst_by_hand(run, study) == pytest.approx(scores[run.best_epoch])
    if name not in TRAINED:
        assert run.best_epoch == 0
        assert len(scores) == 1
        return
    second = METHODS[name].second
    first = 0 if second is None else second.first_epochs(SETTINGS.epochs)
    assert run.best_epoch == first + 1 + scores[first + 1 :].index(max(scores[first + 1 :]))  # the earliest of equals


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_in_a_stack_of_seeds_equals_the_run_alone(study: Study, name: str) -> None:
    stacked = train(study, METHODS[name], SETTINGS, seeds=[3, 5, 7])
    (alone,) = train(study, METHODS[name], SETTINGS, seeds=[5])
    same_heads(stacked[1].heads, alone.heads, 1e-10)
    assert stacked[1].best_epoch == alone.best_epoch
    assert [run.seed for run in stacked] == [3, 5, 7]


@pytest.mark.parametrize("name", ["clip+lc+vc+vs", "group-dro", "jtt"])
def test_in_single_precision_a_stacked_run_stays_by_the_run_alone_for_300_steps(study: Study, name: str) -> None:
    single = study.to("cpu", torch.float32)
    settings = TrainSettings(learning_rate=1e-3, epochs=75, batch_size=16)  # 4 steps an epoch
    stacked = train(single, METHODS[name], settings, seeds=[0, 1, 2])
    (alone,) = train(single, METHODS[name], settings, seeds=[1])
    losses = [run.history["loss"].to_pylist()[-1] for run in (stacked[1], alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert stacked[1].best_epoch == alone.best_epoch
    same_heads(stacked[1].heads, alone.heads, 1e-4)


def test_rates_decays_and_weights_are_stacked_too(study: Study) -> None:
    several = [
        SETTINGS.model_copy(update={"learning_rate": rate, "weight_decay": decay, "weights": weights})
        for rate, decay, weights in [(1e-2, 0.0, {"vs": 0.5}), (1e-3, 0.1, {}), (3e-2, 1.0, {"clip": 2.0})]
    ]
    stacked = train(study, RECIPE, several, seeds=[0, 1])
    assert [(run.settings, run.seed) for run in stacked] == [(entry, seed) for entry in several for seed in (0, 1)]
    (alone,) = train(study, RECIPE, several[2], seeds=[1])
    same_heads(stacked[5].heads, alone.heads, 1e-10)


def test_one_step_is_the_step_that_torch_would_take(study: Study) -> None:
    """L_CLIP on all images at once, by autograd through the heads' own functions and torch's own optimiser."""
    settings = SETTINGS.model_copy(update={"epochs": 1, "batch_size": 64})
    (run,) = train(study, METHODS["erm"], settings)
    heads = {name: head.clone().requires_grad_() for name, head in study.heads.items()}
    decayed = [head for name, head in heads.items() if name != "logit_scale"]
    optimiser = torch.optim.SGD(
        [{"params": decayed}, {"params": [heads["logit_scale"]], "weight_decay": 0.0}],
        lr=1e-2,
        momentum=0.9,
        weight_decay=settings.weight_decay,
    )
    logits = class_logits(heads, study.train.features, study.class_prompts)
    torch.nn.functional.cross_entropy(logits, study.train.labels).backward()
    optimiser.step()
    same_heads(run.heads, {name: head.detach() for name, head in heads.items()}, 1e-12)


@pytest.mark.parametrize("name", TRAINED)
def test_only_heads_and_temperature_change(study: Study, name: str) -> None:
    before = study.fingerprint()
    start = {key: head.clone() for key, head in study.heads.items()}
    (run,) = train(study, METHODS[name], SETTINGS)
    assert study.fingerprint() == before  # features, labels, prompts and the pre-trained heads, to the bit
    same_heads(study.heads, start)
    moved = {key for key in start if not torch.equal(run.heads[key], start[key])}
    assert moved == (set() if name in ON_FROZEN_HEADS else start.keys())


def test_text_side_and_temperature_stay_where_they_are_told_to(study: Study) -> None:
    settings = SETTINGS.model_copy(update={"train_text": False, "train_temperature": False})
    (run,) = train(study, RECIPE, settings)
    for name in ("text.weight", "logit_scale"):
        assert torch.equal(run.heads[name], study.heads[name])
    assert not torch.equal(run.heads["image.weight"], study.heads["image.weight"])


def test_history_holds_every_term_and_every_group(study: Study) -> None:
    empty = replace(study.val, groups=torch.where(study.val.groups == 1, 0, study.val.groups))
    (run,) = train(replace(study, val=empty), RECIPE, SETTINGS)
    names = ["loss/clip", "loss/lc", "loss/vc", "loss/vs"]
    rows = run.history.to_pylist()
    assert [name for name in run.history.column_names if name.startswith("loss/")] == names
    assert rows[0]["loss"] is None
    assert all(row["loss"] == pytest.approx(sum(row[name] for name in names)) for row in rows[1:])
    assert all(row["accuracy/landbird with water"] is None for row in rows)
    assert all(row["worst_group"] == min(row[f"accuracy/{n}"] for n in GROUPS_WITH_IMAGES) for row in rows)


GROUPS_WITH_IMAGES = ("landbird without water", "waterbird without water", "waterbird with water")


def test_selection_by_average_keeps_the_epoch_of_the_best_average(study: Study) -> None:
    (run,) = train(study, RECIPE, SETTINGS.model_copy(update={"selection": "average", "epochs": 6}))
    averages = run.history["average"].to_pylist()[1:]
    assert run.best_epoch == 1 + averages.index(max(averages))


class Stopped(Exception):
    pass


def stop_before(epoch: int) -> Any:
    def progress(steps: Iterable[int], *, total: int, label: str, unit: str = "", each: int = 1) -> Iterator[int]:
        for step in steps:
            if step == epoch:
                raise Stopped
            yield step

    return progress


@pytest.mark.parametrize("name", ["clip+lc+vc+ls", "group-dro", "jtt", "afr", "contrastive-adapter", "wise-ft"])
def test_training_that_was_stopped_goes_on_and_ends_with_the_same_bits(study: Study, tmp_path: Path, name: str) -> None:
    method, settings, file = METHODS[name], SETTINGS.model_copy(update={"clip_text": "template"}), tmp_path / "state.pt"
    whole = train(study, method, settings, seeds=[0, 1])
    for epoch in (1, 3):
        with pytest.raises(Stopped):
            train(
                study,
                method,
                settings,
                seeds=[0, 1],
                progress=stop_before(epoch),
                checkpoint=file,
                checkpoint_seconds=0.0,
            )
    resumed = train(study, method, settings, seeds=[0, 1], checkpoint=file)
    again = train(study, method, settings, seeds=[0, 1], progress=stop_before(1), checkpoint=file)
    for one, other, third in zip(whole, resumed, again, strict=True):
        same_heads(one.heads, other.heads)
        same_heads(one.heads, third.heads)
        assert one.history.equals(other.history)
        assert one.best_epoch == other.best_epoch


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_gone_on_from(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    train(study, RECIPE, SETTINGS.model_copy(update={"learning_rate": 1.0}), checkpoint=file)
    (expected,) = train(study, RECIPE, SETTINGS)
    (found,) = train(study, RECIPE, SETTINGS, checkpoint=file)
    same_heads(found.heads, expected.heads)
    file.write_bytes(file.read_bytes()[:100])
    (found,) = train(study, RECIPE, SETTINGS, checkpoint=file)
    same_heads(found.heads, expected.heads)


def test_a_run_that_diverges_is_marked_while_the_others_finish(study: Study) -> None:
    # The decay multiplies the weights by about -1e79 a step: finite at first, and never again after a few.
    wild = SETTINGS.model_copy(update={"learning_rate": 1e80, "weight_decay": 0.1})
    sound, diverged = train(study, RECIPE, [SETTINGS, wild])
    (alone,) = train(study, RECIPE, SETTINGS)
    same_heads(sound.heads, alone.heads, 1e-10)
    assert sound.diverged_step is None
    assert diverged.diverged_step is not None
    assert all(bool(head.isfinite().all()) for head in diverged.heads.values())
    assert len(diverged.history) - 1 < SETTINGS.epochs


def test_the_only_run_diverging_is_an_error_that_names_the_step_and_keeps_the_last_sound_epoch(study: Study) -> None:
    # The last image has no finite features, and the seed brings it up in step 3 of 4 of the first epoch.
    features = study.train.features.clone()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    features[order[40]] = torch.nan
    broken = replace(study, train=Examples(features, study.train.labels, study.train.groups))
    with pytest.raises(DivergedError, match=r"seed 0: .*not finite from step 3 on.*lower the learning rate") as caught:
        train(broken, METHODS["clip"], SETTINGS)
    same_heads(caught.value.runs[0].heads, study.heads)
    assert isinstance(caught.value, TrainingError)


def _emptied(examples: Examples, keep: Iterable[int] = ()) -> Examples:
    rows = torch.tensor(list(keep), dtype=torch.int64)
    return Examples(examples.features[rows], examples.labels[rows], examples.groups[rows])


@pytest.mark.parametrize("name", ["erm", "pretrained", "roboshot"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda study: replace(study, train=_emptied(study.train)), "there are no training images"),
        (lambda study: replace(study, val=_emptied(study.val)), "there are no validation images"),
        (lambda study: replace(study, class_prompts=study.class_prompts * torch.nan), "class prompts are not finite"),
        (lambda study: replace(study, group_prompts=study.group_prompts / 0), "group prompts are not finite"),
    ],
)
def test_a_study_that_no_method_means_anything_on_is_refused(
    study: Study, name: str, spoil: Callable[[Study], Study], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(spoil(study), METHODS[name], SETTINGS)


def test_training_images_of_one_class_alone_are_refused_where_they_are_trained_on(study: Study) -> None:
    alone = replace(study, train=_emptied(study.train, range(10)))
    with pytest.raises(TrainingError, match="all training images show landbird"):
        train(alone, METHODS["erm"], SETTINGS)
    assert train(alone, METHODS["orth-proj"], SETTINGS)


@pytest.mark.parametrize(("none", "missing"), [({"seeds": ()}, "seed"), ({"settings": []}, "setting")])
def test_nothing_to_train_is_a_mistake(study: Study, none: dict[str, Any], missing: str) -> None:
    with pytest.raises(SettingsError, match=f"no {missing} is given"):
        train(study, METHODS["erm"], **none)


def test_runs_that_cannot_share_a_stack_are_refused(study: Study) -> None:
    with pytest.raises(SettingsError, match="must agree in batch_size"):
        train(study, RECIPE, [SETTINGS, SETTINGS.model_copy(update={"batch_size": 8})])


def test_a_trainable_attention_pool_on_feature_maps(study: Study) -> None:
    channels, dim, generator = 8, 4, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / 4

    pool = {f"pool.{name}.weight": normal(channels, channels) for name in "qkv"}
    pool |= {f"pool.{name}.bias": normal(channels) for name in "qkv"}
    pool |= {"pool.positions": normal(5, channels), "pool.heads": torch.tensor(2)}
    pool |= {"pool.c.weight": normal(dim, channels), "pool.c.bias": normal(dim)}
    heads = {**pool, "text.weight": study.heads["text.weight"], "logit_scale": torch.tensor(log(20.0)).double()}
    maps = [
        replace(
            examples, features=normal(len(examples), channels, 2, 2) + examples.features.mean(1)[:, None, None, None]
        )
        for examples in (study.train, study.val)
    ]
    pooled = replace(study, train=maps[0], val=maps[1], heads=heads)
    stacked = train(pooled, RECIPE, SETTINGS, seeds=[0, 1])
    (alone,) = train(pooled, RECIPE, SETTINGS, seeds=[1])
    same_heads(stacked[1].heads, alone.heads, 1e-10)
    moved = {name for name, head in alone.heads.items() if not torch.equal(head, heads[name])}
    assert moved == heads.keys() - {"pool.heads"}
    assert worst_by_hand(alone, pooled) == pytest.approx(alone.history["worst_group"].to_pylist()[alone.best_epoch])
