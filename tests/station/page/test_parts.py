"""A part on the page of the station: its image, what people say of it, and what follows: `make test-browser`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import make_bundle, write_model
from confirmed import patterned
from page_browser import BAD, GOOD, click, drop_and_see, is_hidden, press, ready, text
from station_process import StationProcess, station_process
from waiting import until

from rstpm_edge import Detector

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.browser, pytest.mark.extra]


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


def test_nothing_is_left_of_a_part_with_a_hostile_name(page: Chrome, station: StationProcess) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    drop_and_see(page, station, name, BAD)
    assert page.execute_script("return document.querySelectorAll('img[src=\"x\"]').length") == 0
    until(lambda: name in page.execute_script("return document.querySelector('#strip button').title"))


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


def test_a_line_with_options_of_its_own_is_chosen_first(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    model, side = write_model(tmp_path / "bracket.onnx", make_bundle()), tmp_path / "line" / "side"
    side.mkdir(parents=True)
    cameras = """
    [camera.top]
    source = "in"
    watch = true
    [camera.side]
    source = "side"
    watch = true
    alpha = "5%"
    """
    with station_process(tmp_path / "line", model, cameras=cameras) as station:
        browser.set_window_size(1400, 1000)
        browser.get(station.address)
        browser.execute_script("localStorage.clear()")
        ready(browser)
        station.drop("top.png", patterned(5, 0))
        station.drop("bad.png", BAD)
        for number, distance in enumerate((7, 9, 11)):
            replace(station, folder=side).drop(f"side{number}.png", patterned(distance, 100 + number))
        until(lambda: browser.execute_script("return document.querySelectorAll('#strip button').length") == 5)
        click(browser, "#recalibrate-open")
        until(lambda: text(browser, "recalibrate-problem") == "Choose a line first, at the top.")
        click(browser, "#recalibrate-dialog [data-close]")
        Select(browser.find_element(By.ID, "origin")).select_by_value("side")
        click(browser, "#recalibrate-open")
        until(lambda: "nobody has decided: 1." in text(browser, "recalibrate-problem"))
        assert "Good parts by line\nside 3, top 1" in text(browser, "stretch")
        click(browser, "#to-decide")  # one of the other line, which is not among the last parts of this one
        until(lambda: browser.execute_script("return document.querySelectorAll('#strip button').length") == 1)
        click(browser, "#strip button")
        until(lambda: "bad.png" in text(browser, "stage-part"))
        press(browser, "a")
        until(lambda: browser.execute_script("return document.querySelectorAll('#strip button').length") == 0)
        for line, promise, threshold in (("side", "5%", "0.95"), ("top", "1%", "0.99")):
            Select(browser.find_element(By.ID, "origin")).select_by_value(line)
            until(lambda promise=promise: f"at most {promise} are rejected" in text(browser, "promise"))  # type: ignore[misc]
            assert threshold in text(browser, "model-facts")
            click(browser, "#recalibrate-open")
            until(lambda: not is_hidden(browser, "moved"))
            assert is_hidden(browser, "to-decide")
            assert text(browser, "stretch").split("\n")[:2] == ["Passed as good", "4"]
            assert text(browser, "moved").split("\n")[1].startswith(f"{threshold} → ")
            assert f"on average at most\n{promise}\n" in text(browser, "moved")
            assert ("own rate" in text(browser, "moved")) == (line == "side")
            click(browser, "#recalibrate-dialog [data-close]")
        # Until the answer is there, the dialog has nothing of the line before.
        browser.execute_script(
            "window.plain = window.fetch; window.held = [];"
            "window.fetch = (...all) => new Promise((go) => window.held.push(go)).then(() => window.plain(...all));"
        )
        click(browser, "#recalibrate-open")
        assert [is_hidden(browser, part) for part in ("moved", "to-decide", "recalibrate-problem")] == [True] * 3
        assert text(browser, "stretch") == ""
        browser.execute_script("window.fetch = window.plain; window.held.forEach((go) => go());")
        until(lambda: not is_hidden(browser, "moved"))
        click(browser, "#recalibrate-dialog [data-close]")
        browser.set_window_size(390, 900)
        Select(browser.find_element(By.ID, "language")).select_by_value("de")
        click(browser, "#recalibrate-open")
        until(lambda: "Schwelle" in text(browser, "moved"))
        heights = "return [...document.querySelectorAll('#moved dd')].map(node => node.scrollHeight)"
        assert max(browser.execute_script(heights)) < 45  # no letter below the other
        click(browser, "#recalibrate-dialog [data-close]")
        browser.get("about:blank")
