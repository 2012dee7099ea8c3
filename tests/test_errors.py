from __future__ import annotations

from despur.errors import LISTED, nearest


def test_a_hint_names_the_closest_word() -> None:
    assert nearest("clp", ["clip", "vc"]) == "did you mean 'clip'?"


def test_a_hint_lists_words_when_none_is_close() -> None:
    assert nearest("x", ("clip", "vc")) == "choose from clip, vc"


def test_a_hint_over_many_words_stays_a_sentence() -> None:
    hint = nearest("x", [f"class {number:04d}" for number in range(1000)])
    assert hint.endswith(f"class {LISTED - 1:04d} and {1000 - LISTED} more")


def test_a_hint_over_no_words_says_so() -> None:
    assert nearest("x", []) == "there are none to choose from"
