"""Scenes: the same seed gives the same bytes, masks are exact, and the place leaves no trace on the bird."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from despur.birdland.birds import BIRDS, LANDBIRD, SPREAD, WATERBIRD, affinity, bird_shape, sketch_bird
from despur.birdland.canvas import SIDE, Canvas, Sketch, Stance
from despur.birdland.places import PLACES
from despur.birdland.scene import BIRD_SIZES, Scene, draw_bird_scene, draw_object_scene
from despur.birdland.tabletop import COMPANIONS, SUBJECTS
from despur.birdland.things import THINGS


def bird_scene(seed: int, bird: str = WATERBIRD, place: str = "land") -> Scene:
    return draw_bird_scene(np.random.default_rng(seed), bird=bird, place=place)


def object_scene(seed: int, subject: str = "teapot", companions: tuple[str, ...] = ("cup",)) -> Scene:
    return draw_object_scene(np.random.default_rng(seed), subject=subject, companions=companions)


def square(left: float, top: float, right: float, bottom: float) -> Sketch:
    sketch = Sketch()
    sketch.rectangle(left, top, right, bottom, (200.0, 100.0, 50.0))
    return sketch


AS_DRAWN = Stance(0.0, 0.0, 1.0)
BLACK = np.zeros((3, SIDE, SIDE), dtype=np.float32)
DAYLIGHT = np.ones((3, SIDE, SIDE), dtype=np.float32)


@pytest.mark.parametrize("draw", [bird_scene, object_scene])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(draw: type) -> None:
    first, again, other = draw(5), draw(5), draw(6)

    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert [(thing.name, thing.box) for thing in first.things] == [(thing.name, thing.box) for thing in again.things]
    assert first.pixels.tobytes() != other.pixels.tobytes()


@pytest.mark.parametrize("bird", BIRDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_scene_is_96_pixels_square_and_its_bird_comes_first(bird: str, place: str) -> None:
    scene = bird_scene(1, bird, place)

    assert scene.pixels.shape == (SIDE, SIDE, 3)
    assert scene.pixels.dtype == np.uint8
    assert scene.place == place
    assert scene.things[0].name == bird
    assert [thing.name for thing in scene.things].count(bird) == 1


@given(st.integers(0, 2**32), st.sampled_from(BIRDS), st.sampled_from(PLACES))
@settings(max_examples=40, deadline=None)
def test_every_box_is_the_tight_box_of_its_mask_and_masks_do_not_overlap_by_more_than_a_border(
    seed: int, bird: str, place: str
) -> None:
    scene = bird_scene(seed, bird, place)

    for thing in scene.things:
        rows, columns = np.nonzero(thing.mask)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    # Two objects can each cover half of one pixel, three cannot.
    assert np.sum([thing.mask for thing in scene.things], axis=0).max() <= 2


def test_a_mask_is_what_is_at_least_half_covered() -> None:
    canvas = Canvas()
    canvas.add(square(10.0, 20.0, 12.74, 21.99), AS_DRAWN)

    (mask,) = canvas.masks()

    # Whole pixels 10 and 11, three quarters of pixel 12.
    assert np.argwhere(mask).tolist() == [[20, 10], [20, 11], [20, 12], [21, 10], [21, 11], [21, 12]]


def test_a_thing_is_hidden_where_a_later_one_stands_before_it() -> None:
    canvas = Canvas()
    canvas.add(square(10.0, 10.0, 19.99, 19.99), AS_DRAWN)
    canvas.add(square(15.0, 10.0, 29.99, 19.99), AS_DRAWN)

    behind, ahead = canvas.masks()

    assert behind[10:20, 10:15].all()
    assert behind.sum() == 50
    assert ahead[10:20, 15:30].all()
    assert ahead.sum() == 150


def test_an_edge_is_antialiased_between_the_paint_and_the_backdrop() -> None:
    canvas = Canvas()
    canvas.add(square(10.0, 10.0, 20.49, 20.0), AS_DRAWN)

    picture = canvas.picture(BLACK, DAYLIGHT)

    assert picture[15, 15].tolist() == [200, 100, 50]
    assert picture[15, 20].tolist() == [100, 50, 25]
    assert picture[15, 21].tolist() == [0, 0, 0]


def test_what_reaches_past_the_frame_is_cut_off() -> None:
    canvas = Canvas()
    canvas.add(square(-20.0, 90.0, 4.99, 140.0), AS_DRAWN)
    canvas.add(square(200.0, 200.0, 210.0, 210.0), AS_DRAWN)

    cut, outside = canvas.masks()

    assert cut[90:, :5].all()
    assert cut.sum() == 30
    assert not outside.any()


@pytest.mark.parametrize("bird", BIRDS)
@pytest.mark.parametrize("seed", range(25))
def test_the_place_leaves_the_birds_pixels_as_they_are(bird: str, seed: int) -> None:
    land, water = bird_scene(seed, bird, "land"), bird_scene(seed, bird, "water")
    mask = land.things[0].mask
    inside = mask.copy()
    # Pixels with the bird on all sides hold nothing of the backdrop.
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]

    assert np.array_equal(mask, water.things[0].mask)
    assert inside.sum() > 10
    differing = (land.pixels[inside] != water.pixels[inside]).any(axis=1)
    # Gaps of a sample or two, between the toes, let the backdrop through.
    assert differing.mean() < 0.1
    assert not np.array_equal(land.pixels, water.pixels)


@pytest.mark.parametrize("seed", range(40))
def test_a_bird_is_small_whole_and_can_be_seen(seed: int) -> None:
    bird = bird_scene(seed, BIRDS[seed % 2], PLACES[seed // 2 % 2]).things[0]
    x0, y0, x1, y1 = bird.box

    assert max(x1 - x0, y1 - y0) <= BIRD_SIZES[1] * SIDE + 2
    assert bird.mask.sum() >= 40
    assert min(x0, y0) >= 0
    assert max(x1, y1) <= SIDE


def test_things_of_one_place_are_never_seen_in_the_other() -> None:
    seen = {
        place: {thing.name for seed in range(60) for thing in bird_scene(seed, LANDBIRD, place).things[1:]}
        for place in PLACES
    }

    for place, names in seen.items():
        assert {THINGS[name].home for name in names} == {"ground", "sky", place}


def test_typical_birds_differ_in_every_cue_and_lie_on_the_side_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    land, water = (np.array([list(vars(bird_shape(rng, lean)).values()) for _ in range(200)]) for lean in (-1.0, 1.0))

    apart = np.abs(land.mean(axis=0) - water.mean(axis=0)) / np.maximum(land.std(axis=0), water.std(axis=0))

    assert apart.min() > 5
    assert bird_shape(rng, 1.0).neck > bird_shape(rng, -1.0).neck


def test_about_three_birds_in_a_hundred_look_like_the_other_kind() -> None:
    rng = np.random.default_rng(0)
    leans = np.array([affinity(rng, 1.0) for _ in range(20_000)])

    expected = 0.5 * math.erfc(1 / SPREAD / math.sqrt(2))

    assert 0.03 < expected < 0.04
    assert abs((leans < 0).mean() - expected) < 0.005


def test_both_kinds_come_in_the_same_colours_and_sizes() -> None:
    """Means over many birds, of the visible mask's longer side and of its colour, differ by less than chance allows."""
    measured = {
        bird: np.array(
            [
                (max(x1 - x0, y1 - y0), *scene.pixels[scene.things[0].mask].mean(axis=0))
                for scene in (bird_scene(1000 * kind + seed, bird, PLACES[seed % 2]) for seed in range(150))
                for x0, y0, x1, y1 in [scene.things[0].box]
            ]
        )
        for kind, bird in enumerate(BIRDS)
    }
    land, water = measured.values()

    error = np.sqrt(land.var(axis=0) / len(land) + water.var(axis=0) / len(water))
    assert (np.abs(land.mean(axis=0) - water.mean(axis=0)) < 3.5 * error).all()


