"""Templates and what fills them."""

from __future__ import annotations

import pytest

from despur.backbones.prompts import check_templates, fill, openai_templates
from despur.errors import SettingsError


def test_there_are_eighty_templates_each_with_one_slot() -> None:
    templates = openai_templates()
    assert len(templates) == len(set(templates)) == 80
    assert templates[0] == "a bad photo of a {}."
    assert check_templates(templates) == templates


def test_prompts_are_template_major() -> None:
    assert fill(["a {}.", "the {}."], ["bird", "boat"]) == ["a bird.", "a boat.", "the bird.", "the boat."]


def test_a_phrase_with_braces_stays_as_it_is() -> None:
    assert fill(["a {}."], ["{0} {}"]) == ["a {0} {}."]


@pytest.mark.parametrize(("templates", "sentence"), [([], "no templates"), (["a photo"], "'a photo' has 0 slots")])
def test_templates_that_cannot_be_filled_are_refused(templates: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        check_templates(templates)
