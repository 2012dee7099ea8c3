"""Prompts: templates filled with class names and with phrases."""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import OPENAI_IMAGENET_TEMPLATES

SLOT = "{}"


def openai_templates() -> tuple[str, ...]:
    """OpenAI's 80 ImageNet templates as strings with one slot: "a bad photo of a {}."."""
    return tuple(template(SLOT) for template in OPENAI_IMAGENET_TEMPLATES)


def fill(templates: Sequence[str], phrases: Sequence[str]) -> list[str]:
    """Every template with every phrase, template-major: row ``t * len(phrases) + p`` is template t with phrase p.

    The order is that of an array [templates, phrases] (METHOD section 2 tells what became of code that mixed it up).
    Phrases are put in as they are, braces and all.
    """
    return [template.replace(SLOT, phrase) for template in templates for phrase in phrases]
