"""A Hugging Face Space around an exported model: a page on which anybody tries it, and which fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from despur.workspace import write_json

MODEL = "model"
"""The folder of the Space that holds the exported model and its card."""

REQUIREMENTS = ("gradio", "open_clip_torch", "torch")


def write_space(folder: Path, title: str, classes: Sequence[str], templates: Sequence[str]) -> None:
    """Write everything of a Space but the model: ``app.py``, what it says of itself, and what it needs.

    Args:
        classes: what is asked of a picture, by the names that stand in prompts.
        templates: each with one ``{}``.
    """
    app = resources.files(__name__).joinpath("app.py").read_text(encoding="utf-8")
    (folder / "app.py").write_text(app, encoding="utf-8")
    about = {"title": title, "classes": list(classes), "templates": list(templates)}
    write_json(folder / "space.json", about)
    (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
    front = yaml.safe_dump({"title": title, "sdk": "gradio", "app_file": "app.py"}, allow_unicode=True, sort_keys=False)
    (folder / "README.md").write_text(
        f"---\n{front}---\n\nWhat this model was repaired of, and how well, is in `{MODEL}/README.md`.\n",
        encoding="utf-8",
    )
