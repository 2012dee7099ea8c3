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

from despur.workspace import write_whole

Encode = Callable[[list[str]], Float[Tensor, "texts d_text"]]


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
        """Features of the texts in order; ``encode`` is called for those that are not there yet, if any."""
        known, stored = self._load()
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        if missing:
            fresh = encode(missing)
            stored = fresh if stored is None else torch.cat([stored, fresh])
            known |= {text: len(known) + place for place, text in enumerate(missing)}
            self._save(list(known), stored)
        assert stored is not None, "no texts were asked for"
        return stored[[known[text] for text in texts]]

    def _load(self) -> tuple[dict[str, int], Tensor | None]:
        if not self.file.exists():
            return {}, None
        try:
            with safe_open(self.file, framework="pt") as opened:
                about = json.loads((opened.metadata() or {})["about"])
                if about["state"] != self.state:
                    return {}, None
                texts: list[str] = about["texts"]
                return {text: row for row, text in enumerate(texts)}, opened.get_tensor("features")
        except (SafetensorError, KeyError, ValueError):
            return {}, None  # damaged: whatever is needed is encoded again

    def _save(self, texts: list[str], features: Tensor) -> None:
        # One entry: safetensors writes several in no fixed order, and the same texts should give the same bytes.
        about = json.dumps({"state": self.state, "texts": texts}, ensure_ascii=False)
        with write_whole(self.file) as temporary:
            save_file({"features": features.contiguous()}, temporary, metadata={"about": about})
