"""Fine-tuning with the CLIP loss, the paper's two recipes, and any other subset of its losses (Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from despur.mitigate.methods.method import Method
from despur.mitigate.methods.requirements import needs_a_shortcut, needs_two_groups_in_a_class
from despur.mitigate.objective import find_terms
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study

ORDER = ("clip", "lc", "vc", "ls", "vs")
"""How a method's name lists its losses: as the paper's recipes do."""


def method_from_losses(losses: str, weights: Mapping[str, float] | None = None) -> Method:
    """The method that minimises a weighted sum of the paper's losses.

    Args:
        losses: names separated by commas or plus signs: "clip,vc,lc,ls".
        weights: of the terms; 1 where not given.

    Raises:
        SettingsError: an unknown name, a name given twice, none at all, or a weight that is negative.
    """
    given = [name.strip() for name in losses.replace("+", ",").split(",") if name.strip()]
    # One order, whatever the user's: the same losses are the same method, with the same runs and settings.
    names = sorted(given, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    settings = TrainSettings.checked(weights=dict(weights or {}))
    find_terms(names, settings)
    title = "Fine-tuned with L_CLIP" if names == ["clip"] else " + ".join(names)
    return Method(
        name="+".join(names),
        title=title,
        terms=lambda chosen: find_terms(names, chosen),
        settings=settings,
        check=_check(names),
        note=_note(names),
    )


def _check(names: list[str]) -> Callable[[Study], None]:
    """What the losses ask of a study: L_vs two groups in a class, L_ls words for what is spurious."""

    def check(study: Study) -> None:
        if "ls" in names:
            needs_a_shortcut(study, "the loss ls")
        if "vs" in names:
            needs_two_groups_in_a_class(study)

    return check


def _note(names: list[str]) -> str:
    """L_vs reads every image's group; L_ls only the words that name the groups."""
    if "vs" in names:
        return "given the group labels"
    return "given the attribute's phrase" if "ls" in names else ""


CLIP = method_from_losses("clip")
LANGUAGE_RECIPE = method_from_losses("clip+lc+vc+ls")
VISION_RECIPE = method_from_losses("clip+lc+vc+vs")
