"""Says which class a picture shows, with the model that lies beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch.nn.functional import normalize

HERE = Path(__file__).resolve().parent
ABOUT: dict[str, Any] = json.loads((HERE / "space.json").read_text(encoding="utf-8"))
SOURCE = f"local-dir:{HERE / 'model'}"

_loaded: list[Any] = []


def _load() -> list[Any]:
    """Model, preprocessing and one vector a class, when they are first asked for."""
    if not _loaded:
        made: Any = open_clip.create_model_and_transforms(SOURCE)
        model, _, preprocess = made
        model.eval()
        tokenizer = open_clip.get_tokenizer(SOURCE)
        with torch.no_grad():
            vectors = [
                normalize(model.encode_text(tokenizer(prompts), normalize=True).mean(0), dim=-1)
                for prompts in ABOUT["prompts"].values()
            ]
        _loaded.extend((model, preprocess, torch.stack(vectors)))
    return _loaded


@torch.no_grad()
def predict(image: Any) -> dict[str, float]:
    """Each class's share, in [0, 1], for a PIL image."""
    model, preprocess, vectors = _load()
    features = model.encode_image(preprocess(image.convert("RGB")).unsqueeze(0), normalize=True)
    logits = model.logit_scale.exp() * features @ vectors.mT
    return dict(zip(ABOUT["prompts"], logits.softmax(-1)[0].tolist(), strict=True))


def main() -> None:
    """Open the page."""
    import gradio  # pyright: ignore[reportMissingImports]

    page: Any = gradio.Interface(
        predict, gradio.Image(type="pil"), gradio.Label(), title=ABOUT["title"], flagging_mode="never"
    )
    page.launch()


if __name__ == "__main__":
    main()
