"""A Hugging Face Space around an exported model: a page on which anybody tries it, and which fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import yaml

from despur.workspace import write_json

MODEL = "model"
"""The folder of the Space that holds the exported model and its card."""

REQUIREMENTS = ("gradio", "open_clip_torch", "torch")


def write_space(folder: Path, title: str, prompts: Mapping[str, Sequence[str]]) -> None:
    """Write everything of a Space but the model: ``app.py``, what it says of itself, and what it needs.

    Args:
        prompts: by class, the texts whose mean stands for it.
    """
    app = resources.files(__name__).joinpath("app.py").read_text(encoding="utf-8")
    (folder / "app.py").write_text(app, encoding="utf-8")
    write_json(folder / "space.json", {"title": title, "prompts": {name: list(of) for name, of in prompts.items()}})
    (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
    front = yaml.safe_dump({"title": title, "sdk": "gradio", "app_file": "app.py"}, allow_unicode=True, sort_keys=False)
    (folder / "README.md").write_text(
        f"---\n{front}---\n\nWhat this model was repaired of, and how well, is in `{MODEL}/README.md`.\n",
        encoding="utf-8",
    )
