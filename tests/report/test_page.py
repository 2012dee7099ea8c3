"""The page opens offline, shows names as text, and says what the numbers say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from math import nan
from pathlib import Path

import pytest

from despur.report import BackboneSection, GroupRow, Look, MapCheck, MethodRow, Rate, Report, Spread, write_report
from despur.report.page import render

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> \"q\" 🐦 עוף"


class Page(HTMLParser):
    """Elements with their attributes, visible text, and tags that were left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in {"td", "th", "small", "caption"}:
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_nothing_on_the_page_is_fetched(report: Report) -> None:
    html = render(report)
    page = Page(html)
    addresses = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "data", "action", "poster"}
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert page.all("link") == page.all("iframe") == []
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not any("url(" in sheet or "@import" in sheet for sheet in style)
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_plotly_is_inlined_once_and_the_page_stays_under_8_mb(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_bytes()
    assert len(page) < 8_000_000
    assert page.count(b"plotly.js v") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_same_report_gives_the_same_bytes(report: Report) -> None:
    assert render(report) == render(report)


def test_the_page_is_well_formed_and_its_tables_have_headers(report: Report) -> None:
    page = Page(render(report))
    assert page.open == []
    assert page.elements[0] == ("html", {"lang": "en"})
    assert all(header.get("scope") in {"row", "col"} for header in page.all("th"))
    assert all(image.get("alt") for image in page.all("img"))
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_everything_that_was_asked_for_is_there(report: Report) -> None:
    text = " ".join(Page(render(report)).text.split())
    for expected in (
        "are recognised 41% of the time; of “waterbird on water”, 97%.",
        "After clip+lc+vc+vs: 84% and 95%.",
        "90.6 (best) ± 1.1",
        "waterbird on land 200 images 41.0 37.0–45.0 84.0 80.0–88.0",
        "Accuracy against AIoU",
        "Validation worst group",
        "Loss terms over epochs",
        "✗ landbird (wrong) AIoU 0.200",
        "mitigate 1 min 14 s",
        "mitigate.optimiser.lr 0.0001",
        "torch 2.14.0",
        "2 images could not be read.",
    ):
        assert expected in text


def test_random_weights_are_the_first_line(report: Report) -> None:
    drawn = replace(report, sections=[replace(section, random_weights=True) for section in report.sections])
    text = Page("<body>" + render(drawn).split("<body>")[1].removesuffix("</html>")).text.strip()
    first = text.splitlines()[0]
    assert first.startswith("The weights of “birdland:resnet” and “birdland:vit” are random")
    assert first.endswith("mean nothing.")
    assert "mean nothing" not in Page(render(report)).text


def test_names_are_shown_as_text(report: Report) -> None:
    section = report.sections[0]
    group = GroupRow(EVIL, EVIL, True, EVIL, 10, Rate(0.5, 0.4, 0.6), Rate(0.6, 0.5, 0.7))
    strip = section.strips[0]
    panel = replace(strip.panels[1], caption=EVIL, said=EVIL)
    evil = replace(
        section,
        spec=EVIL,
        rows=[replace(row, title=EVIL, method=f"{EVIL}{row.method}", note=EVIL) for row in section.rows],
        groups=[group, replace(group, present=False, before=Rate(0.1, 0.05, 0.2))],
        after_title=EVIL,
        before_title=EVIL,
        split=EVIL,
        curves={EVIL: section.curves["lc+vc+vs"]},
        strips=[replace(strip, title=EVIL, group=EVIL, panels=[panel])],
    )
    ours = render(replace(report, sections=[section]))
    page = Page(
        theirs := render(
            replace(
                report,
                title=EVIL,
                dataset=EVIL,
                sections=[evil],
                notes=[EVIL],
                settings={EVIL: EVIL},
                versions={EVIL: EVIL},
                stage_seconds={EVIL: 1.0},
            )
        )
    )
    assert len(page.all("script")) == len(Page(ours).all("script"))
    assert len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count(EVIL) >= 15
    assert theirs.count("alert('x')</script>") == 0


def test_names_that_utf_8_cannot_hold_are_written_as_escapes(report: Report, tmp_path: Path) -> None:
    section = report.sections[0]
    stray = replace(section, rows=[replace(row, title="bird\udcff") for row in section.rows])
    write_report(tmp_path / "report.html", replace(report, sections=[stray], dataset="folder:\udcff"))
    assert "bird\\udcff" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_single_untrained_method_needs_no_figures_and_no_plotly(report: Report, rows: list[MethodRow]) -> None:
    groups = [replace(group, after=Rate()) for group in report.sections[0].groups]
    bare = BackboneSection("open_clip:RN50/openai", rows[:1], groups)
    html = render(replace(report, sections=[bare]))
    text = Page(html).text
    assert "No repaired model is part of this report." in text
    assert "before and after" not in text
    assert "Plotly" not in html


def test_missing_numbers_are_dashes_and_empty_groups_say_so(report: Report) -> None:
    section = report.sections[0]
    rows = [
        replace(section.rows[0], aiou_average=None, aiou_worst_group=None),
        replace(section.rows[1], average=Spread(nan), aiou_average=None, aiou_worst_group=None, diverged=5),
    ]
    groups = [replace(section.groups[0], n=0, before=Rate(), after=Rate()), *section.groups[1:]]
    groups[1] = replace(groups[1], after=Rate(nan, nan, nan))
    html = render(replace(report, sections=[replace(section, rows=rows, groups=groups, curves={})]))
    text = Page(html).text
    assert "empty group: nothing to measure" in text
    assert "5 of 5 seeds diverged" in text
    assert "AIoU is not known: it needs boxes or masks." in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower()


@pytest.mark.parametrize("seconds", [{}, {"embed": 0.0}])
def test_a_report_with_nothing_in_it_is_still_a_page(report: Report, seconds: dict[str, float]) -> None:
    empty = Report("empty", "folder:x", [], report.created, stage_seconds=seconds)
    assert "No model has been evaluated yet." in Page(render(empty)).text


def test_where_the_model_looks_and_whether_its_maps_may_be_trusted_are_tables(section: BackboneSection) -> None:
    looks = [Look("waterbird on water", 120, 0.1, 0.4, before=(0.2, 0.61), after=(0.55, 0.123))]
    checks = [MapCheck("zero-shot", 0.2, 0.5, 0.8, 0.4, 0.05), MapCheck("clip+lc", 0.6, 0.5, 0.8, 0.4, 0.9)]
    shown = replace(section, looks=looks, map_checks=checks)
    page = Page(render(Report("r", "d", [shown], datetime(2026, 1, 1, tzinfo=UTC))))
    text = " ".join(page.text.split())
    assert "How much of the map" in text
    assert "waterbird on water 120 images 61.0 (40.0) 12.3 20.0 (10.0) 55.0" in text
    assert "zero-shot 0.200 (noise 0.500) 0.800 (noise 0.400) 0.050 yes" in text
    assert "clip+lc 0.600 (noise 0.500) 0.800 (noise 0.400) 0.900 no" in text
    assert "How much of the map" not in render(Report("r", "d", [section], datetime(2026, 1, 1, tzinfo=UTC)))
