"""Fixtures of the tests of sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import cv2
import pytest
from live_source import FakeCapture
from mjpeg_server import MjpegServer
from simulated_time import SimulatedTime

from rstpm_edge.sources import new_files, open_for_writing, watched_folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """The time of watched folders."""
    simulated = SimulatedTime()
    for module in (new_files, watched_folder, open_for_writing):
        monkeypatch.setattr(module, "time", simulated)
    return simulated


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer() as server:
        yield server


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    """The only camera there is."""
    fake = FakeCapture()

    def capture(*arguments: Any) -> FakeCapture:
        fake.arguments = arguments
        return fake

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    return fake
