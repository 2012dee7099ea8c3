"""Takes the review page's pictures for the documentation: python docs/screenshots.py demo/shortcuts

The workspace is what `despur demo` leaves; verdicts in it are replaced. Needs Chromium at /usr/bin/chromium, or where
the environment variable CHROMIUM says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

OUT = Path(__file__).parent / "images"
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
COLOURS = 256

SHOWN = """() => [...document.images].every(image => {
    const box = image.getBoundingClientRect();
    const outside = box.bottom < 0 || box.top > innerHeight || box.width === 0;
    return outside || (image.complete && image.naturalWidth > 0);
})"""
"""Whether every picture in the window is there."""

ADA = {"drum": "spurious", "cat": "spurious", "cup": "spurious", "mushroom": "unsure", "ball": "healthy"}
BO = {"drum": "spurious", "cat": "healthy"}


def main(workspace: Path) -> None:
    """Serve the workspace, judge as two people, and take every picture."""
    (workspace / "verdicts.sqlite").unlink(missing_ok=True)
    command = [sys.executable, "-m", "despur", "review", "-w", str(workspace), "--maps", "--no-browser"]
    server = subprocess.Popen([*command, "--port", str(PORT), "--name", "Ada"])
    try:
        wait_for_server()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
            )
            judge(opened(browser), BO, name="Bo")
            page = opened(browser)
            judge(page, ADA)
            take(page, "queue")
            page.get_by_role("link", name="drum", exact=True).first.click()
            take(page, "card")
            page.keyboard.press("m")
            page.evaluate("window.scrollBy(0, 420)")
            take(page, "maps")
            page.keyboard.press("m")
            page.evaluate("window.scrollTo(0, 0)")
            page.locator(".shots .picture").nth(3).click()
            take(page, "enlarged")
            phone = opened(browser, width=390, height=844, dark=True)
            phone.get_by_role("link", name="drum", exact=True).first.click()
            take(phone, "phone-dark")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def wait_for_server() -> None:
    """Until the page answers; two minutes at most."""
    for _ in range(240):
        try:
            urllib.request.urlopen(URL, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit("the review page does not answer")


def opened(browser: Browser, *, width: int = 1280, height: int = 820, dark: bool = False) -> Page:
    """The queue in a browser of somebody's own."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.goto(URL)
    return page


def judge(page: Page, verdicts: dict[str, str], name: str | None = None) -> None:
    """Say of the first card of each attribute what it is, and go back to the queue."""
    if name is not None:
        page.locator("summary", has_text="Judging as").click()
        page.locator("#name").fill(name)
        page.get_by_role("button", name="Use this name").click()
    for attribute, verdict in verdicts.items():
        page.goto(URL)
        page.get_by_role("link", name=attribute, exact=True).first.click()
        page.get_by_role("button", name=verdict.capitalize()).click()
        page.wait_for_load_state("load")
    page.goto(URL)


def take(page: Page, name: str) -> None:
    """Keep what the window shows, in few colours."""
    from PIL import Image

    file = OUT / f"review-{name}.png"
    page.wait_for_timeout(500)  # until what has just come into view is asked for
    page.wait_for_function(SHOWN)
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