@pytest.mark.parametrize("kind", BIRDS)
def test_a_bird_stands_with_its_feet_on_the_origin(kind: str) -> None:
    _, top, _, bottom = sketch_bird(np.random.default_rng(3), kind).extent()

    assert 0 <= bottom < 0.1
    assert top < -0.5


@pytest.mark.parametrize("name", [*THINGS, *COMPANIONS, *SUBJECTS])
def test_every_thing_is_about_one_unit_tall_and_stands_on_its_origin(name: str) -> None:
    draw = THINGS[name].draw if name in THINGS else {**COMPANIONS, **SUBJECTS}[name]
    for seed in range(10):
        left, top, right, bottom = draw(np.random.default_rng(seed)).extent()

        assert -1.3 < top < -0.25
        assert -0.05 < bottom < 0.12
        assert -1.2 < left < 0 < right < 1.2


@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_an_object_scene_shows_its_subject_first_and_every_companion_once(subject: str) -> None:
    for seed in range(5):
        scene = object_scene(seed, subject, ("cup", "hat", "book"))
        names = [thing.name for thing in scene.things]

        assert names[0] == subject
        assert scene.place == "room"
        assert [names.count(name) for name in ("cup", "hat", "book")] == [1, 1, 1]
        assert all(thing.mask.sum() >= 30 for thing in scene.things)


def test_the_place_is_easier_to_tell_than_the_bird() -> None:
    """A linear classifier on 16 x 16 pixels: what a small network learns first."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    scenes = [bird_scene(seed, BIRDS[seed % 2], PLACES[seed // 2 % 2]) for seed in range(900)]
    pixels = np.array([scene.pixels.reshape(16, 6, 16, 6, 3).mean((1, 3)).ravel() for scene in scenes]) / 255 - 0.5
    bird, place = np.arange(900) % 2, np.arange(900) // 2 % 2

    def accuracy(target: np.ndarray) -> float:
        model = linear_model.RidgeClassifier(alpha=100.0).fit(pixels[:600], target[:600])
        return model.score(pixels[600:], target[600:])

    assert accuracy(place) > 0.8
    assert accuracy(bird) < 0.65
