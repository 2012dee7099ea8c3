"""How an epoch's images are drawn."""

from __future__ import annotations

import torch

from despur.mitigate.batches import Batches, group_balanced, shuffled

LABELS = torch.tensor([0] * 8 + [1] * 3)
GROUPS = torch.tensor([0] * 7 + [1] + [3] * 3)  # group 2 is empty


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(*seeds: int, batch_size: int = 4) -> Batches:
    return Batches(
        LABELS,
        GROUPS,
        batch_size=batch_size,
        templates=80,
        sampler=shuffled,
        generators=[generator(seed) for seed in seeds],
    )


def test_an_epoch_shows_no_image_twice_and_leaves_out_less_than_a_batch() -> None:
    epoch = batches(0).epoch()
    rows = epoch.rows.flatten().tolist()
    assert epoch.rows.shape == (2, 1, 4)
    assert len(set(rows)) == 8


def test_each_epoch_has_an_order_of_its_own_and_labels_go_with_their_images() -> None:
    draw = batches(0)
    first, second = draw.epoch(), draw.epoch()
    assert not torch.equal(first.rows, second.rows)
    assert torch.equal(first.labels, LABELS[first.rows])
    assert torch.equal(first.groups, GROUPS[first.rows])
    assert ((first.templates >= 0) & (first.templates < 80)).all()


def test_a_run_draws_the_same_alone_and_in_a_stack() -> None:
    stacked, alone = batches(3, 5, 7), batches(5)
    for _ in range(3):
        together, single = stacked.epoch(), alone.epoch()
        assert torch.equal(together.rows[:, 1], single.rows[:, 0])
        assert torch.equal(together.templates[:, 1], single.templates[:, 0])
    assert not torch.equal(together.rows[:, 0], together.rows[:, 1])


def test_fewer_images_than_a_batch_make_one_smaller_batch() -> None:
    assert batches(0, batch_size=128).epoch().rows.shape == (1, 1, 11)


def test_group_balanced_draws_come_from_every_filled_group_alike_and_from_its_images_alike() -> None:
    rows = group_balanced(GROUPS, 30_000, generator(0))
    shares = torch.bincount(GROUPS[rows], minlength=4) / len(rows)
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 1 / 3, 0, 1 / 3]), rtol=0, atol=0.02)
    within = torch.bincount(rows, minlength=11)[8:] / (GROUPS[rows] == 3).sum()
    torch.testing.assert_close(within, torch.full((3,), 1 / 3), rtol=0, atol=0.02)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    batches(0).epoch()
    group_balanced(GROUPS, 10, generator(0))
    assert torch.equal(torch.get_rng_state(), before)
