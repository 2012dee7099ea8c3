"""Text features on disk: each text is encoded once a workspace, whichever stage asks for it first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from despur.workspace import fingerprint, write_whole

Encode = Callable[[list[str]], Float[Tensor, "texts d_text"]]

AT_ONCE = 4096
"""Texts that are encoded before the file is written; what is lost at most when a run is killed."""


class TextStore:
    """Features of texts before the projection, float32, in one safetensors file that names its texts.

    Args:
        file: where it lies; made when something is first encoded.
        state: fingerprint of the text encoder. Features of another state are not read.
    """

    def __init__(self, file: Path, state: str) -> None:
        self.file = file
        self.state = state

    def features(self, texts: Sequence[str], encode: Encode) -> Float[Tensor, "texts d_text"]:
        """Features of the texts (one at least) in order; ``encode`` is called for those that are not there yet."""
        known, stored = self._load()
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        for start in range(0, len(missing), AT_ONCE):
            part = missing[start : start + AT_ONCE]
            stored = torch.cat([stored, encode(part)])
            known |= {text: len(known) + place for place, text in enumerate(part)}
            self._save(list(known), stored)
        return stored[[known[text] for text in texts]]

    def _load(self) -> tuple[dict[str, int], Tensor]:
        """What the file holds: the row of each text, and the rows; nothing where it is damaged or of another state."""
        nothing: tuple[dict[str, int], Tensor] = {}, torch.empty(0)
        if not self.file.exists():
            return nothing
        try:
            with safe_open(self.file, framework="pt") as opened:
                about, features = opened.metadata(), opened.get_tensor("features")
            entry = json.loads(about["index"])
            texts: list[str] = entry["texts"]
            whole = entry["checksum"] == self._checksum(texts, features)
        except (SafetensorError, KeyError, ValueError, TypeError, OSError):
            return nothing
        return ({text: row for row, text in enumerate(texts)}, features) if whole else nothing

    def _save(self, texts: list[str], features: Tensor) -> None:
        entry = {"checksum": self._checksum(texts, features), "texts": texts}
        # One entry: safetensors writes several in an order of chance, and equal stores are equal bytes.
        about = {"index": json.dumps(entry, ensure_ascii=False)}
        with write_whole(self.file) as temporary:
            save_file({"features": features}, temporary, metadata=about)

    def _checksum(self, texts: list[str], features: Tensor) -> str:
        """Of the encoder's state, the texts and their features: a match says that all three are as they were."""
        return fingerprint(self.state, texts, features.numpy().tobytes())
