"""DFR, AFR and JTT: what they weigh, what they solve, and what they are fitted to."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest
import torch

from despur.errors import ModelError, TrainingError
from despur.mitigate import METHODS, TrainSettings, train
from despur.mitigate.batches import weighted
from despur.mitigate.methods.afr import afr_weights
from despur.mitigate.methods.dfr import C_GRID, balanced_rows
from despur.mitigate.study import Examples, Study
from despur.mitigate.validation import predicted_classes

from .gaussians import gaussian_world, unseen_images


def test_balanced_rows_hold_as_many_of_each_group_as_the_smallest_has() -> None:
    groups = torch.tensor([0] * 7 + [1] * 2 + [3] * 4)
    rows = balanced_rows(groups, torch.Generator().manual_seed(0))
    assert len(set(rows.tolist())) == 6
    assert torch.bincount(groups[rows]).tolist() == [2, 2, 0, 2]


@pytest.mark.parametrize("name", ["dfr", "dfr-train"])
def test_dfr_does_as_well_as_its_recipe_with_scikit_learn(name: str) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    world, unseen = gaussian_world(), unseen_images()
    fitted = world.val if name == "dfr" else world.train
    mean, deviation = world.train.features.mean(0), world.train.features.std(0, correction=0)
    weights = []
    for seed in range(10):
        rows = balanced_rows(fitted.groups, torch.Generator().manual_seed(seed))
        scaled = ((fitted.features[rows] - mean) / deviation).numpy()
        judge = linear_model.LogisticRegression(l1_ratio=1, solver="liblinear", C=C_GRID[3])
        judge.fit(scaled, fitted.labels[rows].numpy())
        weights.append(np.append(judge.coef_[0], judge.intercept_))
    *direction, offset = np.mean(weights, axis=0)
    says = ((unseen.features - mean) / deviation).numpy() @ np.array(direction) + offset > 0
    (run,) = train(world, METHODS[name])
    ours = predicted_classes({key: head[None] for key, head in run.heads.items()}, unseen.features, world.class_prompts)
    hits = [
        [np.mean((said == unseen.labels.numpy())[unseen.groups.numpy() == group]) for group in range(4)]
        for said in (says.astype(int), ours[0].numpy())
    ]
    assert min(hits[1]) == pytest.approx(min(hits[0]), abs=0.02)


def test_dfr_s_seeds_draw_other_subsets(study: Study) -> None:
    one, other = train(study, METHODS["dfr"], seeds=[0, 1])
    assert not torch.equal(one.heads["probe.weight"], other.heads["probe.weight"])
    (again,) = train(study, METHODS["dfr"], seeds=[1])
    torch.testing.assert_close(again.heads["probe.weight"], other.heads["probe.weight"], rtol=0, atol=1e-12)


def test_dfr_names_the_group_that_validation_lacks(study: Study) -> None:
    keep = study.val.groups != 2
    val = Examples(study.val.features[keep], study.val.labels[keep], study.val.groups[keep])
    with pytest.raises(TrainingError, match="fewer than two validation images show waterbird without water"):
        train(replace(study, val=val), METHODS["dfr"])


def test_afr_weighs_by_exp_of_minus_gamma_p_over_the_class_s_size() -> None:
    found = afr_weights(torch.tensor([0.9, 0.1, 0.5]), torch.tensor([0, 0, 1]), 2.0, 2)
    raw = [exp(-1.8) / 2, exp(-0.2) / 2, exp(-1.0)]
    assert found.tolist() == pytest.approx([value / sum(raw) for value in raw])


def test_afr_s_weights_are_there_however_sharp_gamma_makes_them() -> None:
    found = afr_weights(torch.tensor([0.875, 0.75, 0.75]), torch.tensor([0, 0, 1]), 1e5, 2)
    assert found.tolist() == pytest.approx([0.0, 1 / 3, 2 / 3])  # each by itself is e^-75000


def test_afr_s_loss_is_a_weighted_sum_over_all_images_held_out_where_some_weigh_nothing(study: Study) -> None:
    method = METHODS["afr"]
    settings = method.settings.model_copy(update={"epochs": 1, "options": {"gamma": 1e6}, "weights": {"anchor": 0.0}})
    (run,) = train(study, method, settings, seeds=[0])
    loss = run.history["loss/reweighted"][1].as_py()
    # All weight is on the held-out image that the first layer is least sure of.
    (first,) = train(study, method, settings.model_copy(update={"learning_rate": 1e-30}), seeds=[0])
    order = torch.randperm(len(study.train), generator=torch.Generator().manual_seed(0))[
        : round(0.2 * len(study.train))
    ]
    logits = study.train.features[order] @ first.heads["probe.weight"].mT + first.heads["probe.bias"]
    own = logits.softmax(-1).gather(-1, study.train.labels[order].unsqueeze(-1))
    assert loss == pytest.approx(-own.min().log().item(), rel=1e-4)


def test_afr_stays_at_the_first_layer_where_the_anchor_is_strong(study: Study) -> None:
    settings = METHODS["afr"].settings.model_copy(update={"epochs": 30, "learning_rate": 1e-4})
    loose, tight = train(
        study, METHODS["afr"], [settings.model_copy(update={"weights": {"anchor": value}}) for value in (0.0, 1000.0)]
    )
    moved = [run.history["loss/anchor"].to_pylist()[-1] for run in (loose, tight)]
    assert moved[0] > 2 * moved[1] >= 0


def test_afr_s_second_layer_sees_the_fifth_that_the_first_did_not(study: Study) -> None:
    settings = METHODS["afr"].settings.model_copy(update={"epochs": 1})
    # Where all that is held out is said to be of the other class, the first layer differs and is fitted without it.
    (run,) = train(study, METHODS["afr"], settings, seeds=[3])
    held_out = torch.randperm(64, generator=torch.Generator().manual_seed(3))[:13]
    features = study.train.features.clone()
    features[held_out] = 0.0
    changed = replace(study, train=replace(study.train, features=features))
    (other,) = train(changed, METHODS["afr"], settings.model_copy(update={"learning_rate": 1e-12}), seeds=[3])
    (same,) = train(study, METHODS["afr"], settings.model_copy(update={"learning_rate": 1e-12}), seeds=[3])
    torch.testing.assert_close(other.heads["probe.weight"], same.heads["probe.weight"], rtol=0, atol=1e-8)
    assert not torch.allclose(run.heads["probe.weight"], same.heads["probe.weight"], atol=1e-8)


@pytest.mark.parametrize("name", ["dfr", "dfr-train", "afr", "perception-clip", "erm-adapter"])
def test_feature_maps_are_refused(study: Study, name: str) -> None:
    maps = replace(study, train=replace(study.train, features=study.train.features[:, :, None, None]))
    with pytest.raises(ModelError, match="trainable='projection'"):
        train(maps, METHODS[name])


@pytest.mark.parametrize("name", ["dfr", "dfr-train", "afr"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_features_that_are_not_finite_are_counted_and_told(study: Study, name: str, split: str) -> None:
    examples = getattr(study, split)
    features = examples.features.clone()
    features[3, 1] = torch.nan
    broken = replace(study, **{split: replace(examples, features=features)})
    kind = "training" if split == "train" else "validation"
    with pytest.raises(TrainingError, match=rf"^{name}: the features of 1 {kind} images are not finite"):
        train(broken, METHODS[name])


def test_draws_are_in_proportion_to_weights() -> None:
    drawn = weighted(torch.tensor([1.0, 0.0, 3.0]), 40_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 40_000
    assert shares.tolist() == pytest.approx([0.25, 0.0, 0.75], abs=0.01)


def test_jtt_trains_again_from_the_start_on_what_the_first_model_got_wrong(study: Study) -> None:
    """With one image drawn always, the second stage's loss is that image's alone."""
    settings = TrainSettings(learning_rate=1e-9, epochs=5, batch_size=32, options={"upweight": 1e6})
    (run,) = train(study, METHODS["jtt"], settings)
    heads = {name: head[None] for name, head in study.heads.items()}
    wrong = predicted_classes(heads, study.train.features, study.class_prompts)[0] != study.train.labels
    assert 0 < int(wrong.sum()) < 64
    losses = run.history["loss"].to_pylist()
    assert len(losses) == 1 + 1 + 5
    # All draws of the second stage are errors, whose loss is above that of a coin's guess.
    assert losses[1] < min(losses[2:])
    assert run.best_epoch >= 2
