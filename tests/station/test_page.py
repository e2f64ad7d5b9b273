"""The page of the station in a real browser, with the command line's own process: `make test-browser`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from axe import serious_faults
from bundles import make_bundle, write_model
from confirmed import patterned
from numpy.typing import NDArray
from station_process import StationProcess, station_process
from waiting import until

from rstpm_edge import Detector

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.browser, pytest.mark.extra]
Image = NDArray[np.uint8]
GOOD, BAD = patterned(3, 0, 96), patterned(3, 1, 96)
BAD[20:40, 50:80] = 255


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StationProcess]:
    place = tmp_path_factory.mktemp("station")
    model = write_model(place / "bracket.onnx", make_bundle())
    with station_process(place / "line", model, "--explain", "--drift", "1%") as station:
        yield station


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("there is no chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for option in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "lang=en"):
        options.add_argument(f"--{option}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture
def page(browser: Chrome, station: StationProcess) -> Iterator[Chrome]:
    """The page, at its start; nothing in its console may be a warning or an error."""
    browser.get_log("browser")
    browser.set_window_size(1400, 1000)
    browser.get(station.address)
    browser.execute_script("localStorage.clear()")
    browser.get(station.address)
    ready(browser)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")] == []


def ready(page: Chrome) -> None:
    until(lambda: bool(page.execute_script("return 'ready' in document.body.dataset")))


def text(page: Chrome, name: str) -> str:
    found: str = page.execute_script("return document.getElementById(arguments[0]).innerText", name)
    return found


def is_hidden(page: Chrome, name: str) -> bool:
    return bool(page.execute_script("return document.getElementById(arguments[0]).closest('[hidden]') !== null", name))


def click(page: Chrome, selector: str) -> None:
    from selenium.webdriver.common.by import By

    page.find_element(By.CSS_SELECTOR, selector).click()


def press(page: Chrome, *keys: str) -> None:
    """Keys, wherever the focus is."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def crowded() -> float:
    """How many times longer all takes here, since other programs want the processor, too; 1 on a machine of our own."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def drop_and_see(page: Chrome, station: StationProcess, name: str, photo: Image) -> None:
    """Drop a photo, and wait until the page tells its verdict and shows it."""
    station.drop(name, photo)
    until(lambda: text(page, "v-name") == f"in/{name}")
    until(lambda: name in text(page, "stage-part"))


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


def test_it_opens_within_a_second(page: Chrome, station: StationProcess) -> None:
    taken = []
    for _ in range(4):
        page.get(station.address)
        ready(page)
        taken.append(
            page.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        )
    assert min(taken) < 1000 * crowded(), taken


def test_it_asks_nobody_else(page: Chrome, station: StationProcess) -> None:
    import json

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


def test_the_heat_map_by_slider_and_keys(page: Chrome, station: StationProcess) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    drop_and_see(page, station, "heat.png", BAD)
    until(lambda: not is_hidden(page, "heat"))
    opacity = "return Number(document.getElementById('heat').style.opacity)"
    assert page.execute_script(opacity) == 0.6
    slider = page.find_element(By.ID, "opacity")
    ActionChains(page).move_to_element_with_offset(slider, slider.size["width"] * 0.4, 0).click().perform()
    assert page.execute_script(opacity) > 0.8
    slider.send_keys(Keys.HOME)
    assert page.execute_script(opacity) == 0
    page.execute_script("document.activeElement.blur()")
    press(page, "+", "+", "+")
    assert page.execute_script(opacity) == 0.3
    press(page, "-")
    assert (page.execute_script(opacity), text(page, "opacity-value")) == (0.2, "20 %")
    press(page, "h")
    assert page.execute_script(opacity) == 0
    press(page, "h")
    assert page.execute_script(opacity) == 0.2
    page.refresh()
    ready(page)
    assert page.execute_script(opacity) == 0.2  # the browser remembers


def test_a_region_says_which_pair_and_scale_fired(page: Chrome, station: StationProcess) -> None:
    drop_and_see(page, station, "region.png", BAD)
    until(lambda: page.execute_script("return document.querySelectorAll('.region').length") == 1)
    box, photo = page.execute_script(
        "return [document.querySelector('.region'), document.getElementById('photo')]"
        ".map(node => { const r = node.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })"
    )
    scale = photo[2] / 96
    assert (box[0] - photo[0]) / scale == pytest.approx(50, abs=5)
    assert (box[1] - photo[1]) / scale == pytest.approx(20, abs=5)
    click(page, ".region")
    assert "Region 1" in text(page, "why")
    assert "imitating pair, scale 4" in text(page, "why-shares")
    assert "reconstructing pair, scale 16" in text(page, "why-shares")
    assert "Alone would have rejected" in text(page, "why-text")
    press(page, "l")  # anything else, and back by the keyboard alone
    page.refresh()
    ready(page)
    until(lambda: page.execute_script("return document.querySelectorAll('.region').length") == 1)
    press(page, "r")
    assert "Region 1" in text(page, "why")


def test_older_parts_and_the_filter(page: Chrome, station: StationProcess) -> None:
    from selenium.webdriver.common.keys import Keys

    for name, photo in (("f1.png", GOOD), ("f2.png", BAD), ("f3.png", GOOD)):
        drop_and_see(page, station, name, photo)
    shown = "return [...document.querySelectorAll('#strip button')].map(node => node.className)"
    click(page, "#filter [data-filter=rejects]")
    until(lambda: set(page.execute_script(shown)) == {"anomalous"})
    click(page, "#strip button")
    until(lambda: "f2.png" in text(page, "stage-part"))
    assert text(page, "word") == "GOOD"  # the live verdict stays
    assert not is_hidden(page, "live")
    click(page, "#live")
    until(lambda: "f3.png" in text(page, "stage-part"))
    press(page, "f")
    until(
        lambda: (
            page.execute_script("return document.querySelector('#filter [aria-pressed=true]').dataset.filter")
            == "undecided"
        )
    )
    click(page, "#filter [data-filter=all]")
    until(lambda: "normal" in page.execute_script(shown))
    press(page, Keys.ARROW_RIGHT)
    until(lambda: "f2.png" in text(page, "stage-part"))
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    until(lambda: "f3.png" in text(page, "stage-part"))
    drop_and_wait_for_live(page, station)


def drop_and_wait_for_live(page: Chrome, station: StationProcess) -> None:
    """A part that is looked at stays, whatever comes; L goes back."""
    station.drop("f4.png", BAD)
    until(lambda: text(page, "v-name") == "in/f4.png")
    assert "f3.png" in text(page, "stage-part")
    press(page, "l")
    until(lambda: "f4.png" in text(page, "stage-part"))


def test_a_reject_is_acknowledged_and_taken_back(page: Chrome, station: StationProcess) -> None:
    drop_and_see(page, station, "ack.png", BAD)
    click(page, "#acknowledge")
    until(lambda: text(page, "decision") == "Acknowledged")
    assert is_hidden(page, "acknowledge")
    click(page, "#withdraw")
    until(lambda: not is_hidden(page, "acknowledge"))
    press(page, "a")
    until(lambda: text(page, "decision") == "Acknowledged")
    decided = "return document.querySelector('#strip .decided')?.innerText"
    until(lambda: page.execute_script(decided) == "✓ Acknowledged")


def test_this_was_wrong_with_a_comment(page: Chrome, station: StationProcess) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    drop_and_see(page, station, "wrong.png", BAD)
    click(page, "#was-good")
    page.find_element(By.ID, "note-comment").send_keys("<b>only dust</b>")
    page.find_element(By.ID, "note-person").send_keys("Ada")
    click(page, "#note-save")
    until(lambda: text(page, "decision") == "Was good")
    assert "Ada: <b>only dust</b>" in text(page, "notes")  # as it was typed, and no HTML
    assert "kept for the next training" in text(page, "toast")
    kept = list((station.history / "corrections" / "good").iterdir())
    assert [path.suffix for path in kept] == [".png"]
    assert kept[0].read_bytes() == (station.folder / "wrong.png").read_bytes()

    drop_and_see(page, station, "missed.png", GOOD)
    press(page, "d")
    press(page, "a hair", Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)  # comment, name, cancel, save
    until(lambda: text(page, "decision") == "Missed a defect")
    assert len(list((station.history / "corrections" / "defective").iterdir())) == 1
    press(page, "g")  # of a part that was decided, the key does nothing
    assert not page.execute_script("return document.querySelector('dialog[open]')")


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


def test_languages(page: Chrome, station: StationProcess) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    drop_and_see(page, station, "tongue.png", BAD)
    untranslated = (
        "return [...document.querySelectorAll('[data-word]')].filter(node => node.textContent === node.dataset.word)"
        ".map(node => node.dataset.word)"
    )
    for name, word, pause in (("de", "AUSSCHUSS", "Pause"), ("ja", "不良", "一時停止"), ("en", "REJECT", "Pause")):
        Select(page.find_element(By.ID, "language")).select_by_value(name)
        assert (text(page, "word"), text(page, "pause-word")) == (word, pause)
        assert page.execute_script("return document.documentElement.lang") == name
        assert page.execute_script(untranslated) == []
        assert overflow(page) == []
    Select(page.find_element(By.ID, "language")).select_by_value("de")
    page.refresh()
    ready(page)
    assert page.execute_script("return document.documentElement.lang") == "de"
    assert text(page, "word") == "AUSSCHUSS"


def test_all_languages_have_all_words() -> None:
    import re
    from importlib import resources

    source = resources.files("rstpm_edge.station.page").joinpath("words.js").read_text(encoding="utf-8")
    blocks = re.findall(r"^  (en|de|ja): \{\n(.*?)^  \},", source, re.M | re.S)
    words = {name: set(re.findall(r"(?:^|[ ,])(\w+): \"", block)) for name, block in blocks}
    assert words["en"] == words["de"] == words["ja"]
    holes = {
        name: {
            key: sorted(re.findall(r"\{(\w+)\}", value))
            for key, value in re.findall(r"(\w+): \"((?:[^\"\\]|\\.)*)\"", block)
        }
        for name, block in blocks
    }
    assert holes["en"] == holes["de"] == holes["ja"]


def test_dark_mode(page: Chrome, station: StationProcess) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    theme = "return document.documentElement.dataset.theme"
    before = (page.execute_script(theme), page.execute_script(ground))
    click(page, "#theme")
    after = (page.execute_script(theme), page.execute_script(ground))
    assert {before[0], after[0]} == {"dark", "light"}
    assert before[1] != after[1]
    press(page, "m")
    assert page.execute_script(ground) == before[1]


def test_keys_are_listed_and_can_be_switched_off(page: Chrome, station: StationProcess) -> None:
    press(page, "?")
    assert "Pause or resume" in text(page, "keys")
    click(page, "#keys-on")
    click(page, "#help-dialog [value=close]")
    theme = page.execute_script("return document.documentElement.dataset.theme")
    press(page, "m")
    assert page.execute_script("return document.documentElement.dataset.theme") == theme


def test_recalibrate(browser: Chrome, tmp_path: Path) -> None:
    """All rejects of a station of its own are decided, and the threshold follows."""
    model = write_model(tmp_path / "bracket.onnx", make_bundle())
    with station_process(tmp_path / "line", model) as station:
        browser.set_window_size(1400, 1000)
        browser.get(station.address)
        browser.execute_script("localStorage.clear()")
        ready(browser)
        for number, distance in enumerate((5, 7, 9, 11, 13, 15, 17, 19)):
            drop_and_see(browser, station, f"part{number}.png", patterned(distance, 100 + number))
        drop_and_see(browser, station, "defect.png", BAD)
        drop_and_see(browser, station, "odd.png", patterned(23, 200))
        click(browser, "#recalibrate-open")
        until(lambda: not is_hidden(browser, "recalibrate-problem"))
        assert "Rejects that nobody has decided: 2." in text(browser, "recalibrate-problem")
        assert browser.execute_script("return document.getElementById('recalibrate-do').disabled")
        click(browser, "#recalibrate-dialog [data-close]")
        click(browser, "#was-good")
        click(browser, "#note-save")
        until(lambda: text(browser, "decision") == "Was good")
        press(browser, "f", "f")  # what nobody has decided
        until(lambda: browser.execute_script("return document.querySelectorAll('#strip button').length") == 1)
        click(browser, "#strip button")
        until(lambda: "defect.png" in text(browser, "stage-part"))
        press(browser, "a")
        until(lambda: text(browser, "decision") == "Acknowledged")
        click(browser, "#recalibrate-open")
        until(lambda: not is_hidden(browser, "moved"))
        assert "0.99 → 1.078" in text(browser, "moved")
        click(browser, "#recalibrate-do")
        until(lambda: "Written:" in text(browser, "toast"))
        (written,) = (station.history / "models").glob("*.onnx")
        assert Detector(written, threads=1).threshold == pytest.approx(6 * 23 / 128)
        until(lambda: "1.078" in text(browser, "model-facts"))
        press(browser, "l")
        drop_and_see(browser, station, "again.png", patterned(22, 300))
        assert text(browser, "word") == "GOOD"
        browser.get("about:blank")


def overflow(page: Chrome) -> list[str]:
    """What reaches beyond the window's right edge."""
    found: list[str] = page.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] : "
        "[...document.querySelectorAll('body *')].filter(node => node.getBoundingClientRect().right > innerWidth + 1)"
        ".map(node => node.tagName + '#' + node.id + '.' + node.className)"
    )
    return found


