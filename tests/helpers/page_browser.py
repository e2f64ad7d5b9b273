"""What a person does on the page of a station, by Selenium."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from confirmed import patterned
from numpy.typing import NDArray
from station_process import StationProcess
from waiting import until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Image = NDArray[np.uint8]
GOOD, BAD = patterned(3, 0, 96), patterned(3, 1, 96)
BAD[20:40, 50:80] = 255


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


def overflow(page: Chrome) -> list[str]:
    """What reaches beyond the window's right edge."""
    found: list[str] = page.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] : "
        "[...document.querySelectorAll('body *')].filter(node => node.getBoundingClientRect().right > innerWidth + 1)"
        ".map(node => node.tagName + '#' + node.id + '.' + node.className)"
    )
    return found
