"""The model as it came: the row that every other is compared with."""

from __future__ import annotations

from despur.mitigate.methods.method import Method, no_terms, nothing

PRETRAINED = Method(name="pretrained", title="Pre-trained", terms=no_terms, trained=nothing, seeded=False)
