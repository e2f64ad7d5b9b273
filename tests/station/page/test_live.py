"""What comes on the page of the station: `make test-browser`."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bundles import make_bundle, write_model
from page_browser import BAD, GOOD, click, crowded, drop_and_see, is_hidden, press, ready, text
from station_process import StationProcess, station_process
from waiting import until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.browser, pytest.mark.extra]


def test_photos_dropped_into_the_folder_appear_with_their_verdicts(page: Chrome, station: StationProcess) -> None:
    """At best within a second of the file, and 200 ms of the verdict; other work on this machine may delay one."""
    page.execute_script(
        "window.seen = [];"
        "new MutationObserver(() => seen.push([Number(document.getElementById('verdict').dataset.part), Date.now()]))"
        ".observe(document.getElementById('verdict'), {attributeFilter: ['data-part']})"
    )
    since_file = []
    for number in range(5):
        for kind, photo, word in (("good", GOOD, "GOOD"), ("bad", BAD, "REJECT")):
            name = f"{kind}{number}.png"
            dropped = station.drop(name, photo)
            until(lambda name=name: text(page, "v-name") == f"in/{name}")  # type: ignore[misc]
            since_file.append(page.execute_script("return seen.at(-1)[1]") / 1000 - dropped)
            assert text(page, "word") == word
            assert page.execute_script("return document.getElementById('verdict').dataset.verdict") == (
                "normal" if kind == "good" else "anomalous"
            )
    since_verdict = [shown - judged for judged, shown in page.execute_script("return seen")]
    assert min(since_file) < 1 * crowded(), since_file
    assert min(since_verdict) < 200 * crowded(), since_verdict
    until(lambda: "bad4.png" in text(page, "stage-part"))
    until(
        lambda: (
            not is_hidden(page, "photo")
            and page.execute_script("return document.getElementById('photo').naturalWidth") == 96
        )
    )
    badges = "return [...document.querySelectorAll('#strip .badge')].map(badge => badge.textContent)"
    until(lambda: len(page.execute_script(badges)) == 10)
    assert page.execute_script(badges)[:2] == ["▲ REJECT", "● GOOD"]
    until(lambda: "5\nRejects" in text(page, "counts") or "Rejects\n5" in text(page, "counts"))
    assert "5 above the threshold" in page.execute_script(
        "return document.getElementById('chart').getAttribute('aria-label')"
    )
    assert "at most 1% are rejected on average" in text(page, "promise")
    assert "The scene is stable." in text(page, "drift")


# The answer to what begins so reaches the page once it is let.
HOLD = """
window.held = [];
const fetched = window.fetch;
window.fetch = async (path, options) => {
  const answer = await fetched(path, options);
  if (String(path).startsWith(START) && !window.go) await new Promise((resolve) => held.push(resolve));
  return answer;
};
"""


@pytest.mark.parametrize("start", ["/v1/station", "/v1/inspections?"])
def test_parts_that_come_while_it_opens_are_on_it(page: Chrome, station: StationProcess, start: str) -> None:
    """Before it listens, and between the list of the last parts and its arrival."""

    def last() -> list[Any]:
        with urllib.request.urlopen(f"{station.address}/v1/inspections?most=300", timeout=30) as answer:
            found: list[Any] = json.load(answer)["inspections"]
        return found

    hold = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HOLD.replace("START", repr(start))})
    page.get(station.address)
    page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", hold)
    until(lambda: page.execute_script("return held.length > 0"))
    time.sleep(0.3)  # whatever else it asks for is there
    name = f"in/open{len(last())}.png"
    station.drop(Path(name).name, BAD)
    until(lambda: last()[0]["name"] == name)
    page.execute_script("window.go = true; held.forEach((go) => go())")
    ready(page)
    shown = "return [...document.querySelectorAll('#strip button')].map(button => Number(button.dataset.id))"
    until(lambda: page.execute_script(shown) == [part["id"] for part in last()[:100]])
    assert text(page, "v-name") == name
    chart = "return document.getElementById('chart').getAttribute('aria-label')"
    until(lambda: f"last {len(last())} parts" in page.execute_script(chart))


@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_it_opens_within_a_second(page: Chrome, station: StationProcess, cache: str) -> None:
    """Until all of it is there: the state, the last parts, and the calibration."""
    page.execute_cdp_cmd("Page.enable", {})
    watch = page.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {
            "source": "new MutationObserver((_, watch) => { if ('ready' in (document.body?.dataset ?? {})) {"
            " window.opened = performance.now(); watch.disconnect(); } })"
            ".observe(document, {subtree: true, attributes: true})"
        },
    )
    drawn, opened = [], []
    for _ in range(5):
        if cache == "cold":
            page.execute_cdp_cmd("Network.clearBrowserCache", {})
        page.get(station.address)
        until(lambda: bool(page.execute_script("return 'opened' in window")))
        opened.append(page.execute_script("return opened"))
        drawn.append(page.execute_script("return performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", watch)
    loads = "return performance.getEntriesByType('resource').filter(one => !one.name.includes('/v1/'))"
    files = page.execute_script(f"{loads}.map(one => [one.name, one.transferSize])")
    print(
        f"{cache}: drawn after {statistics.median(drawn):.0f} ms, all there after {statistics.median(opened):.0f} ms "
        f"(at most {max(opened):.0f}); {len(files)} files, {sum(size for _, size in files) / 1000:.0f} kB"
    )
    assert min(opened) < 1000 * crowded(), opened


def readers(station: StationProcess) -> int:
    with urllib.request.urlopen(f"{station.address}/metrics", timeout=30) as metrics:
        (line,) = [line for line in metrics.read().decode().splitlines() if line.startswith("rstpm_edge_readers ")]
    return int(float(line.split()[1]))


def test_pages_that_nobody_sees_take_no_connection(page: Chrome, station: StationProcess) -> None:
    """A browser has six for a station. Of pages that were left, and of tabs in the background, none may be taken."""
    for _ in range(7):
        page.get("about:blank")
        page.get(station.address)
        ready(page)
    until(lambda: readers(station) == 1)
    first = page.current_window_handle
    tabs = []
    for _ in range(7):
        page.switch_to.new_window("tab")
        tabs.append(page.current_window_handle)
        page.get(station.address)
        ready(page)
    until(lambda: readers(station) == 1)
    station.drop("tab.png", BAD)
    until(lambda: text(page, "v-name") == "in/tab.png")
    assert page.title == "REJECT – bracket"
    for tab in tabs:
        page.switch_to.window(tab)
        page.close()
    page.switch_to.window(first)
    until(lambda: text(page, "v-name") == "in/tab.png")  # what came meanwhile
    until(lambda: readers(station) == 1)
    station.drop("first.png", GOOD)
    until(lambda: text(page, "v-name") == "in/first.png")


def test_it_asks_nobody_else(page: Chrome, station: StationProcess) -> None:
    page.get_log("performance")
    page.get(station.address)
    ready(page)
    asked = [
        message["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 15
    assert [url for url in asked if not url.startswith(station.address)] == []


def test_pause_and_resume(page: Chrome, station: StationProcess) -> None:
    drop_and_see(page, station, "before.png", GOOD)
    click(page, "#pause")
    until(lambda: "Paused" in text(page, "chips"))
    station.drop("later.png", BAD)
    time.sleep(1)  # nothing may come
    assert text(page, "v-name") == "in/before.png"
    press(page, "p")
    until(lambda: "Running" in text(page, "chips"))
    until(lambda: text(page, "v-name") == "in/later.png")


def test_a_token_is_asked_for(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    model = write_model(tmp_path / "bracket.onnx", make_bundle())
    (tmp_path / "tokens").write_text("manage a-token-of-the-tests\n")
    with station_process(tmp_path / "line", model, "--tokens", str(tmp_path / "tokens")) as station:
        browser.get(station.address)
        until(lambda: bool(browser.execute_script("return document.getElementById('login-dialog').open")))
        browser.find_element(By.ID, "token").send_keys("a-wrong-token-of-tests")
        click(browser, "#login-dialog button")
        until(lambda: "is not known" in text(browser, "login-problem"))
        browser.find_element(By.ID, "token").send_keys("a-token-of-the-tests")
        click(browser, "#login-dialog button")
        ready(browser)
        station.drop("one.png", GOOD)
        until(lambda: text(browser, "word") == "GOOD")
        assert not any("token" in part for part in browser.execute_script("return Object.values(localStorage)"))
        browser.get("about:blank")
