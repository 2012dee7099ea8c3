from __future__ import annotations

from pathlib import Path

import pytest

from despur.catalog import load_dataset
from despur.data.waterbirds import load_waterbirds
from despur.errors import DataError


def test_waterbirds_are_those_of_the_authors(tmp_path: Path) -> None:
    root = tmp_path / "waterbirds_v1.0"
    root.mkdir()
    rows = ["img_id,img_filename,y,split,place,place_filename"]
    for number, (label, split, place) in enumerate([(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 2, 0)]):
        rows.append(f"{number},{number}.jpg,{label},{split},{place},/lake.jpg")
        (root / f"{number}.jpg").touch()
    (root / "metadata.csv").write_text("\n".join(rows))
    assert load_dataset(f"wilds:{root}").table.equals(load_waterbirds(root).table)


def test_celeba_is_blond_hair_by_sex(tmp_path: Path) -> None:
    root = tmp_path / "celebA_v1.0"
    (root / "img_align_celeba").mkdir(parents=True)
    faces = [("1.jpg", 1, -1, 0), ("2.jpg", -1, 1, 0), ("3.jpg", 1, 1, 1), ("4.jpg", -1, -1, 2)]
    (root / "list_attr_celeba.csv").write_text(
        "\n".join(["image_id,Blond_Hair,Male", *(f"{name},{hair},{male}" for name, hair, male, _ in faces)])
    )
    (root / "list_eval_partition.csv").write_text(
        "\n".join(["image_id,partition", *(f"{name},{part}" for name, _, _, part in faces)])
    )
    for name, *_ in faces:
        (root / "img_align_celeba" / name).touch()
    dataset = load_dataset(f"wilds:{root}")
    assert dataset.groups("male").tolist() == [2, 1, 3, 0]
    assert dataset.table["split"].to_pylist() == ["train", "train", "val", "test"]


def test_another_download_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither metadata\.csv nor list_attr_celeba\.csv"):
        load_dataset(f"wilds:{tmp_path}")
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(f"wilds:{tmp_path}/nowhere")
