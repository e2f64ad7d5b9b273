"""The page to draw a ROI and a mask on, in a real browser: `make test-browser`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rstpm_edge.image.decode import read_image
from rstpm_edge.image.mask import load_mask
from rstpm_edge.outputs.roi_page import page_of

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser
WIDTH, HEIGHT = 1200, 900


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def page(tmp_path: Path, downloads: Path) -> Iterator[Chrome]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("there is no chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for option in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
        options.add_argument(f"--{option}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    (tmp_path / "page.html").write_text(page_of(np.full((HEIGHT, WIDTH, 3), 127, np.uint8), "part.png"))
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_window_size(1280, 900)
    browser.get((tmp_path / "page.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    browser.quit()


def said(page: Chrome, name: str) -> str:
    text: str = page.execute_script("return document.getElementById(arguments[0]).textContent", name)
    return text


def go(page: Chrome, *points: tuple[float, float], drag: bool = False) -> None:
    """Click at shares of the photo's width and height, or drag from the first to the last."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    canvas = page.find_element(By.ID, "over")
    actions = ActionChains(page, duration=20)
    for number, (x, y) in enumerate(points):
        actions.move_to_element_with_offset(canvas, (x - 0.5) * canvas.size["width"], (y - 0.5) * canvas.size["height"])
        if not drag:
            actions.click()
        elif number == 0:
            actions.click_and_hold()
    (actions.release() if drag else actions).perform()


def test_a_rectangle_by_mouse_numbers_and_keys(page: Chrome) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    assert said(page, "option") == "(none: the whole photo)"
    go(page, (0.25, 0.25), (0.6, 0.4), (0.75, 0.5), drag=True)
    x, y, width, height = (int(value) for value in said(page, "option").removeprefix("--roi ").split(","))
    assert (x, y, width, height) == pytest.approx((300, 225, 600, 225), abs=3)
    field = page.find_element(By.ID, "x")
    field.clear()
    field.send_keys("17")
    assert said(page, "option") == f"--roi 17,{y},{width},{height}"
    field.send_keys("00")  # beyond the photo
    assert said(page, "said") == "That is no part of the photo."
    page.find_element(By.ID, "clear").click()
    assert said(page, "option") == "(none: the whole photo)"

    canvas = page.find_element(By.ID, "over")
    page.execute_script("arguments[0].focus()", canvas)
    x, y = (int(value) for value in said(page, "cross").split(", "))
    canvas.send_keys(Keys.ENTER, Keys.ARROW_RIGHT * 5, Keys.SHIFT + Keys.ARROW_DOWN * 2 + Keys.NULL, Keys.ENTER)
    assert said(page, "option") == f"--roi {x},{y},5,20"
    page.find_element(By.ID, "copy").click()
    assert said(page, "said") == "Copied."


def test_a_mask_is_drawn_and_saved(page: Chrome, downloads: Path) -> None:
    from selenium.webdriver.common.by import By

    page.find_element(By.CSS_SELECTOR, "input[value=ignore]").click()
    go(page, (0.5, 0.5), (0.9, 0.5), (0.9, 0.9), (0.5, 0.9), (0.5, 0.5))  # closed by a click on the first corner
    page.find_element(By.CSS_SELECTOR, "input[value=count]").click()
    go(page, (0.6, 0.6), (0.7, 0.6), (0.7, 0.7))
    page.find_element(By.ID, "close").click()
    assert said(page, "shapes") == "2 shapes; pink does not count."
    page.find_element(By.ID, "save").click()
    deadline = time.monotonic() + 20
    while not (downloads / "mask.png").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pixels = read_image(downloads / "mask.png")
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert set(np.unique(pixels)) == {0, 255}
    white = load_mask(downloads / "mask.png").white
    assert white[: HEIGHT // 2 - 9].all()
    assert not white[800, 700]
    assert white[570, 820]  # counts after all
    page.find_element(By.ID, "undo").click()
    assert said(page, "shapes") == "1 shape; pink does not count."
