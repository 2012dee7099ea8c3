"""The page in a real Chromium: by mouse and by keys alone, in two browsers, on a small screen, in the dark."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn

from despur.pipeline.reviewing import ranking_is_current
from despur.review.app import create_app
from despur.review.judgements import Judgements
from despur.review.serve import bind
from despur.review.session import Session
from despur.review.store import VERDICTS, VerdictStore
from despur.review.study import key_of
from despur.workspace import Workspace

from .conftest import BOTTLE, HOSTILE, PACIFIER

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]

FIRST, LAST = key_of(PACIFIER, "baby"), key_of(BOTTLE, "table")


class Server:
    """``despur review`` as a user starts it, in a process of its own."""

    def __init__(self, work: Path) -> None:
        command = [sys.executable, "-m", "despur", "review", "-w", str(work), "--no-browser", "--name", "Ada"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().rstrip("/")
        assert self.url.startswith("http://127.0.0.1:")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def served(work: Path, token: str | None = None) -> Iterator[str]:
    """A review from a thread of this process: its address, without the last slash."""
    place = bind()
    session = Session(Workspace.open(work), name="Ada", is_current=ranking_is_current)
    app = create_app(session, hosts=place.hosts, token=token)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    place.listener.listen(128)
    thread = Thread(target=server.run, kwargs={"sockets": [place.listener]})
    thread.start()
    try:
        yield place.url.rstrip("/")
    finally:
        server.should_exit = True
        thread.join()
        session.store.close()


@pytest.fixture
def url(work: Path) -> Iterator[str]:
    with served(work) as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda problem: problems.append(str(problem)))
    opened.on("console", lambda line: problems.append(f"{line.text} {line.location}") if line.type == "error" else None)
    yield opened
    context.close()
    assert problems == []


def verdicts(work: Path) -> list[tuple[str, str, str | None]]:
    return [(event.who, event.attribute, event.verdict) for event in VerdictStore(work / VERDICTS).events()]


def test_a_review_by_mouse(url: str, page: Any, work: Path) -> None:
    page.goto(url)
    page.click("text=Start")
    page.fill("#note", "a note")
    page.click("text=Spurious")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    page.click("text=Healthy")
    page.wait_for_url(f"**/pairs/{key_of(BOTTLE, 'baby')}")
    assert verdicts(work) == [("Ada", "baby", "spurious"), ("Ada", HOSTILE, "healthy")]
    page.click("#undo button")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    assert Judgements(VerdictStore(work / VERDICTS).events()).judged() == [(PACIFIER, "baby")]
    page.reload()
    assert "1 of 4 judged" in page.inner_text(".progress")


def test_a_review_by_keys_alone(url: str, page: Any, work: Path) -> None:
    page.goto(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#go")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/pairs/{FIRST}")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**/pairs/{FIRST}")
    page.keyboard.press("n")
    page.keyboard.type("shush z")
    page.keyboard.press("Escape")
    assert verdicts(work) == []
    for key, following in (("s", HOSTILE), ("h", "baby"), ("z", HOSTILE), ("u", "baby")):
        page.keyboard.press(key)
        owner = HOSTILE if following == HOSTILE else BOTTLE
        page.wait_for_url(f"**/pairs/{key_of(owner, following)}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/pairs/{LAST}")
    page.keyboard.press("h")
    page.wait_for_url("**/summary")
    assert "Everything is judged" in page.inner_text("h1")
    judged = Judgements(VerdictStore(work / VERDICTS).events())
    assert [judged.outcome(pair) for pair in judged.judged()] == ["spurious", "unsure", "spurious", "healthy"]
    assert judged.by_person((PACIFIER, "baby"))["Ada"].note == "shush z"


def test_a_photo_is_enlarged_and_closed_and_the_box_can_be_put_away(url: str, page: Any) -> None:
    page.goto(f"{url}/pairs/{FIRST}")
    assert page.is_visible(".box")
    page.keyboard.press("b")
    assert not page.is_visible(".box")
    page.keyboard.press("b")
    page.focus("a.picture >> nth=0")
    page.keyboard.press("Enter")
    assert page.is_visible("dialog[open] .picture img")
    page.keyboard.press("s")  # keys do not judge behind an open photo
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")
    assert page.url.endswith(FIRST)


def test_more_photos_come_on_scrolling(url: str, page: Any) -> None:
    page.goto(f"{url}/pairs/{FIRST}")
    assert page.locator(".strip >> nth=1 >> .shot").count() == 12
    page.mouse.wheel(0, 20_000)
    playwright.expect(page.locator(".shot")).to_have_count(40, timeout=15_000)
    assert page.locator(".more").count() == 0


def test_a_detector_mistake_is_struck_out_and_the_numbers_change(url: str, page: Any) -> None:
    page.goto(f"{url}/pairs/{FIRST}")
    page.click(".strip >> nth=0 >> .shot >> nth=0 >> button")
    playwright.expect(page.locator(".rates")).to_contain_text("19 photos")
    assert page.locator(".struck").count() == 1


def test_two_browsers_at_once(url: str, chromium: Any, page: Any, work: Path) -> None:
    other = chromium.new_context().new_page()
    other.goto(url)
    other.click("summary:has-text('Judging as')")
    other.fill("#name", "Bo שלום")
    other.click("text=Use this name")
    for one, key in ((page, "s"), (other, "h")):
        one.goto(f"{url}/pairs/{FIRST}")
        one.keyboard.press(key)
        one.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    assert verdicts(work) == [("Ada", "baby", "spurious"), ("Bo שלום", "baby", "healthy")]
    page.goto(f"{url}/summary")
    assert "Disputed" in page.inner_text("main")
    other.context.close()


def test_a_verdict_outlives_a_server_killed_right_after_the_answer(work: Path, chromium: Any) -> None:
    first = Server(work)
    page = chromium.new_page()
    page.goto(f"{first.url}/pairs/{FIRST}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    first.kill()
    second = Server(work)
    page.goto(f"{second.url}/pairs/{FIRST}")
    assert page.get_attribute("[value=spurious]", "aria-pressed") == "true"
    page.close()
    second.kill()


def test_the_command_is_copied(url: str, chromium: Any, work: Path) -> None:
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{url}/pairs/{FIRST}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    page.goto(f"{url}/summary")
    page.click("text=Copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"despur mitigate -w {work} --groups verdicts --tune 16"
    context.close()


def test_nothing_is_asked_of_anyone_else(url: str, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", f"/pairs/{FIRST}", "/summary", "/history"):
        page.goto(url + path, wait_until="networkidle")
    assert asked
    assert [address for address in asked if not address.startswith(f"{url}/")] == []


CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest("script, style, .unseen, .skip, option, .struck")) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${walker.currentNode.textContent.trim()}`);
  }
  return poor;
}
"""
"""Texts whose contrast with what is behind them is below WCAG's 4.5."""

