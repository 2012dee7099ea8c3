from __future__ import annotations

import re

import pytest

from despur.workspace import PlainYamlError, parse_yaml


def test_plain_values_are_read_as_they_are_written() -> None:
    assert parse_yaml("seed: 3\nmodels: [a, b]\nnote: null\n") == {"seed": 3, "models": ["a", "b"], "note": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed: 1\nmodels: a\nseed: 2\n", "'seed' is given twice, in lines 1 and 3"),
        ("mitigate:\n  seeds: 1\n  seeds: 5\n", "'seeds' is given twice, in lines 2 and 3"),
        ("- {a: 1, 'a': 2}\n", "'a' is given twice, in lines 1 and 1"),
        ("a: [1\nb: 2\n", "in line 2"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor .* in line 1"),
        ("{" * 3000, "it nests too deeply"),
        ("at: 2024-13-45\n", "month must be in 1..12"),
        ("a: \x00", "unacceptable character"),
        ('a: "\\0"\n', "a text holds a character that none can in line 1"),
        ('a: 1\n"\\ud800": 2\n', "a text holds a character that none can in line 2"),
        ("a: 0x1" + "0" * 5000, "a number is too long in line 1"),
        ("a: &a [1, *a]\n", "a value holds itself in line 1"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(PlainYamlError, match=reason):
        parse_yaml(text)


BOMB = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{x{n}: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12))]
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", [BOMB, re.sub(r"\{x\d+:", "{<<:", BOMB)], ids=["lists", "merged"])
def test_a_few_lines_that_stand_for_billions_of_values_are_refused_before_they_are_built(text: str) -> None:
    with pytest.raises(PlainYamlError, match="it stands for over 1,000,000 values"):
        parse_yaml(text)


def test_aliases_that_stand_for_little_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]\n") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_a_merged_mapping_may_be_overridden() -> None:
    text = "deep:\n  base: &base {seeds: 1, seed: 0}\nown: {<<: *base, seeds: 5}\n"
    assert parse_yaml(text)["own"] == {"seeds": 5, "seed": 0}


def test_the_same_key_in_two_mappings_is_two_keys() -> None:
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\n") == {"a": {"x": 1}, "b": {"x": 2}}
