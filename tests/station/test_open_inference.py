"""The Open Inference Protocol: Triton's own client, and requests that are wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from station_server import Answer, Client, serving
from watcher import encoded

from rstpm_edge import Detector
from rstpm_edge.station.settings import Limits

pytestmark = pytest.mark.extra


@pytest.fixture
def client(tmp_path: Path, model_factory: ModelFactory) -> Iterator[Client]:
    (tmp_path / "models" / "bolt").mkdir(parents=True)
    model_factory("models/nut.onnx")
    model_factory("models/bolt/9.onnx")
    model_factory("models/bolt/10.onnx", preset="newer")
    with serving(tmp_path / "models", limits=Limits(batch=3, pixels=100_000)) as client:
        yield client


@pytest.fixture
def triton(client: Client) -> Iterator[Any]:
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(client.address) as triton:
        yield triton


def tensor(array: NDArray[Any], name: str, datatype: str, *, binary: bool) -> Any:
    from tritonclient.http import InferInput

    found = InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def test_what_triton_asks_of_a_server(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.get_server_metadata()["name"] == "rstpm-edge"
    assert triton.is_model_ready("bolt")
    assert triton.is_model_ready("bolt", "9")
    assert not triton.is_model_ready("bolt", "11")
    metadata = triton.get_model_metadata("bolt")
    assert metadata["versions"] == ["9", "10"]
    assert triton.get_model_metadata("bolt", "9")["versions"] == ["9"]
    assert [one["name"] for one in metadata["outputs"]] == ["score", "threshold", "p_value", "verdict", "anomaly_map"]


@pytest.mark.parametrize("binary", [True, False])
def test_triton_sends_images(
    client: Client, triton: Any, binary: bool, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    from tritonclient.http import InferRequestedOutput

    bad[..., 2] = 140  # red, in OpenCV's order
    images = np.stack([good, bad])[..., ::-1].copy()
    names = ("score", "threshold", "p_value", "verdict", "anomaly_map")
    answer = triton.infer(
        "bolt",
        [tensor(images, "image", "UINT8", binary=binary)],
        outputs=[InferRequestedOutput(name, binary_data=binary) for name in names],
        request_id="tray 3",
    )
    detector = Detector(client.station.products.catalogue["bolt"]["10"], threads=1)
    for index, image in enumerate((good, bad)):
        expected = detector(image)
        for name in ("score", "threshold", "p_value"):
            assert answer.as_numpy(name)[index] == getattr(expected, name)
        verdict = answer.as_numpy("verdict")[index]
        assert (verdict.decode() if binary else verdict) == expected.verdict
        assert np.array_equal(answer.as_numpy("anomaly_map")[index], expected.model_map)
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("tray 3", "bolt", "10")
    assert [one.fields["path"] for one in client.station.recent.last()] == ["tray 3 #2", "tray 3 #1"]


@pytest.mark.parametrize("binary", [True, False])
def test_triton_sends_files(triton: Any, binary: bool, good: NDArray[np.uint8], bad: NDArray[np.uint8]) -> None:
    contents = [encoded(bad), encoded(good, ".jpg")]
    if not binary:
        contents = [base64.b64encode(content) for content in contents]
    files = tensor(np.array(contents, np.object_), "file", "BYTES", binary=binary)
    answer = triton.infer("nut", [files], model_version="1")
    assert list(answer.as_numpy("verdict")) in ([b"anomalous", b"normal"], ["anomalous", "normal"])
    assert answer.as_numpy("anomaly_map").shape[0] == 2


def test_sixteen_bits(triton: Any, client: Client) -> None:
    image = np.full((1, 64, 64, 1), 127 * 257, np.uint16)
    for binary in (True, False):
        answer = triton.infer("nut", [tensor(image, "image", "UINT16", binary=binary)])
        assert answer.as_numpy("score")[0] == 0


def test_models_are_loaded_and_let_go(triton: Any, client: Client) -> None:
    def states() -> dict[tuple[str, str], str]:
        return {(one["name"], one["version"]): one["state"] for one in triton.get_model_repository_index()}

    assert set(states().values()) == {"UNAVAILABLE"}
    triton.load_model("bolt")
    assert states() == {("bolt", "9"): "UNAVAILABLE", ("bolt", "10"): "READY", ("nut", "1"): "UNAVAILABLE"}
    triton.load_model("bolt")  # again: the file as it is now
    triton.unload_model("bolt")
    assert set(states().values()) == {"UNAVAILABLE"}


def test_triton_is_told_what_is_wrong(triton: Any, good: NDArray[np.uint8]) -> None:
    from tritonclient.utils import InferenceServerException

    floats = tensor(np.full((1, 64, 64, 3), np.nan, np.float32), "image", "FP32", binary=True)
    with pytest.raises(InferenceServerException, match=r"must be UINT8 \(0 to 255\) or UINT16, and is FP32"):
        triton.infer("nut", [floats])
    with pytest.raises(InferenceServerException, match="There is no product screw: there are bolt, nut"):
        triton.infer("screw", [tensor(good[None], "image", "UINT8", binary=True)])
    with pytest.raises(InferenceServerException, match="it is not a PNG, JPEG, BMP or TIFF image"):
        triton.infer("nut", [tensor(np.array([b"no image"], np.object_), "file", "BYTES", binary=True)])
    image = tensor(good[None], "image", "UINT8", binary=True)
    with pytest.raises(InferenceServerException, match="without Content-Encoding"):
        triton.infer("nut", [image], request_compression_algorithm="gzip")


IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [127] * 4}


def infer(client: Client, document: object, tail: bytes = b"", **headers: str) -> Answer:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.post("/v2/models/nut/infer", text + tail, {name.replace("_", "-"): v for name, v in headers.items()})


def test_json_by_hand(client: Client) -> None:
    answer = infer(client, {"inputs": [{**IMAGE, "data": [[[[127], [127]], [[127], [127]]]]}], "outputs": []})
    assert answer.status == 200
    found = {one["name"]: one for one in answer.document["outputs"]}
    assert found["verdict"]["data"] == ["normal"]
    assert found["anomaly_map"]["shape"] == [1, *client.station.recent.last()[0].result.model_map.shape]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "The request is no JSON"),
        (b"{", "The request is no JSON"),
        (b"\xff\xfe", "The request is no JSON"),
        (b"[" * 100_000, "The request is no JSON"),
        (b"1" * 10_000, "The request is no JSON"),
        (b'{"inputs": [NaN]}', "The JSON holds NaN, which is no number"),
        (b"[]", "The request must be an object"),
        ({}, "inputs must be a list of one tensor"),
        ({"inputs": [IMAGE, IMAGE]}, "inputs must be a list of one tensor"),
        ({"inputs": [3]}, "An input must be an object"),
        ({"inputs": [IMAGE], "id": 3}, "id must be a text"),
        ({"inputs": [IMAGE], "parameters": []}, "parameters must be an object"),
        ({"inputs": [{**IMAGE, "name": "picture"}]}, "There is no input 'picture': give image, or file"),
        ({"inputs": [{**IMAGE, "datatype": "FP32"}]}, "must be UINT8 (0 to 255) or UINT16, and is FP32"),
        ({"inputs": [{**IMAGE, "datatype": ["UINT8"]}]}, "must be UINT8"),
        ({"inputs": [{**IMAGE, "shape": [2, 2, 1]}]}, "must have the shape [N, H, W, 3]"),
        ({"inputs": [{**IMAGE, "shape": [1, 2, 2, 2]}]}, "must have the shape [N, H, W, 3]"),
        ({"inputs": [{**IMAGE, "shape": [0, 2, 2, 1]}]}, "whole numbers above 0"),
        ({"inputs": [{**IMAGE, "shape": [1, True, 2, 1]}]}, "whole numbers above 0"),
        ({"inputs": [{**IMAGE, "shape": [1, 2.0, 2, 1]}]}, "whole numbers above 0"),
        ({"inputs": [{**IMAGE, "shape": [1, 10**9, 10**9, 3]}]}, "and this station takes 100,000"),
        ({"inputs": [{**IMAGE, "shape": [4, 2, 2, 1]}]}, "The input has 4 images, and a request has at most 3"),
        ({"inputs": [{**IMAGE, "data": [127] * 5}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": [127, 127, 127, 256]}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": [127, 127, 127, -1]}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": [127, 127, 127, 1.5]}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": [127, 127, 127, 10**30]}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": [[1, 2], [3]]}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": ["a"] * 4}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "data": {}}]}, "must be 4 whole numbers from 0 to 255"),
        ({"inputs": [{**IMAGE, "parameters": {"binary_data_size": 4}}]}, "at most those behind the JSON"),
        ({"inputs": [{**IMAGE, "parameters": {"shared_memory_region": "a"}}]}, "Shared memory is not supported"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1]}]}, "The input has no data"),
        ({"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1], "data": ["é"]}]}, "texts in Base64"),
        ({"inputs": [{"name": "file", "datatype": "BYTES", "shape": [2], "data": ["YQ=="]}]}, "says 2 files"),
        ({"inputs": [{"name": "file", "datatype": "UINT8", "shape": [2], "data": []}]}, "must be BYTES"),
        ({"inputs": [IMAGE], "outputs": [{"name": "map"}]}, "There is no output 'map': there are score"),
        ({"inputs": [IMAGE], "outputs": [{"name": []}]}, "There is no output '[]': there are score"),
        ({"inputs": [IMAGE], "outputs": {}}, "outputs must be a list"),
    ],
)
def test_requests_that_are_wrong(client: Client, document: object, words: str) -> None:
    answer = infer(client, document)
    assert answer.status in (400, 422)
    assert words in answer.error
    assert client.said == []  # no fault of ours


def test_binary_tensors_that_are_wrong(client: Client) -> None:
    def sized(size: int, name: str = "image", **changes: object) -> bytes:
        image = {"name": name, "datatype": "UINT8", "shape": [1, 2, 2, 1], "parameters": {"binary_data_size": size}}
        return json.dumps({"inputs": [{**image, **changes}]}).encode()

    files = {"name": "file", "datatype": "BYTES", "shape": [1]}
    for text, tail, length, words in (
        (sized(4), b"\x7f" * 4, "9999", "must be a number of bytes"),
        (sized(4), b"\x7f" * 4, "-1", "must be a number of bytes"),
        (sized(4), b"\x7f" * 4, "1" * 5000, "must be a number of bytes"),
        (sized(4), b"\x7f" * 5, None, "There are 5 bytes behind the JSON, and the input says 4"),
        (sized(3), b"\x7f" * 3, None, "takes 4 bytes, and there are 3"),
        (sized(True), b"\x7f" * 1, None, "binary_data_size must be a number of bytes"),
        (sized(3, **files), b"\x7f" * 3, None, "The input file ends too early"),
        (sized(8, **files), b"\x7f" * 8, None, "The input file ends too early"),
    ):
        length = str(len(text)) if length is None else length
        answer = infer(client, text, tail, Inference_Header_Content_Length=length)
        assert (answer.status, words in answer.error) == (400, True), answer.body
    text = sized(4)
    answer = infer(client, text, b"\x7f" * 4, Inference_Header_Content_Length=str(len(text)))
    assert answer.status == 200
