"""Each method does what its paper says, and refuses what it means nothing on."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest
import torch

from despur.backbones.heads import class_logits
from despur.errors import DespurError, ModelError, SettingsError, TrainingError
from despur.mitigate import METHODS, TrainSettings, find_method, method_from_losses, train
from despur.mitigate.methods.group_dro import exponentiated, group_means
from despur.mitigate.study import Examples, Study
from despur.mitigate.tuning import search_space


def without_group(study: Study, *groups: int) -> Study:
    keep = ~torch.isin(study.train.groups, torch.tensor(groups))
    train = Examples(study.train.features[keep], study.train.labels[keep], study.train.groups[keep])
    return replace(study, train=train)


def test_the_table_begins_with_the_model_as_it_came_and_ends_with_the_paper_s_recipes() -> None:
    assert next(iter(METHODS)) == "pretrained"
    assert list(METHODS)[-2:] == ["clip+lc+vc+ls", "clip+lc+vc+vs"]
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


def test_the_page_of_methods_names_every_one_with_its_options() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    table, _, _ = page.partition("## The same budget")
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert list(rows) == list(METHODS)
    for name, method in METHODS.items():
        for option, about in method.options.items():
            assert f"`{option}`" in rows[name]
            assert f"{about.default:g}" in rows[name]
        told = rows[name].split("|")[3].strip()
        assert told == next((word for word in ("groups", "phrase") if word[:5] in method.note), "")


def test_any_subset_of_losses_is_a_method() -> None:
    assert find_method("vc,ls").name == "vc+ls"
    assert find_method("lc").name == "lc"
    assert method_from_losses("clip, vc", {"vc": 0.5}).settings.weights == {"vc": 0.5}


@pytest.mark.parametrize(
    ("name", "message"),
    [("group-droo", "did you mean 'group-dro'"), ("clip+vx", "there is no loss 'vx'"), ("", "there is no method ''")],
)
def test_an_unknown_method_is_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_method(name)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("perception-clip", "context_temperature", 0.0),
        ("wise-ft", "blend", 1.5),
        ("orth-cali", "calibration", 1e39),
        ("jtt", "upweight", 1e300),
    ],
)
def test_an_option_beyond_what_means_something_is_refused(study: Study, name: str, option: str, value: float) -> None:
    settings = TrainSettings(epochs=1, options={option: value})
    with pytest.raises(SettingsError, match=f"{name}'s {option} cannot be"):
        train(study.to("cpu"), find_method(name), settings)


def test_group_means_are_of_the_groups_in_the_batch() -> None:
    losses, members = torch.tensor([[1.0, 3.0, 5.0]]), torch.eye(4)[[[0, 0, 3]]]
    assert group_means(losses, members).tolist() == [[2.0, 0.0, 0.0, 5.0]]


def test_group_dro_s_weights_follow_a_sequence_computed_by_hand() -> None:
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    by_hand = [0.25] * 4
    for losses in ([1.0, 2.0, 0.0, 4.0], [0.5, 0.0, 0.0, 9.0]):
        weights = exponentiated(weights, torch.tensor([losses], dtype=torch.float64), 0.01)
        grown = [weight * exp(0.01 * loss) for weight, loss in zip(by_hand, losses, strict=True)]
        by_hand = [weight / sum(grown) for weight in grown]
    assert weights[0].tolist() == pytest.approx(by_hand, abs=1e-12)


def test_group_dro_s_step_is_an_option_that_runs_of_a_stack_may_differ_in(study: Study) -> None:
    steps = [TrainSettings(learning_rate=0.1, epochs=2, batch_size=16, options={"group_step": step}) for step in (0, 5)]
    still, moved = train(study, METHODS["group-dro"], steps)
    (alone,) = train(study, METHODS["group-dro"], steps[1])
    assert not torch.equal(still.heads["image.weight"], moved.heads["image.weight"])
    torch.testing.assert_close(moved.heads["image.weight"], alone.heads["image.weight"], rtol=0, atol=1e-10)
    assert METHODS["group-dro"].with_options(TrainSettings()).options == {"group_step": 0.01}  # the paper's
    assert "options.group_step" in search_space(METHODS["group-dro"], TrainSettings())


def test_group_weights_stay_finite_however_large_a_loss_is() -> None:
    weights = exponentiated(torch.full((1, 4), 0.25), torch.tensor([[1e30, 0.0, 0.0, 0.0]]), 1.0)
    assert weights.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_group_dro_refuses_a_group_that_is_missing_from_training_and_names_it(study: Study) -> None:
    with pytest.raises(TrainingError, match="no training image shows landbird with water"):
        train(without_group(study, 1), METHODS["group-dro"])


def test_vs_refuses_an_attribute_that_splits_no_class(study: Study) -> None:
    nobody = without_group(study, 1, 3)
    with pytest.raises(DespurError, match="no class has training images both with and without water"):
        train(nobody, METHODS["clip+lc+vc+vs"])
    (run,) = train(nobody, METHODS["clip+lc+vc+ls"], TrainSettings(epochs=1, batch_size=8))
    assert run.diverged_step is None


def test_the_class_prior_is_in_the_loss_and_not_in_the_logits(study: Study) -> None:
    assert study.log_prior.tolist() == pytest.approx([log(34 / 64), log(30 / 64)])
    few = replace(
        study, train=Examples(*(vars(study.train)[part][:40] for part in ("features", "labels", "groups")))
    )  # 34 to 6
    settings = TrainSettings(epochs=1, learning_rate=1e-9, batch_size=40)
    (plain,) = train(few, METHODS["erm"], settings)
    (prior,) = train(few, METHODS["erm-prior"], settings)
    logits = class_logits(few.heads, few.train.features, few.class_prompts)
    adjusted = logits + torch.tensor([log(34 / 40), log(6 / 40)], dtype=torch.float64)
    for run, values in ((plain, logits), (prior, adjusted)):
        expected = torch.nn.functional.cross_entropy(values, few.train.labels)
        assert run.history["loss"].to_pylist()[1] == pytest.approx(float(expected), abs=1e-9)


def test_the_probe_reaches_logistic_regression(study: Study) -> None:
    """scikit-learn's solution of the same convex problem, loss mean + decay / 2 · |W|² + decay / 2 · |b|²."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    settings = TrainSettings(learning_rate=2.0, momentum=0.5, weight_decay=0.1, epochs=80, batch_size=64)
    last = replace(study, val=study.train)
    (run,) = train(last, METHODS["erm-probe"], settings)
    losses = run.history["loss"].to_pylist()
    ones = torch.ones(64, 1, dtype=torch.float64)
    design = torch.cat([study.train.features, ones], 1).numpy()
    # Two opposite rows of a softmax are one row of twice the size, so that its penalty is half as strong.
    trusted = linear_model.LogisticRegression(C=1 / (64 * 0.1 / 2), fit_intercept=False, tol=1e-10, max_iter=10_000)
    trusted.fit(design, study.train.labels.numpy())
    logits = torch.from_numpy(trusted.decision_function(design))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, study.train.labels.double())
    assert losses[-1] == pytest.approx(float(expected), abs=1e-6)


def test_the_probe_refuses_feature_maps(study: Study) -> None:
    maps = replace(study, train=replace(study.train, features=study.train.features[:, :, None, None]))
    with pytest.raises(ModelError, match="trainable='projection'"):
        train(maps, METHODS["erm-probe"])


@pytest.mark.parametrize(
    ("losses", "note"),
    [
        ("clip,lc,vc", ""),
        ("clip,ls", "given the attribute's phrase"),
        ("clip,vs", "given the group labels"),
        ("clip,ls,vs", "given the group labels"),
    ],
)
def test_a_method_says_what_it_is_given_beside_images_and_labels(losses: str, note: str) -> None:
    assert method_from_losses(losses).note == note


def test_despur_is_the_recommended_method() -> None:
    assert find_method("despur") is METHODS["group-dro"]
    with pytest.raises(SettingsError, match="did you mean 'despur'"):
        find_method("desper")
