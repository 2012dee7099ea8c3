"""The model as it came: the row that every other is compared with."""

from __future__ import annotations

from despur.mitigate.methods.method import Method

PRETRAINED = Method(
    name="pretrained", title="Pre-trained", terms=lambda settings: {}, trained=lambda heads, settings: []
)
