"""What the documentation shows works, page by page: its commands in their order, its Python, its links."""

from __future__ import annotations

import csv
import re
import runpy
import shlex
import shutil
from collections.abc import Iterable, Mapping
from contextlib import chdir
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from despur.cli import app
from despur.cli.console import INTERRUPTED
from despur.data.load import KINDS, Reading
from despur.data.specs import Spec

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))

SMALL = {
    "--scale 0.1": "--scale 0.02",
    "--epochs 40": "--epochs 3",
    "--images 40": "--images 4 --strips 1 --checks 0",
    "--images 200": "--images 4 --strips 1 --checks 0",
    "--tune 16 --seeds 3": "--seeds 1 --epochs 3",
    "--seeds 3": "--seeds 2",
}
"""What makes a page's commands quick without changing what they are."""

STAND_INS = {
    "open_clip:ARCH/TAG": "birdland:resnet",
    "--detector owlvit --vocabulary builtin": "--detector birdland:detector --vocabulary birdland",
    "--min-count 25": "--min-count 2",
    "diff REPAIR COLLEAGUES": "diff REPAIR REPAIR",
}
"""What a reader would fill in, or has on disk: here what comes with the package."""


def fences(page: Path) -> list[tuple[str, str]]:
    """The page's blocks of commands and of Python, in their order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(sh|python)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run_page(page: str, folder: Path, replaced: Mapping[str, str]) -> list[str]:
    """Run a page's blocks inside a folder; returns the commands as they were typed."""
    typed: list[str] = []
    with chdir(folder):
        for language, block in fences(ROOT / "docs" / page):
            for word, instead in replaced.items():
                block = block.replace(word, instead)
            if language == "python":
                exec(compile(block, page, "exec"), {"__name__": "page"})  # noqa: S102
                continue
            for line in block.splitlines():
                result = CliRunner().invoke(app, shlex.split(line)[1:])
                assert result.exit_code == 0, f"{page}: {line}\n{result.output}"
                typed.append(line)
    return typed


