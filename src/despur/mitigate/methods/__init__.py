"""Every mitigation method, by name."""

from __future__ import annotations

from collections.abc import Mapping

from despur.errors import SettingsError, nearest
from despur.mitigate.methods.contrastive import CLIP, LANGUAGE_RECIPE, VISION_RECIPE, method_from_losses
from despur.mitigate.methods.erm import ERM, ERM_PRIOR
from despur.mitigate.methods.group_dro import GROUP_DRO
from despur.mitigate.methods.method import Method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.methods.probe import ERM_PROBE
from despur.mitigate.objective import TERMS

__all__ = ["METHODS", "Method", "find_method", "method_from_losses"]

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (PRETRAINED, CLIP, ERM, ERM_PRIOR, ERM_PROBE, GROUP_DRO, LANGUAGE_RECIPE, VISION_RECIPE)
}


def find_method(name: str) -> Method:
    """The method of that name: one of ``METHODS``, or losses joined by plus signs or commas ("clip+vc+ls").

    Raises:
        SettingsError: there is no such method or loss.
    """
    if name in METHODS:
        return METHODS[name]
    losses = name.replace(",", "+").split("+")
    if len(losses) > 1 or name in TERMS:
        return method_from_losses(name)
    raise SettingsError(f"there is no method {name!r}", where="method", now=nearest(name, list(METHODS)))
