"""The page of a station in a headless Chromium, for as long as a soak of the server takes.

Takes Debian's `chromium` and `chromium-driver`, and Selenium (`pip install selenium`).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

OPENING = 600.0  # seconds for the page to be there, beside requests that take the processor

_COUNT = """
window.came = window.shown = 0;
new MutationObserver((changes) => { came += changes.length; })
    .observe(document.getElementById("verdict"), {attributeFilter: ["data-part"]});
document.addEventListener("part-shown", () => { shown += 1; });
"""


@dataclass(frozen=True)
class PageSample:
    """What became of the page so far: verdicts that were told on it, and parts whose picture was shown.

    `heap` are the MB that its JavaScript has in use after a garbage collection, `nodes` those of all its documents.
    """

    verdicts: int
    pictures: int
    heap: float
    nodes: int


class OpenPage:
    """A page that a browser has open."""

    def __init__(self, browser: Chrome) -> None:
        self._browser = browser
        browser.execute_script(_COUNT)

    def look(self) -> PageSample:
        """What it is now. Collects the page's garbage, so it takes some tenths of a second."""
        self._command("HeapProfiler.collectGarbage")
        came, shown = self._browser.execute_script("return [came, shown]")
        heap, counters = self._command("Runtime.getHeapUsage"), self._command("Memory.getDOMCounters")
        return PageSample(int(came), int(shown), heap["usedSize"] / 1e6, int(counters["nodes"]))

    def errors(self) -> list[str]:
        """Warnings and errors of its console since the last call."""
        entries: list[dict[str, Any]] = self._browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(entry["message"]) for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def _command(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._browser.execute_cdp_cmd(name, {})
        return answer


@contextlib.contextmanager
def open_page(address: str) -> Iterator[OpenPage]:
    """The page at this address, all of it there, until the end of the block. Raises click.ClickException."""
    driver = shutil.which("chromedriver")
    if driver is None:
        raise click.ClickException("--page needs chromedriver: apt install chromium chromium-driver.")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for option in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
            options.add_argument(f"--{option}")
        options.add_argument("--window-size=1400,1000")
        options.add_argument("--disk-cache-size=20000000")  # bytes; of each picture a file, which takes long to remove
        options.add_argument(f"--user-data-dir={profile}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.get(address)
            end = time.monotonic() + OPENING
            while not browser.execute_script("return 'ready' in document.body.dataset"):
                if time.monotonic() > end:
                    raise click.ClickException(f"The page was not there after {OPENING:.0f} seconds.")
                time.sleep(0.2)
            yield OpenPage(browser)
        finally:
            browser.quit()
