"""Whom the page of the station serves: languages, a dark hall, keys, small screens: `make test-browser`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe import serious_faults
from page_browser import BAD, click, drop_and_see, is_hidden, overflow, press, ready, text
from station_process import StationProcess
from waiting import until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.browser, pytest.mark.extra]


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


def test_the_day_begins_at_zero(page: Chrome) -> None:
    """In each language. Older browsers than today's take `hour12: false` for a day from 1 to 24: 24:05."""
    said = page.execute_script(
        "return import('/page/words.js').then(({ LANGUAGES, setLanguage, clock }) => LANGUAGES.map((name) => {"
        " setLanguage(name); return [0, 12, 23].map((hour) => clock(new Date(2026, 6, 1, hour, 5, 12) / 1000)); }))"
    )
    assert said == [["00:05:12", "12:05:12", "23:05:12"]] * 3


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


def is_open(page: Chrome, dialog: str) -> bool:
    return bool(page.execute_script("return document.getElementById(arguments[0]).open", dialog))


def test_a_key_right_after_a_dialog_counts(page: Chrome, station: StationProcess) -> None:
    """A browser leaves the focus in a field of a closed dialog until it draws again: no key is lost to that field."""
    from selenium.webdriver.common.keys import Keys

    drop_and_see(page, station, "keys.png", BAD)
    press(page, "g")
    assert is_open(page, "note-dialog")
    focus = page.execute_script(
        "document.getElementById('note-dialog').close(); const focus = document.activeElement;"
        "focus.dispatchEvent(new KeyboardEvent('keydown', {key: '?', bubbles: true})); return focus.id"
    )
    assert focus == "note-comment"  # no frame between the two
    assert is_open(page, "help-dialog")
    press(page, Keys.ESCAPE, "g", "?", Keys.ESCAPE, "?")
    assert is_open(page, "help-dialog")
    assert page.execute_script("return document.getElementById('note-comment').value") == "?"  # a key of an open one


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
        assert (page.execute_script("return document.documentElement.dataset.theme") == "dark") == dark
        until(lambda: page.execute_script("return document.querySelectorAll('.region').length") == 1)
        press(page, "r")
        assert not is_hidden(page, "why")
        assert overflow(page) == []
        assert serious_faults(page) == []
        for key, dialog in (("g", "note-dialog"), ("?", "help-dialog")):
            press(page, key)
            assert is_open(page, dialog)
            assert serious_faults(page) == []
            page.execute_script("document.getElementById(arguments[0]).close()", dialog)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
