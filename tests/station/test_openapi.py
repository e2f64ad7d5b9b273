"""What the server says of itself, and what strangers make of that: requests that schemathesis draws from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT
from page_station import page_station
from station_server import Client

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """With the page and a history, in which one part is."""
    from bundles import write_model

    folder = tmp_path_factory.mktemp("station")
    with page_station(write_model(folder / "model.onnx"), folder / "kept") as client:
        part = cv2.imencode(".png", np.full((120, 160, 3), 128, np.uint8))[1].tobytes()
        assert client.post("/v1/inspect", part).status == 200
        yield client


def test_nothing_that_is_drawn_breaks_it(client: Client) -> None:
    """Each answer is one that the description has, of a status and form that it says."""
    schema = schemathesis.openapi.from_url(f"http://{client.address}/openapi.json")
    drawn = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/v1/events":  # which never ends
            continue

        @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal drawn
            drawn += 1
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # nobody draws an image file

        check()
    assert drawn > 100
    assert client.said == []  # no fault of ours


def test_it_names_what_there_is(client: Client) -> None:
    document = client.get("/openapi.json").document
    assert document["info"]["title"] == "rstpm-edge"
    assert {"/v1/inspect", "/v1/events", "/v2/models/{model}/infer", "/metrics"} <= set(document["paths"])
    assert {"/v1/inspections", "/v1/inspections/{part}/notes", "/v1/recalibration"} <= set(document["paths"])
    assert "http" not in str(document["paths"]["/v1/inspect"])  # nothing is loaded from elsewhere


def test_paths_are_in_the_documentation(client: Client) -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("serve.md", "station.md"))
    for path in client.get("/openapi.json").document["paths"]:
        shown = path.replace("{model}", "NAME").replace("{version}", "V").replace("{part}", "ID")
        assert f"`{shown}`" in text or any(f"{method} {shown}`" in text for method in ("GET", "POST", "DELETE")), path
