"""Every mitigation method, by name."""

from __future__ import annotations

from collections.abc import Mapping

from despur.errors import SettingsError, nearest
from despur.mitigate.methods.adapters import CONTRASTIVE_ADAPTER, ERM_ADAPTER
from despur.mitigate.methods.afr import AFR
from despur.mitigate.methods.balanced import ERM_BALANCED, ERM_REWEIGHTED
from despur.mitigate.methods.contrastive import CLIP, LANGUAGE_RECIPE, VISION_RECIPE, method_from_losses
from despur.mitigate.methods.dfr import DFR, DFR_TRAIN
from despur.mitigate.methods.erm import ERM, ERM_PRIOR
from despur.mitigate.methods.group_dro import GROUP_DRO
from despur.mitigate.methods.jtt import JTT
from despur.mitigate.methods.method import Method
from despur.mitigate.methods.orthogonal import ORTH_CALI, ORTH_PROJ
from despur.mitigate.methods.perception import PERCEPTION_CLIP
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.methods.probe import ERM_PROBE
from despur.mitigate.methods.roboshot import ROBOSHOT
from despur.mitigate.methods.wise_ft import WISE_FT
from despur.mitigate.objective import TERMS

__all__ = ["DESPUR", "METHODS", "RECOMMENDED", "Method", "find_method", "method_from_losses"]

DESPUR, RECOMMENDED = "despur", "group-dro"
"""What ``--method despur`` stands for. ``benchmarks/default_method.py`` has looked for something better that is told no
more; docs/methods.md says what it found."""

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        PRETRAINED,
        ORTH_PROJ,
        ORTH_CALI,
        ROBOSHOT,
        PERCEPTION_CLIP,
        CLIP,
        ERM,
        ERM_PRIOR,
        ERM_PROBE,
        ERM_ADAPTER,
        WISE_FT,
        JTT,
        AFR,
        CONTRASTIVE_ADAPTER,
        ERM_BALANCED,
        ERM_REWEIGHTED,
        GROUP_DRO,
        DFR_TRAIN,
        DFR,
        LANGUAGE_RECIPE,
        VISION_RECIPE,
    )
}
"""First what trains nothing, then what is told no group, then what is; the paper's recipes last."""


def find_method(name: str) -> Method:
    """The method of that name: one of ``METHODS``, "despur" for the recommended one, or losses joined by plus signs or
    commas ("clip+vc+ls").

    Raises:
        SettingsError: there is no such method or loss.
    """
    if name == DESPUR:
        return METHODS[RECOMMENDED]
    if name in METHODS:
        return METHODS[name]
    losses = name.replace(",", "+").split("+")
    if len(losses) > 1 or name in TERMS:
        return method_from_losses(name)
    raise SettingsError(f"there is no method {name!r}", where="method", now=nearest(name, [DESPUR, *METHODS]))
