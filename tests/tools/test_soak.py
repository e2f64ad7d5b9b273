"""`tools/soak.py` tells a leak from noise, and from what a process needs once."""

from __future__ import annotations

import dataclasses
import math
import re
import weakref
from pathlib import Path

import click
import numpy as np
import pytest
import soak
import soak_memory
import soak_page
import soak_serve
from bundles import ModelFactory
from click.testing import CliRunner
from confirmed import write_confirmed
from limits import make_profile
from numpy.typing import NDArray

EXCHANGED = ["3 threads, detectors replaced", "3 threads, models swapped"]


def samples(
    rss: NDArray[np.float64], files: NDArray[np.int64] | None = None, *, heap: NDArray[np.float64] | None = None
) -> list[soak_memory.Sample]:
    """One for each thousand images; what is in use grows as the resident set does, where nothing else is said."""
    files = np.full(len(rss), 7) if files is None else files
    heap = rss - 80 if heap is None else heap
    return [
        soak_memory.Sample("stage", float(i), 1000 * i, 0, float(rss[i]), float(heap[i]), int(files[i]), 4)
        for i in range(len(rss))
    ]


def test_a_slope_is_found_behind_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 1000)
    steady = 120 + noise
    steady[:200] -= np.linspace(50, 0, 200)  # what is loaded at first is no leak
    found = soak_memory.trend(samples(steady))
    assert abs(found.rss.value) < 0.1
    assert not found.grows(1.0)
    leak = soak_memory.trend(samples(steady + np.arange(1000) * 0.02))  # 2 MB per 100,000 images
    assert leak.rss.value == pytest.approx(2, abs=4 * leak.rss.error)
    assert leak.grows(1.0)


def test_samples_without_an_image_between_them_say_nothing() -> None:
    stuck = [dataclasses.replace(sample, images=5) for sample in samples(np.arange(100.0, 130.0))]
    assert soak_memory.trend(stuck).rss == soak_memory.Slope(0.0, math.inf)
    assert not soak_memory.trend(stuck).grows(1.0)


def test_samples_are_kept_without_growing() -> None:
    """In an array that is there from the start: a list of them, in the process that is measured, looks like a leak."""
    found = samples(100 + np.arange(200) * 0.02)
    kept = soak_memory.SampleTable("stage", 200)
    held = []
    for sample in found:
        given = dataclasses.replace(sample)
        kept.add(given)
        held.append(weakref.ref(given))
    del given
    assert [one() for one in held] == [None] * 200
    assert kept.samples() == found


def test_what_the_allocator_keeps_is_no_leak() -> None:
    kept = samples(100 + np.arange(1000) * 0.02, heap=np.full(1000, 20.0))
    assert soak_memory.trend(kept).rss.value == pytest.approx(2)
    assert not soak_memory.trend(kept).grows(1.0)


def test_what_is_in_use_is_what_was_asked_for() -> None:
    before = soak_memory.in_use()
    held = [bytes(1000) for _ in range(20_000)]
    assert soak_memory.in_use() - before == pytest.approx(20, abs=2)
    held.clear()
    assert soak_memory.in_use() - before == pytest.approx(0, abs=2)


def test_a_file_that_is_open_for_a_moment_is_no_leak() -> None:
    steady, files = np.full(300, 120.0), np.full(300, 7)
    files[::5] += 1
    assert not soak_memory.trend(samples(steady, files)).grows(1.0)
    files[200:] += 1
    assert soak_memory.trend(samples(steady, files)).grows(1.0)


@pytest.mark.extra
def test_a_moment_of_the_server() -> None:
    result = CliRunner().invoke(soak_serve.main, ["--minutes", "0.03", "--warm-up", "20", "--limit", "1e9"])
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    row = [cell.strip() for cell in result.stdout.splitlines()[2].strip("|").split("|")]
    assert int(row[0].replace(",", "")) > 3
    assert int(row[1].replace(",", "")) > 3
    last = result.stdout.splitlines()[-1].strip("| ").split(" | ")
    images, memory, in_use = (float(cell.replace(",", "")) for cell in last)
    assert images == int(row[0].replace(",", ""))
    assert memory > in_use > 20


