"""ImageNet and Visual Genome in small, laid out as their downloads are; what they show are scenes of birdland."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from despur.birdland.write import write_objects
from despur.data.synsets import thousand

PAIR = ("n03825788", "n04557648")
"""Baby pacifier shows teapots, water bottle shows jugs."""

OTHERS = [wnid for wnid in thousand() if wnid not in PAIR][:10]


def annotation(wnid: str, box: list[str]) -> str:
    sides = "".join(
        f"<{name}>{side}</{name}>" for name, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<annotation><object><name>{wnid}</name><bndbox>{sides}</bndbox></object></annotation>"


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes; training and validation images in a folder a class, boxes as XML."""
    home = tmp_path_factory.mktemp("imagenet")
    scenes = home / "scenes"
    write_objects(scenes, train=200, val=20, test=80, correlation=0.6, workers=1)
    with (scenes / "examples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seen: Counter[str] = Counter()
    for row in rows:
        named = {"teapot": PAIR[0], "jug": PAIR[1]}
        wnid = named.get(row["label"]) or OTHERS[seen["others"] % len(OTHERS)]
        seen["others"] += row["label"] not in named
        part = "val" if row["split"] == "test" else "train"
        seen[part] += 1
        name = f"{wnid}_{seen[part]}" if part == "train" else f"ILSVRC2012_val_{seen[part]:08d}"
        image = home / "ILSVRC" / part / wnid / f"{name}.JPEG"
        box = home / "ILSVRC" / "Annotations" / part / wnid / f"{name}.xml"
        for place in (image, box):
            place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scenes / row["image"], image)
        box.write_text(annotation(wnid, [row[side] for side in ("x0", "y0", "x1", "y1")]))
    return home / "ILSVRC"


@pytest.fixture(scope="session")
def visual_genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Visual Genome's two lists of synsets, with the things that may stand beside a subject."""
    home = tmp_path_factory.mktemp("genome")
    things = ("cup", "drum", "cat", "book", "hat", "candle")
    (home / "object_synsets.json").write_text(json.dumps({f"the {name}": f"{name}.n.01" for name in things}))
    (home / "attribute_synsets.json").write_text(json.dumps({"red": "red.s.01"}))
    return home
