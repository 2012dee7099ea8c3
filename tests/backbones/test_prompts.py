"""Templates and what fills them."""

from __future__ import annotations

from despur.backbones.prompts import fill, openai_templates


def test_there_are_eighty_templates_each_with_one_slot() -> None:
    templates = openai_templates()
    assert len(templates) == len(set(templates)) == 80
    assert templates[0] == "a bad photo of a {}."
    assert {template.count("{}") for template in templates} == {1}


def test_prompts_are_template_major() -> None:
    assert fill(["a {}.", "the {}."], ["bird", "boat"]) == ["a bird.", "a boat.", "the bird.", "the boat."]


def test_a_phrase_with_braces_stays_as_it_is() -> None:
    assert fill(["a {}."], ["{0} {}"]) == ["a {0} {}."]
