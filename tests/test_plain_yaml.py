from __future__ import annotations

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
    ],
)
def test_what_is_not_plain_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(PlainYamlError, match=reason):
        parse_yaml(text)


def test_a_merged_mapping_may_be_overridden() -> None:
    text = "deep:\n  base: &base {seeds: 1, seed: 0}\nown: {<<: *base, seeds: 5}\n"
    assert parse_yaml(text)["own"] == {"seeds": 5, "seed": 0}


def test_the_same_key_in_two_mappings_is_two_keys() -> None:
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\n") == {"a": {"x": 1}, "b": {"x": 2}}
