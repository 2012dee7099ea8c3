"""Models by their name on the hub, from a cache laid out as the hub's own client lays it out; nothing is fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import despur
from despur.backbones.export_open_clip import write_open_clip
from despur.backbones.export_transformers import write_transformers

REVISION = "0123456789abcdef0123456789abcdef01234567"

SCRIPT = """
import sys
import torch
import despur

torch.set_num_threads(1)
by_name, by_folder = (despur.load_backbone(spec) for spec in sys.argv[1:3])
pixels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
assert torch.equal(by_name.image_features(pixels), by_folder.image_features(pixels))
texts = by_name.tokenize(["a waterbird", "water"])
assert torch.equal(by_name.text_features(texts), by_folder.text_features(texts))
assert by_name.heads().keys() == by_folder.heads().keys()
print("the same")
"""


OPTIONAL = ("config.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
"""What transformers asks for beside a vocabulary; the client remembers what a repository has not."""


def cached(folder: Path, cache: Path, repository: str) -> None:
    """What a download of the repository would have left."""
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / REVISION)
    (place / ".no_exist" / REVISION).mkdir(parents=True)
    for name in OPTIONAL:
        if not (folder / name).exists():
            (place / ".no_exist" / REVISION / name).touch()
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)


@pytest.mark.parametrize(
    ("write", "by_name", "by_folder"),
    [
        (write_open_clip, "open_clip:hf-hub:someone/birds", "open_clip:local-dir:{}"),
        (write_transformers, "hf:someone/birds", "hf:{}"),
    ],
    ids=["open_clip", "transformers"],
)
def test_a_model_that_the_hub_gave_before_is_read_without_a_network(
    write: object, by_name: str, by_folder: str, tmp_path: Path
) -> None:
    assert callable(write)
    backbone = despur.load_backbone("birdland:vit")
    folder, cache = tmp_path / "written", tmp_path / "cache"
    folder.mkdir()
    write(backbone, backbone.heads(), folder)
    cached(folder, cache, "someone/birds")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, by_name, by_folder.format(folder)],
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.stdout.strip() == "the same", ran.stderr
