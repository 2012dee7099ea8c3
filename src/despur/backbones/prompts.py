"""Prompts: templates filled with class names and with phrases."""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import OPENAI_IMAGENET_TEMPLATES

from despur.errors import SettingsError

SLOT = "{}"


def openai_templates() -> tuple[str, ...]:
    """OpenAI's 80 ImageNet templates as strings with one slot: "a bad photo of a {}."."""
    return tuple(template(SLOT) for template in OPENAI_IMAGENET_TEMPLATES)


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """A user's own templates, each with exactly one slot ``{}``.

    Raises:
        SettingsError: there is none, or one has no slot or several; the message names it.
    """
    if not templates:
        raise SettingsError("there are no templates", now="give at least one, such as 'a photo of a {}.'")
    for template in templates:
        if template.count(SLOT) != 1:
            raise SettingsError(
                f"the template {template!r} has {template.count(SLOT)} slots", now="write {} once, where the name goes"
            )
    return tuple(templates)


def fill(templates: Sequence[str], phrases: Sequence[str]) -> list[str]:
    """Every template with every phrase, template-major: row ``t * len(phrases) + p`` is template t with phrase p.

    The order is that of an array [templates, phrases] (METHOD section 2 tells what became of code that mixed it up).
    Phrases are put in as they are, braces and all.
    """
    return [template.replace(SLOT, phrase) for template in templates for phrase in phrases]
