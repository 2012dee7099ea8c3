from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from despur.detect.plurals import plurals
from despur.detect.vocabulary import Vocabulary, load_vocabulary, named_classes, near_synonyms, normalise
from despur.errors import DataError, SettingsError


def removed(phrases: list[str], classes: list[str]) -> list[str]:
    return [removal.phrase for removal in named_classes(Vocabulary(tuple(phrases)), classes)]


def test_one_spelling_of_a_phrase() -> None:
    assert normalise("  Fire_Hydrant. ") == "fire hydrant"
    assert normalise("T-Shirt") == "t-shirt"
    assert normalise("--- ") == ""


def test_a_phrase_keeps_the_vowels_that_its_script_writes_as_marks() -> None:
    assert normalise("पानी") == "पानी"
    assert normalise(" बिल्ली. ") == "बिल्ली"
    assert normalise("ที่") == "ที่"
    assert normalise("❤\ufe0f") == normalise("()") == ""
    assert normalise("❤\ufe0f heart ❤\ufe0f") == "heart"
    assert normalise("crane (machine)") == "crane (machine)"


def test_a_class_in_such_a_script_is_told_from_a_word_that_differs_in_its_marks() -> None:
    assert removed(["पानी", "पान", "ठंडा पानी"], ["पानी"]) == ["पानी", "ठंडा पानी"]


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_the_builtin_vocabulary_is_clean_and_has_what_the_papers_shortcuts_need() -> None:
    phrases = load_vocabulary("builtin").phrases
    assert len(phrases) > 1000
    assert list(phrases) == sorted(set(phrases))
    assert all(normalise(phrase) == phrase for phrase in phrases)
    assert {"baby", "water", "can", "hand", "ring", "pencil", "bamboo forest"} <= set(phrases)


def test_the_builtin_vocabulary_says_where_it_comes_from_and_has_a_phrase_a_line() -> None:
    lines = files("despur.detect").joinpath("vocabularies/builtin.txt").read_text(encoding="utf-8").splitlines()
    note = " ".join(line.lstrip("# ") for line in lines[: lines.index("")])
    assert "Source:" in note
    assert "licence" in note
    told = re.search(r"some ([\d,]+) things", note)
    assert told is not None
    phrases = [line for line in lines if line and not line.startswith("#")]
    assert len(phrases) == pytest.approx(int(told[1].replace(",", "")), abs=25)
    assert len(phrases) == len(set(phrases)) == len(load_vocabulary("builtin").phrases)


def test_visual_genomes_synsets_become_words(tmp_path: Path) -> None:
    (tmp_path / "object_synsets.json").write_text(json.dumps({"stoplight": "traffic_light.n.01", "lake": "lake.n.01"}))
    assert load_vocabulary(f"visual-genome:{tmp_path}").phrases == ("lake", "traffic light")
    (tmp_path / "attribute_synsets.json").write_text(json.dumps({"wet": "wet.s.01"}))
    assert load_vocabulary(f"visual-genome:{tmp_path}").phrases == ("lake", "traffic light", "wet")


def test_vocabularies_merge_into_unique_sorted_phrases(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("# my own\nZebra crossing\n\nBABY\nbaby\n", encoding="utf-8")
    merged = load_vocabulary(["builtin", f"file:{mine}"]).phrases
    assert merged.count("baby") == 1
    assert "zebra crossing" in merged
    assert load_vocabulary(f"file:{mine}").phrases == ("baby", "zebra crossing")


def test_the_imagenet_vocabulary_is_its_class_names() -> None:
    assert "tench" in load_vocabulary("imagenet").phrases


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("buildin", SettingsError, "did you mean 'builtin'"),
        ("file:", SettingsError, "write file:PATH"),
        ("file:/nowhere/at/all.txt", DataError, "no such file"),
    ],
)
def test_a_vocabulary_that_cannot_be_had_says_why(spec: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_vocabulary(spec)


def test_files_that_are_not_what_they_should_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "object_synsets.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"object_synsets\.json: it does not map"):
        load_vocabulary(f"visual-genome:{tmp_path}")
    (tmp_path / "object_synsets.json").write_bytes('{"größe": "size.n.01"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"object_synsets\.json: it is not text in UTF-8; download"):
        load_vocabulary(f"visual-genome:{tmp_path}")
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    with pytest.raises(DataError, match="holds no phrase"):
        load_vocabulary(f"file:{empty}")
    empty.write_bytes("größe".encode("latin-1"))
    with pytest.raises(DataError, match="not text in UTF-8"):
        load_vocabulary(f"file:{empty}")


@pytest.mark.parametrize("synset", [None, 3, ["lake.n.01"]])
def test_a_synset_that_is_no_text_is_not_made_a_phrase(tmp_path: Path, synset: object) -> None:
    (tmp_path / "object_synsets.json").write_text(json.dumps({"stoplight": "traffic_light.n.01", "lake": synset}))
    with pytest.raises(DataError, match=r"object_synsets\.json: the synset of 'lake' is no text"):
        load_vocabulary(f"visual-genome:{tmp_path}")


def test_a_class_leaves_with_its_plural_its_spellings_and_its_compounds() -> None:
    phrases = ["bird feeder", "flock of waterbirds", "large water-bird", "water", "water bird", "waterbirds"]
    gone = ["flock of waterbirds", "large water-bird", "water bird", "waterbirds"]
    assert removed(phrases, ["waterbird"]) == gone


def test_the_parts_of_a_class_name_stay_because_they_are_what_is_looked_for() -> None:
    assert removed(["baby", "bottle", "pacifier", "water"], ["baby pacifier", "water bottle"]) == []


def test_a_class_that_is_plural_takes_its_singular_and_a_qualifier_does_not_matter() -> None:
    assert removed(["sunglass", "crane", "craned neck"], ["sunglasses", "crane (machine)"]) == ["sunglass", "crane"]


def test_what_was_removed_is_listed_with_the_reason() -> None:
    vocabulary = Vocabulary(("can", "can openers"))
    left = vocabulary.without(named_classes(vocabulary, ["can opener"]))
    assert left.phrases == ("can",)
    assert [(one.phrase, one.reason) for one in left.removed] == [("can openers", "names the class 'can opener'")]


def test_near_synonyms_are_those_the_text_tower_cannot_tell_from_a_class() -> None:
    vocabulary = Vocabulary(("dummy", "sea"))
    removals = near_synonyms(
        vocabulary, torch.tensor([[2.0, 0.1], [0.0, 3.0]]), ["pacifier"], torch.tensor([[1.0, 0.0]]), threshold=0.9
    )
    assert [removal.phrase for removal in removals] == ["dummy"]
    assert "close to the class 'pacifier'" in removals[0].reason


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("bird", "birds"),
        ("box", "boxes"),
        ("berry", "berries"),
        ("toy", "toys"),
        ("knife", "knives"),
        ("leaf", "leaves"),
        ("fisherman", "fishermen"),
        ("tomato", "tomatoes"),
        ("quiz", "quizzes"),
        ("mouse", "mice"),
        ("brush", "brushes"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert many in plurals(one)