UNNAMED = """
() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, progress")]
  .concat([...document.querySelectorAll("svg[role=img], dialog, summary, nav")])
  .filter((element) => !(element.getAttribute("aria-label") || element.labels?.length || element.textContent.trim()
    || element.querySelector("img[alt]:not([alt=''])") || element.getAttribute("aria-labelledby")))
  .map((element) => element.outerHTML.slice(0, 120))
"""
"""What a screen reader would announce without a name."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_fits_and_can_be_read(url: str, chromium: Any, width: int, scheme: str) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{url}/pairs/{FIRST}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    for path in ("/", f"/pairs/{FIRST}", f"/pairs/{key_of(HOSTILE, HOSTILE)}", "/summary", "/history", "/nothing"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate(UNNAMED) == [], path
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == 1
        assert page.get_attribute("html", "lang") == "en"
        assert page.evaluate("[...document.images].every((image) => image.hasAttribute('alt'))")
        duplicates = page.evaluate(
            "() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);"
            " return ids.filter((id, n) => ids.indexOf(id) !== n); }"
        )
        assert duplicates == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(url: str, chromium: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{url}/pairs/{FIRST}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    for path in ("/", f"/pairs/{FIRST}", f"/pairs/{key_of(HOSTILE, HOSTILE)}", "/summary"):
        page.goto(url + path, wait_until="networkidle")
        found = axe.run(page).response
        assert found["passes"], path  # it did look
        faults = [
            (fault["id"], [node["target"] for node in fault["nodes"]])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert faults == [], path
    context.close()


def test_the_address_with_the_token_may_be_a_link_on_another_sites_page(chromium: Any, work: Path) -> None:
    with served(work, token="the-secret") as url:
        context = chromium.new_context()
        page = context.new_page()
        link = f'<a href="{url}/?token=the-secret">Please judge these</a>'
        page.route("http://mail.example/", lambda route: route.fulfill(content_type="text/html", body=link))
        page.goto("http://mail.example/")
        page.click("a")
        page.wait_for_url(f"{url}/")
        assert page.inner_text("h1") == "Which of these are shortcuts?"
        context.close()


def test_a_long_name_does_not_widen_a_small_screen(url: str, chromium: Any) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(url)
    page.click("summary:has-text('Judging as')")
    page.fill("#name", "W" * 80)
    page.click("text=Use this name")
    page.goto(f"{url}/pairs/{FIRST}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    for path in ("/", f"/pairs/{FIRST}", "/summary", "/history"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()


def test_a_held_key_is_one_verdict(url: str, page: Any, work: Path) -> None:
    page.goto(f"{url}/pairs/{FIRST}")
    press = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 's', bubbles: true}))"
    page.evaluate(f"for (let n = 0; n < 5; n++) {press}")
    page.wait_for_url(f"**/pairs/{key_of(HOSTILE, HOSTILE)}")
    time.sleep(0.3)
    assert len(verdicts(work)) == 1
