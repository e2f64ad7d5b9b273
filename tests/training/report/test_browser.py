"""The report in a real browser. Not part of `make test`, since not every machine has one: `make test-browser`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bundles import write_model
from labelled import NASTY, write_labelled

from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.evaluation.evaluate import evaluate_predictions
from rstpm_edge.training.evaluation.predict import predict
from rstpm_edge.training.report.html import write_report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser
KINDS = {"good": 6, "spot": 5, NASTY: 3}
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
)
WIDTHS = {"desktop": 1280, "tablet": 820}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    data, model = write_labelled(folder / "data", KINDS), write_model(folder / "model.onnx")
    predictions = predict(data, model, InferenceOptions(threads=1))
    write_report(folder / "report.html", predictions, evaluate_predictions(predictions))
    return folder / "report.html"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("there is no chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for option in OPTIONS.split():
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(chrome: Chrome, report: Path) -> Chrome:
    chrome.set_window_size(WIDTHS["desktop"], 900)
    chrome.get(report.as_uri())
    return chrome


def visible(page: Chrome) -> list[dict[str, str]]:
    """The data of the gallery's items that can be seen, in order."""
    items: list[dict[str, str]] = page.execute_script(
        "return [...document.querySelectorAll('#images > li')].filter(i => i.offsetParent).map(i => ({...i.dataset}))"
    )
    return items


def column(page: Chrome, section: str, number: int) -> list[str]:
    """The cells of one column of a table, as they stand."""
    cells: list[str] = page.execute_script(
        "return [...document.querySelector('#' + arguments[0] + ' table').tBodies[0].rows]"
        ".map(row => row.cells[arguments[1]].textContent.trim())",
        section,
        number,
    )
    return cells


def press(page: Chrome, selector: str, *keys: str) -> None:
    from selenium.webdriver.common.by import By

    element = page.find_element(By.CSS_SELECTOR, selector)
    page.execute_script("arguments[0].focus()", element)
    element.send_keys(*keys)


def test_it_loads_without_a_complaint_and_asks_for_nothing(page: Chrome, report: Path) -> None:
    assert page.title == "data: evaluation report"
    assert page.get_log("browser") == []
    requested = set()
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requested.add(message["params"]["request"]["url"].partition(":")[0])
        assert message["method"] not in ("Network.webSocketCreated", "Network.loadingFailed")
    assert requested <= {"file", "data"}
    assert "file" in requested  # the log works
    violations = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    )
    assert violations == []


def test_the_policy_refuses_what_was_not_meant(page: Chrome) -> None:
    refused: list[str] = page.execute_async_script("""
        const done = arguments[0], seen = [];
        document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "file:///nothing.png";
        document.body.append(image);
        setTimeout(() => { script.remove(); image.remove(); done([...seen, String(window.ran)]); }, 300);
    """)
    assert sorted(refused) == ["img-src", "script-src-elem", "undefined"]
    page.get_log("browser")  # takes the complaints away


def test_all_pictures_decode(page: Chrome) -> None:
    pictures: list[Any] = page.execute_async_script("""
        const done = arguments[0], images = [...document.images];
        Promise.all(images.map((i) => i.decode().catch(() => null)))
            .then(() => done(images.map((i) => [i.complete, i.naturalWidth, i.getAttribute("width"), i.alt])));
    """)
    assert len(pictures) > 14
    for complete, width, stated, alt in pictures:
        assert complete
        assert width == int(stated) > 0
        assert alt


