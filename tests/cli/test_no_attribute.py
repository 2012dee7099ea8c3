"""A folder a class, with no attribute anywhere: from images to a checked and exported model by verdicts alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from despur.data.waterbirds import load_waterbirds

VERDICTS = """class,attribute,verdict,who,when
waterbird,water,spurious,ann,2024-05-01T10:00:00Z
landbird,water,spurious,ann,2024-05-01T10:00:10Z
"""

QUICK = ("--method", "erm", "--epochs", 1, "--batch-size", 16)


@pytest.fixture
def work(birds: Path, despur, tmp_path: Path) -> Path:
    """The birds in folders of splits and classes, embedded and searched for water."""
    dataset = load_waterbirds(birds)
    rows = zip(dataset.image_paths(), dataset.labels.tolist(), dataset.table["split"].to_pylist(), strict=True)
    for number, (image, label, split) in enumerate(rows):
        folder = tmp_path / "photographs" / split / dataset.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / f"{number}{image.suffix}")
    (tmp_path / "phrases.txt").write_text("water\n")
    (tmp_path / "verdicts.csv").write_text(VERDICTS)
    work = tmp_path / "work"
    for words in (
        ("embed", f"folder:{tmp_path / 'photographs'}", "--model", "birdland:vit", "-w", work),
        ("detect", "-w", work, "-d", "tagger", "-v", f"file:{tmp_path / 'phrases.txt'}"),
    ):
        result = despur(*words)
        assert result.exit_code == 0, result.stderr
    return work


def test_verdicts_in_a_file_lead_to_a_repaired_model(work: Path, despur) -> None:
    file = work.parent / "verdicts.csv"
    trained = despur("mitigate", "-w", work, "--verdicts", file, *QUICK, "--json")
    assert trained.exit_code == 0, trained.stderr
    assert json.loads(trained.stdout)["groups"] == "verdicts"

    evaluated = despur("evaluate", "-w", work, "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    metrics = json.loads(evaluated.stdout)["runs"]["erm-seed0"]
    assert metrics["groups_from"] == "detections"
    groups = [(group["class"], group["attribute"], group["present"]) for group in metrics["accuracy"]["groups"]]
    assert groups == [(name, "water", seen) for name in ("landbird", "waterbird") for seen in (False, True)]

    assert all(group["n"] for group in metrics["accuracy"]["groups"])

    for words in (("report",), ("check", "--min-worst-group", "0")):
        result = despur(words[0], "-w", work, *words[1:])
        assert result.exit_code == 0, result.stderr
    assert "inferred from detections" in (work / "report.html").read_text(encoding="utf-8")

    exported = despur("export", "-w", work, "--to", "heads", work.parent / "repaired")
    assert exported.exit_code == 0, exported.stderr
    card = (work.parent / "repaired" / "README.md").read_text(encoding="utf-8")
    assert "leans less on *water*" in card
    assert "inferred from detections" in card

    ranked = json.loads(despur("rank", "-w", work, "--min-count", 1, "--json").stdout)
    assert {row["verdict"] for row in ranked["helping"] + ranked["hurting"]} == {"spurious"}
    assert "verdict" in despur("rank", "-w", work, "--min-count", 1).stdout


def test_methods_are_compared_and_explained_by_the_groups_of_the_verdicts(work: Path, despur) -> None:
    taken = despur("verdicts", "import", work.parent / "verdicts.csv", "-w", work)
    assert taken.exit_code == 0, taken.stderr
    methods = ("-M", "erm", "-M", "group-dro", "-M", "perception-clip")
    compared = despur("compare", "-w", work, *methods, "--epochs", 2, "--seeds", 2, "--json")
    assert compared.exit_code == 0, compared.stderr
    table = json.loads(compared.stdout)
    rows = {row["method"]: row for row in table["rows"]}
    assert rows["group-dro"]["worst_group"] is not None
    assert rows["perception-clip"]["worst_group"] is None  # one attribute of all classes is what it knows
    assert "one attribute" in rows["perception-clip"]["note"]
    assert any("inferred from detections" in warning for warning in table["warnings"])

    explained = despur("explain", "-w", work, "--json")
    assert explained.exit_code == 0, explained.stderr
    drawn = despur("figures", "-w", work)
    assert drawn.exit_code == 0, drawn.output
    shown = despur("report", "-w", work)
    assert shown.exit_code == 0, shown.stderr


def test_without_verdicts_the_next_step_is_told(work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", work, *QUICK), "no pair is judged spurious", "--verdicts FILE")
    refused(despur("mitigate", "-w", work, "--groups", "attribute", *QUICK), "has no attributes")


def test_a_run_that_waits_for_a_person_succeeds_and_ends_with_the_command_that_comes_next(work: Path, despur) -> None:
    study = work.parent / "my study.yaml"
    study.write_text(
        """dataset: folder:photographs
models: [birdland:vit]
workspace: work
detect: {detector: tagger, vocabulary: "file:phrases.txt"}
rank: {min_count: 1}
mitigate: {groups: verdicts, methods: [erm], train: {epochs: 1, batch_size: 16}}
explain: {images: 2, strips: 0, checks: 0}
"""
    )
    stopped = despur("run", study)
    assert stopped.exit_code == 0, stopped.stderr
    ranked, afterwards, last = stopped.stdout.splitlines()
    assert ranked == "ranked 2 pairs, none of them judged yet: a person decides which are spurious"
    assert last == f"next: despur review -w {work}"
    assert f"despur run '{study}' goes on" in afterwards

    told = json.loads(despur("run", study, "--json").stdout)
    assert told["report"] is None
    assert told["waiting"] == [{"workspace": str(work), "pairs": 2, "judged": 0, "next": f"despur review -w {work}"}]

    judged = despur("verdicts", "import", work.parent / "verdicts.csv", "-w", work)
    assert judged.exit_code == 0, judged.stderr
    finished = despur("run", study, "--json")
    assert finished.exit_code == 0, finished.stderr
    assert json.loads(finished.stdout)["waiting"] == []
    assert json.loads(finished.stdout)["report"] == str(work / "report.html")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("landbird", "landbrid", "did you mean 'landbird'"), (",water", ",harbour", "never looked for")],
)
def test_a_file_with_an_unusable_verdict_adds_nothing(
    old: str, new: str, said: str, work: Path, despur, refused
) -> None:
    file = work.parent / "verdicts.csv"
    file.write_text(VERDICTS.replace(old, new))
    refused(despur("mitigate", "-w", work, "--verdicts", file, *QUICK), said)
    assert not (work / "verdicts.sqlite").exists()
