from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from despur.catalog import load_dataset
from despur.errors import DataError, SettingsError
from despur.pipeline import PAPER_METHODS, read_study
from despur.pipeline.beginning import begin_study, guess_spec


def plant(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


CLASSES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(10)]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["metadata.csv"], "waterbirds"),
        (["waterbirds_v1.0/metadata.csv"], "waterbirds"),
        (["list_attr_celeba.txt"], "celeba"),
        (["Anno/list_attr_celeba.txt"], "celeba"),
        (["train/n03825788/x.JPEG"], "imagenet"),
        (["ILSVRC/Data/CLS-LOC/train/n03825788/x.JPEG"], "imagenet"),
        (["spuco_birds/train/landbirds/land/1.jpg"], "spuco"),
        (["samples.json", "data/1.jpg"], "fiftyone"),
        (["dataset_dict.json"], "hf"),
        (["data/train-00000-of-00001.parquet"], "hf"),
        (CLASSES, "folder"),
        ([*CLASSES, "notes.csv"], "folder"),
    ],
)
def test_a_folder_is_known_by_its_files(tmp_path: Path, files: list[str], kind: str) -> None:
    assert guess_spec(plant(tmp_path, *files)) == f"{kind}:{tmp_path}"


def test_a_table_is_known_by_its_columns(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,label,split\na.jpg,cat,train\n")
    assert guess_spec(tmp_path) == f"table:{tmp_path / 'list.csv'}"
    (tmp_path / "other.csv").write_text("label,image,split\ncat,a.jpg,train\n")
    with pytest.raises(DataError, match=r"it holds 2 tables of images \(list\.csv, other\.csv\)"):
        guess_spec(tmp_path)


def test_a_list_of_subpopbench_is_known_by_its_name(tmp_path: Path) -> None:
    file = (
        plant(tmp_path, "metadata_metashift.csv", "MetaShift-Cat-Dog-indoor-outdoor/1.jpg") / "metadata_metashift.csv"
    )
    assert guess_spec(tmp_path) == f"subpopbench:{file}"


def test_the_file_is_a_study_of_the_same_dataset(waterbirds_home: Path, tmp_path: Path) -> None:
    begun = begin_study(waterbirds_home, tmp_path / "study.yaml", model="birdland:vit")
    study = read_study(begun.file)
    assert study.models == ("birdland:vit",)
    assert study.mitigate.methods == PAPER_METHODS
    assert study.mitigate.attribute == "water"
    assert load_dataset(study.dataset).table.equals(load_dataset(begun.spec).table)
    assert begun.seen[0] == "40 images: 18 train, 12 val, 10 test"
    text = begun.file.read_text()
    assert (study.detect, study.rank) == (None, None)
    assert "landbird: 3 training images with water, 6 without" in text
    assert "masks for 40 images" in text


def test_the_commented_sections_mean_something(waterbirds_home: Path, tmp_path: Path) -> None:
    file = begin_study(waterbirds_home, tmp_path / "study.yaml").file
    text = file.read_text()
    for name in ("detect", "rank"):
        assert f"# {name}: {{" in text
        text = text.replace(f"# {name}: {{", f"{name}: {{")
    file.write_text(text)
    study = read_study(file)
    assert study.detect is not None
    assert study.rank is not None
    assert (study.detect.detector, study.detect.vocabulary, study.rank.min_count) == ("owlvit", ("builtin",), 10)


def test_a_study_without_attributes_searches_the_images_and_takes_its_groups_from_verdicts(tmp_path: Path) -> None:
    study = read_study(begin_study(plant(tmp_path / "data", *CLASSES), tmp_path / "study.yaml").file)
    assert (study.detect is None, study.rank is None) == (False, False)
    assert (study.mitigate.attribute, study.mitigate.groups) == (None, "verdicts")


def test_a_study_beside_its_data_may_be_moved_with_it(tmp_path: Path) -> None:
    plant(tmp_path / "here" / "pets: mine", *CLASSES)
    begin_study(tmp_path / "here" / "pets: mine", tmp_path / "here" / "study.yaml")
    (tmp_path / "here").rename(tmp_path / "there")
    study = read_study(tmp_path / "there" / "study.yaml")
    assert study.dataset == f"folder:{tmp_path / 'there' / 'pets: mine'}"
    assert len(load_dataset(study.dataset)) == 20
    assert study.mitigate.attribute is None


def test_a_class_whose_name_breaks_lines_breaks_no_comment(tmp_path: Path) -> None:
    for number in range(10):
        plant(tmp_path / "data", f"cat\nseed: 7/{number}.jpg", f"dog/{number}.jpg")
    assert read_study(begin_study(tmp_path / "data", tmp_path / "study.yaml").file).seed == 0


def test_a_study_that_is_there_is_kept(tmp_path: Path) -> None:
    plant(tmp_path / "data", *CLASSES)
    (tmp_path / "study.yaml").write_text("mine")
    with pytest.raises(SettingsError, match="it is there already"):
        begin_study(tmp_path / "data", tmp_path / "study.yaml")
    assert (tmp_path / "study.yaml").read_text() == "mine"
    begin_study(tmp_path / "data", tmp_path / "study.yaml", overwrite=True)
    assert "models" in (tmp_path / "study.yaml").read_text()


def test_a_spec_is_taken_at_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "PHOTOS" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "PHOTOS" / split / name / "1.png")
    begun = begin_study(Path("folder:PHOTOS"), Path("study.yaml"))
    assert begun.spec == "folder:PHOTOS"
    assert read_study(tmp_path / "study.yaml").dataset == f"folder:{tmp_path / 'PHOTOS'}"


def test_a_folder_that_makes_no_study_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it holds 0 class folders"):
        begin_study(tmp_path / "empty", tmp_path / "study.yaml")
    with pytest.raises(DataError, match="there is no such folder"):
        begin_study(tmp_path / "absent", tmp_path / "study.yaml")
    assert not (tmp_path / "study.yaml").exists()