@pytest.mark.browser
@pytest.mark.extra
def test_a_moment_with_the_page_open(tmp_path: Path) -> None:
    arguments = ["--page", "--minutes", "0.1", "--warm-up", "20", "--limit", "1e9"]
    result = CliRunner().invoke(soak_serve.main, [*arguments, "--samples", str(tmp_path / "samples.csv")])
    first, *samples = (tmp_path / "samples.csv").read_text().splitlines()
    assert (first, len(samples) > 5) == ("stage,seconds,images,swaps,rss,heap,files,threads", True)
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    assert not result.stderr.startswith("Error"), result.stderr
    verdicts, pictures, gone, heap, nodes = result.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert min(int(count.replace(",", "")) for count in (verdicts, pictures)) > 0
    assert gone == "0"
    assert all(0.5 < float(one) < 50 for one in heap.split(", "))
    assert all(int(one.replace(",", "")) > 100 for one in nodes.split(" → "))


GONE = (
    "http://127.0.0.1:34529/v1/inspections/17960779/small.jpg - "
    "Failed to load resource: the server responded with a status of 404 (Not Found)"
)


def test_a_page_that_stands_still_is_told() -> None:
    first, last = soak_page.PageSample(3, 2, 2.0, 900), soak_page.PageSample(9, 5, 2.0, 900)
    with pytest.raises(click.ClickException, match="stood still"):
        soak_serve.check_page([], [first, dataclasses.replace(last, pictures=2)])
    with pytest.raises(click.ClickException, match="console: no picture"):
        soak_serve.check_page([GONE, "no picture"], [first, last])


def test_a_picture_that_is_no_longer_kept_is_no_fault_of_the_page() -> None:
    looks = soak_page.PageSample(3, 2, 2.0, 900), soak_page.PageSample(9, 5, 2.0, 900)
    soak_serve.check_page([GONE, GONE.replace("small.jpg", "heat.png")], looks)
    for other in (GONE.replace("404", "500"), GONE.replace("inspections/17960779/small.jpg", "models")):
        with pytest.raises(click.ClickException, match="console: http"):
            soak_serve.check_page([other], looks)


def test_what_the_server_may_be_given() -> None:
    arguments = ["--minutes", "0.02", "--warm-up", "20", "--limit", "1e9", "--no-history", "--", "--nonsense"]
    result = CliRunner().invoke(soak_serve.main, arguments)
    assert (result.exit_code, result.output.splitlines()[-1]) == (1, "Error: The server did not start.")


def test_samples_after_twice_as_many_images() -> None:
    found = soak_serve.doubling(samples(np.full(20, 150.0)))
    assert [one.images for one in found] == [1000, 2000, 4000, 8000, 16000, 19000]


def test_what_each_verdict_leaves_is_found() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 180)
    assert not soak_serve.grows(soak_memory.trend(samples(150 + noise)), 20)
    kept = samples(150 + noise + np.arange(180), heap=70 + noise)  # by the allocator alone
    assert not soak_serve.grows(soak_memory.trend(kept), 20)
    assert soak_serve.grows(soak_memory.trend(samples(150 + noise + np.arange(180))), 20)  # 1 kB each
    files = np.arange(180) // 60 + 20
    assert soak_serve.grows(soak_memory.trend(samples(150 + noise, files)), 20)
    assert not soak_serve.grows(soak_memory.trend(samples(150 + noise, files)), 20, soak_serve.BROWSER)
    assert soak_serve.grows(soak_memory.trend(samples(150 + noise, np.arange(180) // 12 + 20)), 20, soak_serve.BROWSER)


def test_a_moment_of_all_stages() -> None:
    result = CliRunner().invoke(soak.main, ["--minutes", "0.05", "--limit", "1e9"])
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["one thread", "3 threads", *EXCHANGED]
    assert all(int(row[1].replace(",", "")) > 10 for row in rows)
    assert [int(row[2]) > 0 for row in rows] == [False, False, True, True]


def test_a_real_model_is_given_photos_of_its_product(tmp_path: Path, model_factory: ModelFactory) -> None:
    model = model_factory(profile=make_profile(sizes=((64, 64),)))
    arguments = ["--model", str(model), "--minutes", "0.05", "--limit", "1e9"]
    refused = CliRunner().invoke(soak.main, arguments)
    assert refused.exit_code == 1
    assert re.search(r"Error: (\d+) of \d+ images had no verdict: give photos of the model's product", refused.output)
    write_confirmed(tmp_path / "photos", range(3, 12))
    result = CliRunner().invoke(soak.main, [*arguments, "--photos", str(tmp_path / "photos")])
    assert result.exit_code == 0, result.output
