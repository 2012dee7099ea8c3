"""Several shortcuts at once: sparse memberships, against loops over images, groups and pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from despur.errors import TrainingError
from despur.mitigate import METHODS, TrainSettings, method_from_losses, train
from despur.mitigate.batches import group_balanced
from despur.mitigate.losses import contrast, same_label_pairs
from despur.mitigate.membership import memberships, pair_groups, shared_group_pairs, sizes_of
from despur.mitigate.methods.group_dro import group_means
from despur.mitigate.study import Examples, Study
from despur.mitigate.validation import predicted_classes, validation_accuracies

PAIRS = ((0, "water"), (1, "water"), (0, "fog"))
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
PRESENCE = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])


def test_an_image_has_one_group_of_every_pair_of_its_class() -> None:
    groups, shares = pair_groups(LABELS, PRESENCE, [pair[0] for pair in PAIRS], 4)
    assert shares is None
    assert groups.tolist() == [[1, 5], [0, 5], [1, 4], [3, -1], [2, -1], [6, -1]]
    assert sizes_of(groups, None, 8).tolist() == [1, 2, 1, 1, 1, 2, 1, 0]  # the last two are classes without a pair


def test_soft_presence_belongs_to_both_groups_in_shares() -> None:
    groups, shares = pair_groups(LABELS, PRESENCE * 0.75, [0, 1, 0], 3)
    matrix = memberships(groups, shares, 7, torch.empty(0))
    assert matrix[0].tolist() == [0.25, 0.75, 0, 0, 0.25, 0.75, 0]
    assert matrix[3].tolist() == [0, 0, 0.25, 0.75, 0, 0, 0]
    assert matrix[5].tolist() == [0, 0, 0, 0, 0, 0, 1]
    torch.testing.assert_close(sizes_of(groups, shares, 7), matrix.sum(0))


def test_with_one_group_an_image_the_pairs_are_those_of_equal_labels() -> None:
    labels = torch.tensor([0, 3, 3, 1, 3, 0, 2])
    found, expected = shared_group_pairs(torch.eye(4)[labels]), same_label_pairs(labels)
    torch.testing.assert_close(found.weights, expected.weights)
    torch.testing.assert_close(found.anchors, expected.anchors)


def loop_over_groups(similarity: Tensor, members: Tensor) -> float:
    """The mean over (image, group) entries by share of the mean over that group's other images, by share."""
    total, loss = 0.0, 0.0
    shares = similarity.log_softmax(-1)
    for image in range(len(members)):
        for group in range(members.shape[1]):
            own, others = float(members[image, group]), [i for i in range(len(members)) if i != image]
            weight = sum(float(members[other, group]) for other in others)
            if own > 0 and weight > 0:
                mean = sum(float(members[other, group]) * float(shares[image, other]) for other in others) / weight
                total, loss = total + own, loss - own * mean
    return loss / total


@pytest.mark.parametrize("likely", [1.0, 0.6])
def test_the_image_term_over_several_pairs_is_a_loop_over_groups(likely: float) -> None:
    groups, shares = pair_groups(LABELS, PRESENCE * likely, [0, 1, 0], 3)
    members = memberships(groups, shares, 7, torch.empty(0, dtype=torch.float64))
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    similarity.fill_diagonal_(torch.finfo(torch.float64).min)
    found = contrast(similarity, shared_group_pairs(members))
    assert float(found) == pytest.approx(loop_over_groups(similarity, members), rel=1e-6)


def test_group_means_weigh_by_share() -> None:
    members = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]])
    assert group_means(torch.tensor([[2.0, 5.0]]), members).tolist() == [[4.0, 2.0, 0.0]]


def test_draws_are_even_over_the_groups_of_all_pairs() -> None:
    groups, _ = pair_groups(LABELS, PRESENCE, [0, 1, 0], 3)
    drawn = group_balanced(groups, 70_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=6) / 10_000
    # Each of seven groups is drawn 10,000 times: image 0 half of group 1 and half of group 5.
    assert counts.tolist() == pytest.approx([1.0, 1.5, 1.5, 1.0, 1.0, 1.0], abs=0.05)


def test_soft_groups_are_drawn_evenly_and_their_images_by_share() -> None:
    presence = torch.tensor([[0.9], [0.1], [0.0], [0.5], [0.5], [0.2]])
    groups, shares = pair_groups(torch.tensor([0, 0, 0, 1, 1, 1]), presence, [0], 2)
    assert shares is not None
    drawn = group_balanced(groups, 90_000, torch.Generator().manual_seed(0), shares)
    counts = torch.bincount(drawn, minlength=6) / 30_000
    # Three groups: without (shares 0.1, 0.9 and 1, of 2), with (0.9 and 0.1, of 1), and the other class.
    expected = [0.1 / 2 + 0.9 / 1, 0.9 / 2 + 0.1 / 1, 1 / 2, 1 / 3, 1 / 3, 1 / 3]
    assert counts.tolist() == pytest.approx(expected, abs=0.02)