def sort_into_folders(birds: Path, photos: Path) -> None:
    """A Waterbirds folder as somebody's own photos: a folder for each split, and in it one for each class."""
    with (birds / "metadata.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            split, label = ("train", "val", "test")[int(row["split"])], ("landbird", "waterbird")[int(row["y"])]
            place = photos / split / label
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(birds / row["img_filename"], place)


@pytest.mark.slow
def test_ten_minutes_from_the_demo_to_a_report(tmp_path: Path) -> None:
    typed = run_page("ten-minutes.md", tmp_path, SMALL)
    assert typed[0] == "despur demo --quick"
    assert "<html" in (tmp_path / "WORK" / "report.html").read_text(encoding="utf-8")
    assert "<html" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_from_a_folder_of_photos_to_a_checkpoint_and_then_its_limits(birds: Path, tmp_path: Path) -> None:
    sort_into_folders(birds, tmp_path / "PHOTOS")
    (tmp_path / "verdicts.csv").write_text(
        "class,attribute,verdict,who,when,note,image\nwaterbird,cat,spurious,Ada,2026-05-04T12:00:00+00:00,,\n"
    )
    for other in ("boat", "tree"):
        (tmp_path / "OTHERS" / other).mkdir(parents=True)
        Image.new("RGB", (32, 32), "green").save(tmp_path / "OTHERS" / other / "1.png")
    easy = {"--min-worst-group 0.1": "--min-worst-group 0", "--min-retained 0.98": "--min-retained 0"}
    run_page("your-data.md", tmp_path, {**SMALL, **STAND_INS, **easy})
    assert (tmp_path / "OUT" / "open_clip_model.safetensors").is_file()
    assert '"waterbird","cat","spurious","Ada"' in (tmp_path / "judged.csv").read_text(encoding="utf-8")
    assert len(run_page("limits.md", tmp_path, {**SMALL, **STAND_INS})) == 5


@pytest.mark.slow
def test_the_papers_tables_from_a_small_download(birds: Path, tmp_path: Path) -> None:
    small = {"--waterbirds WATERBIRDS": f"--waterbirds {birds} -m birdland:resnet", "--seeds 3": "--seeds 2 --epochs 2"}
    assert len(run_page("paper.md", tmp_path, small)) == 2
    assert (tmp_path / "reproduction" / "runs" / "group-dro-seed1" / "metrics.json").is_file()


def test_every_command_of_every_page_exists_with_its_options() -> None:
    """Also those that a page does not run: ones that wait for a browser, or need data of one's own."""
    missing: list[str] = []
    seen = 0
    for page in PAGES:
        indented = re.findall(r"^ {4}(despur .+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        fenced = "".join(block for language, block in fences(page) if language == "sh")
        for line in [*indented, *fenced.splitlines()]:
            words = shlex.split(line, comments=True)[1:]
            options = [word.partition("=")[0] for word in words if word.startswith("-")]
            command = words[:2] if words[0] in {"birdland", "datasets", "verdicts"} else words[:1]
            shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
            known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", shown.output))
            missing += [f"{page.name}: {line}: {option}" for option in options if option not in known]
            assert shown.exit_code == 0, f"{page.name}: {line}"
            seen += 1
    assert missing == []
    assert seen > 25


def test_every_command_is_named_on_a_page() -> None:
    told = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(commands) > 15
    assert [name for name in sorted(commands) if not re.search(rf"despur {name}\b", told)] == []


def test_every_exit_status_is_explained() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src" / "despur" / "cli").glob("*.py"))
    used = set(re.findall(r"sys\.exit\((\d+)\)", source)) | {"0", str(INTERRUPTED)}
    told = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (\d+) \|", told, flags=re.MULTILINE)) == used


def anchors(page: Path) -> set[str]:
    """What a link may name inside a page: its headings, as mkdocs spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_local_link_and_image_of_a_page_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), target


def test_the_options_of_every_kind_of_dataset_are_those_that_the_reference_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Taken(Exception):
        pass

    def note(spec: Spec, known: Iterable[str]) -> None:
        taken[spec.kind] = set(known)
        raise Taken

    taken: dict[str, set[str]] = {}
    monkeypatch.setattr(Spec, "check", note)
    for kind, load in KINDS.items():
        with pytest.raises(Taken):
            load(Spec(f"{kind}:X", kind, "X"), Reading(0, Path()))
    text = (ROOT / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    listed: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for kind, options in re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", text, flags=re.MULTILINE):
        listed[kind] |= set(re.findall(r"\w+", options))
    assert listed == taken


def test_files_that_the_tour_names_are_there() -> None:
    text = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text))
    assert len(named) > 25
    assert [name for name in sorted(named) if not (ROOT / "src" / "despur" / name).is_file()] == []


def test_functions_that_the_tour_names_are_there() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"`([a-z_]+)\(\)`", (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")))
    assert len(named) > 8
    assert [name for name in sorted(named) if f"def {name}(" not in source] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == [str(page.relative_to(ROOT / "docs")) for page in PAGES]


def test_no_picture_of_the_documentation_is_large() -> None:
    assert [file.name for file in (ROOT / "docs" / "images").iterdir() if file.stat().st_size > 300_000] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import socket

    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    def refuse(*_: object) -> None:
        raise AssertionError("the site asked for something elsewhere")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site"))
    build(config)
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "demo-shortcuts.png" in front
    assert not re.search(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)', front)
    losses = (tmp_path / "site" / "reference" / "training.html").read_text(encoding="utf-8")
    assert "cross_group_loss" in losses or "contrast" in losses


def test_the_tour_s_commands_run(tmp_path: Path) -> None:
    assert len(run_page("tour.md", tmp_path, SMALL)) == 4


def test_the_mathematics_hold_as_written(tmp_path: Path) -> None:
    assert run_page("mathematics.md", tmp_path, {}) == []


def test_the_pictures_of_the_terms_are_what_their_script_draws(tmp_path: Path) -> None:
    """To a pixel or a hundredth: machines add up in different orders."""
    runpy.run_path(str(ROOT / "examples" / "picture_terms.py"))["main"](tmp_path)
    drawn = sorted(tmp_path.glob("*.svg"))
    assert [file.stem for file in drawn] == ["clip", "lc", "ls", "vc", "vs"]
    for file in drawn:
        shown = (ROOT / "docs" / "images" / "terms" / file.name).read_text(encoding="utf-8")
        number = re.compile(r"\d+(?:\.\d+)?")
        assert number.sub("", shown) == number.sub("", file.read_text(encoding="utf-8"))
        ours = [float(found) for found in number.findall(file.read_text(encoding="utf-8"))]
        theirs = [float(found) for found in number.findall(shown)]
        assert theirs == pytest.approx(ours, abs=1.01)