def test_the_style_and_both_charts_are_drawn(page: Chrome) -> None:
    sizes: list[list[float]] = page.execute_script(
        "return [...document.querySelectorAll('svg.chart')].map(c => [c.clientWidth, c.clientHeight])"
    )
    sizes = [size for size in sizes if size != [0, 0]]  # of the histograms one is shown
    assert len(sizes) == 2
    assert all(width > 200 and height > 150 for width, height in sizes)
    assert page.execute_script("return getComputedStyle(document.querySelector('.cards')).display") == "grid"


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_is_wider_than_the_screen(page: Chrome, width: int) -> None:
    page.set_window_size(width, 900)
    scrolled, inner = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert scrolled <= inner == width


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_the_letters_of_the_charts_can_be_read(page: Chrome, width: int) -> None:
    page.set_window_size(width, 900)
    heights: list[float] = page.execute_script(
        "return [...document.querySelectorAll('svg.chart text')].map(t => t.getBoundingClientRect().height)"
        ".filter(h => h > 0)"
    )
    assert len(heights) > 10
    assert min(heights) > 9


def test_tables_are_sorted_by_keyboard(page: Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    third = "#metrics thead th:nth-child(5) button"  # pixel AUROC
    before = column(page, "metrics", 4)
    press(page, third, Keys.ENTER)
    falling = column(page, "metrics", 4)
    assert falling == sorted(before, key=float, reverse=True)
    heading = "return document.querySelector('#metrics thead th:nth-child(5)').getAttribute('aria-sort')"
    assert page.execute_script(heading) == "descending"
    press(page, third, Keys.SPACE)
    assert column(page, "metrics", 4) == sorted(before, key=float)
    assert page.execute_script(heading) == "ascending"
    press(page, "#metrics thead th:nth-child(1) button", Keys.ENTER)
    assert page.execute_script(heading) is None
    maps = [f"Map {pair}_{stride}" for pair in ("recon", "stpm") for stride in (4, 8, 16)]  # numbers by value
    assert column(page, "metrics", 0) == ["Both pairs", *maps, "Reconstruction pair alone", "STPM pair alone"]

    assert column(page, "kinds", 0) == [NASTY, "spot"]
    press(page, "#kinds thead th:nth-child(2) button", Keys.ENTER)  # images: 5 and 3
    assert column(page, "kinds", 0) == ["spot", NASTY]


def test_the_gallery_is_filtered_and_ordered_by_keyboard(page: Chrome) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def count() -> str:
        return page.find_element(By.CSS_SELECTOR, "#filters output").text

    assert len(visible(page)) == 14
    assert count() == "14 of 14 shown"
    press(page, "select[name=kind]", NASTY)  # typing in a list chooses
    assert {item["name"].split("/")[1] for item in visible(page)} == {NASTY}
    assert count() == "3 of 14 shown"
    press(page, "select[name=kind]", Keys.HOME)
    press(page, "select[name=outcome]", "missed")
    missed = visible(page)
    assert {item["outcome"] for item in missed} == {"missed"}
    press(page, "select[name=kind]", "good")
    assert visible(page) == []
    assert count() == "0 of 14 shown"
    press(page, "select[name=kind]", Keys.HOME)
    press(page, "select[name=outcome]", "right")
    assert len(visible(page)) + len(missed) == 14

    press(page, "select[name=outcome]", Keys.HOME)
    scores = [float(item["score"]) for item in visible(page)]
    press(page, "select[name=order]", Keys.ARROW_DOWN)
    assert [float(item["score"]) for item in visible(page)] == sorted(scores, reverse=True)
    press(page, "select[name=order]", Keys.ARROW_DOWN)
    assert [float(item["score"]) for item in visible(page)] == sorted(scores)
    press(page, "select[name=order]", Keys.ARROW_DOWN)
    names = [item["name"] for item in visible(page)]
    assert [name for name in names if "good" in name] == [f"test/good/{i}.png" for i in range(6)]
    press(page, "select[name=order]", Keys.HOME)
    assert [float(item["score"]) for item in visible(page)] == scores
    assert page.get_log("browser") == []


def test_it_prints(page: Chrome) -> None:
    pdf = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert len(pdf["data"]) > 50_000
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = page.execute_script(
            "return ['nav', '#filters'].map(s => getComputedStyle(document.querySelector(s)).display)"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert hidden == ["none", "none"]