def with_pairs(study: Study, likely: float = 1.0) -> Study:
    """The small study under two pairs that say what its one attribute says."""

    def paired(examples: Examples) -> Examples:
        presence = (examples.groups % 2).double()[:, None].expand(-1, 2) * likely
        return Examples(examples.features, examples.labels, *pair_groups(examples.labels, presence, [0, 1], 2))

    return replace(
        study, train=paired(study.train), val=paired(study.val), pairs=((0, "water"), (1, "water")), attribute="2 pairs"
    )


@pytest.mark.parametrize(
    "name", ["clip+lc+vc+vs", "clip+lc+vc+ls", "group-dro", "erm-balanced", "erm-reweighted", "jtt"]
)
def test_pairs_that_say_what_one_attribute_says_train_the_same_model(study: Study, name: str) -> None:
    settings = TrainSettings(learning_rate=1e-2, epochs=2, batch_size=32)
    (one,) = train(study, METHODS[name], settings)
    (other,) = train(with_pairs(study), METHODS[name], settings)
    for head in one.heads:
        torch.testing.assert_close(other.heads[head], one.heads[head], rtol=0, atol=1e-9)
    assert other.history["worst_group"].to_pylist() == pytest.approx(one.history["worst_group"].to_pylist())
    assert "accuracy/landbird with water" in other.history.column_names


@pytest.mark.parametrize("name", ["group-dro", "erm-balanced", "erm-reweighted", "clip+lc+vc+vs"])
@pytest.mark.parametrize("likely", [1.0, 0.8])
def test_a_class_that_no_pair_is_of_is_not_unlearned(study: Study, name: str, likely: float) -> None:
    def paired(examples: Examples) -> Examples:
        presence = (examples.groups % 2).double()[:, None] * likely
        return Examples(examples.features, examples.labels, *pair_groups(examples.labels, presence, [1], 2))

    one = replace(
        study,
        train=paired(study.train),
        val=paired(study.val),
        group_prompts=study.group_prompts[:, 2:],
        pairs=((1, "water"),),
    )
    assert [one.group_name(group) for group in range(one.groups)] == [
        "waterbird without water",
        "waterbird with water",
        "landbird",
    ]
    (run,) = train(one, METHODS[name], TrainSettings(learning_rate=1e-2, epochs=20, batch_size=32))
    heads = {key: head[None] for key, head in run.heads.items()}
    predicted = predicted_classes(heads, one.val.features, one.class_prompts)[0]
    assert float((predicted == 0)[one.val.labels == 0].double().mean()) >= 0.5


def test_soft_groups_train_too_and_validate_by_share(study: Study) -> None:
    soft = with_pairs(study, 0.8)
    rates, _ = validation_accuracies({k: h[None] for k, h in study.heads.items()}, soft, soft.val)
    hard, _ = validation_accuracies({k: h[None] for k, h in study.heads.items()}, study, study.val)
    torch.testing.assert_close(rates[0, 1::2], hard[0, 1::2])  # only images that show it have a share of "with"
    (run,) = train(soft, METHODS["group-dro"], TrainSettings(learning_rate=1e-2, epochs=2, batch_size=32))
    assert run.diverged_step is None


def test_runs_of_a_study_with_pairs_stack_as_if_alone(study: Study) -> None:
    settings = TrainSettings(learning_rate=1e-2, epochs=2, batch_size=16)
    paired = with_pairs(study, 0.8)
    stacked = train(paired, METHODS["clip+lc+vc+vs"], settings, seeds=[0, 1])
    (alone,) = train(paired, METHODS["clip+lc+vc+vs"], settings, seeds=[1])
    for name, head in alone.heads.items():
        torch.testing.assert_close(stacked[1].heads[name], head, rtol=0, atol=1e-10)


def test_what_is_defined_by_one_attribute_refuses_several_pairs(study: Study) -> None:
    with pytest.raises(TrainingError, match="dfr knows one attribute of all classes, and 2 pairs are given"):
        train(with_pairs(study), METHODS["dfr"])
    one = replace(with_pairs(study), pairs=((0, "water"),))
    with pytest.raises(TrainingError, match="dfr knows one attribute of all classes, and the groups are those of one"):
        train(one, METHODS["dfr"])
    assert with_pairs(study).fingerprint() != study.fingerprint()


@pytest.mark.parametrize("losses", ["vs", "clip+vs"])
@pytest.mark.parametrize("likely", [1.0, 0.8])
def test_the_released_code_s_form_of_vs_refuses_pairs(study: Study, losses: str, likely: float) -> None:
    cosine = TrainSettings(similarity="cosine", epochs=1)
    with pytest.raises(TrainingError, match="knows one attribute of all classes"):
        train(with_pairs(study, likely), method_from_losses(losses), cosine)
