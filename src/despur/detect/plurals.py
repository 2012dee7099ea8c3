"""English plurals, as far as names of things need them."""

from __future__ import annotations

import re

IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "louse": "lice",
    "ox": "oxen",
    "die": "dice",
    "cactus": "cacti",
    "fungus": "fungi",
    "octopus": "octopi",
}

F_TO_VES = re.compile(r"(?:el|cal|hal|lea|loa|shel|thie|scar|whar|hoo|kni|li|wi|wol|dwar|shea)fe?$")


def plurals(name: str) -> set[str]:
    """Every spelling of a name's plural that is in use; of "box" that is "boxes", of "fisherman" "fishermen".

    Args:
        name: its words joined or not; only the end changes. An empty name has no plural.
    """
    if not name:
        return set()
    forms = {name[: -len(one)] + many for one, many in IRREGULAR.items() if name.endswith(one)}
    if re.search(r"(?:s|x|z|ch|sh)$", name):
        forms.add(name + "es")
    elif re.search(r"[^aeiou]y$", name):
        forms.add(name[:-1] + "ies")
    else:
        forms.add(name + "s")
    if name.endswith("z"):
        forms.add(name + "zes")
    if re.search(r"[^aeiou]o$", name):
        forms.add(name + "es")
    if F_TO_VES.search(name):
        forms.add(re.sub(r"fe?$", "ves", name))
    return forms
