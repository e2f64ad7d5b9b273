"""A station in a process of its own, and its page in a headless Chromium, which a file's tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from bundles import make_bundle, write_model
from page_browser import ready
from station_process import StationProcess, station_process

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


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