@pytest.mark.parametrize("width", [1920, 1024, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_nobody_is_kept_out(page: Chrome, station: StationProcess, width: int, dark: bool) -> None:
    """axe-core finds no serious fault, in any state; and nothing reaches beyond the window."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        drop_and_see(page, station, f"axe{width}{dark}.png", BAD)
        if (page.execute_script("return document.documentElement.dataset.theme") == "dark") != dark:
            press(page, "m")
        until(lambda: page.execute_script("return document.querySelectorAll('.region').length") == 1)
        press(page, "r")
        assert overflow(page) == []
        assert serious_faults(page) == []
        for key, dialog in (("g", "note-dialog"), ("?", "help-dialog")):
            press(page, key)
            until(
                lambda dialog=dialog: bool(
                    page.execute_script("return document.getElementById(arguments[0]).open", dialog)
                )
            )  # type: ignore[misc]
            assert serious_faults(page) == []
            page.execute_script("document.getElementById(arguments[0]).close()", dialog)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


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


def test_nothing_is_left_of_a_part_with_a_hostile_name(page: Chrome, station: StationProcess) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    drop_and_see(page, station, name, BAD)
    assert page.execute_script("return document.querySelectorAll('img[src=\"x\"]').length") == 0
    until(lambda: name in page.execute_script("return document.querySelector('#strip button').title"))
