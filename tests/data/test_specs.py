from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from despur.catalog import load_dataset
from despur.data.specs import parse_spec
from despur.errors import DataError


def test_a_spec_is_a_kind_a_place_and_options() -> None:
    spec = parse_spec("imagenet:/data/one, two,classes=baby pacifier, 898,boxes=xml")
    assert (spec.kind, spec.place) == ("imagenet", "/data/one, two")
    assert spec.options == {"classes": "baby pacifier, 898", "boxes": "xml"}
    assert spec.words("classes") == ["baby pacifier", "898"]
    assert spec.words("absent") == []


@given(st.text(alphabet="ab/ .:-", min_size=1))
def test_a_place_without_options_is_taken_as_it_is(place: str) -> None:
    assert parse_spec(f"folder:{place}").place == place


def test_an_options_path_is_relative_to_the_place() -> None:
    spec = parse_spec("waterbirds:/data/birds,masks=../CUB,boxes=/elsewhere")
    assert spec.path("masks") == Path("/data/CUB")
    assert spec.path("boxes") == Path("/elsewhere")
    assert spec.path("absent") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("waterbirds:x,mask=y", "there is no option 'mask'; did you mean 'masks'"),
        ("folder:x,scale=2", "there is no option 'scale'; folder: takes no options"),
        ("table:x.csv,seed=2", "there is no option 'seed'; choose from images"),
        ("birdland:birds:0.1,seed=2", "there is no option 'seed'"),
        ("birdland:objects:0.5", "the study of objects has one size"),
        ("imagenet:x,heldout=few", "heldout is 'few'; give a whole number"),
        ("imagenet:x,classes=,heldout=2", "the option 'classes' has no value"),
        ("imagenet:x,heldout=2,heldout=3", "the option 'heldout' is given twice"),
        ("imagenet:", "the spec names no place"),
        ("imagent:x", "no kind of dataset 'imagent'; did you mean 'imagenet'"),
    ],
)
def test_what_a_spec_cannot_mean_is_refused_not_passed_over(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(spec)
