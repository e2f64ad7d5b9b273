"""Tensors of the Open Inference Protocol: from the body of a request to images, and from verdicts to the answer.

https://github.com/kserve/open-inference-protocol, with Triton's extension for binary tensors: a body of JSON, whose
length a header gives, and the tensors' bytes behind it.
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.result import Result
from rstpm_edge.station.answers import Refusal
from rstpm_edge.station.settings import Limits

LENGTH_HEADER = "Inference-Header-Content-Length"
LONGEST_LENGTH = 20  # digits of it
# Little-endian, as the protocol has it.
NUMBERS: Mapping[str, Any] = {"UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2")}
INPUTS = (
    {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    {"name": "file", "datatype": "BYTES", "shape": [-1]},
)
OUTPUTS = (
    {"name": "score", "datatype": "FP64", "shape": [-1]},
    {"name": "threshold", "datatype": "FP64", "shape": [-1]},
    {"name": "p_value", "datatype": "FP64", "shape": [-1]},
    {"name": "verdict", "datatype": "BYTES", "shape": [-1]},
    {"name": "anomaly_map", "datatype": "FP32", "shape": [-1, -1, -1]},
)
_DATATYPES = {str(output["name"]): str(output["datatype"]) for output in OUTPUTS}


@dataclass(frozen=True)
class Inference:
    """What a request asks for.

    `images` are arrays (H, W, C) RGB, RGBA or grey, or image files. `outputs` are the names of those that are wanted,
    and whether each is to be binary. `id` is the client's own name for the request.
    """

    images: Sequence[NDArray[Any] | bytes]
    outputs: Mapping[str, bool]
    id: str | None


def parse_inference(body: bytes, json_length: str | None, limits: Limits) -> Inference:
    """Read a request. `json_length` is the header that says how long the JSON is; None where there is nothing else.

    Raises Refusal for one that is wrong.
    """
    end = len(body)
    if json_length is not None:
        # Of thousands of digits Python makes no number.
        if not json_length.isdecimal() or len(json_length) > LONGEST_LENGTH or int(json_length) > len(body):
            _refuse(f"{LENGTH_HEADER} must be a number of bytes, at most those of the body")
        end = int(json_length)
    document = _object(_parsed(body[:end]), "The request")
    binary = memoryview(body)[end:]
    parameters = _object(document.get("parameters", {}), "parameters")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        _refuse("inputs must be a list of one tensor: image, or file")
    images, used = _images(_object(inputs[0], "An input"), binary, limits)
    if used != len(binary):
        _refuse(f"There are {len(binary)} bytes behind the JSON, and the input says {used}")
    number = document.get("id")
    if number is not None and not isinstance(number, str):
        _refuse("id must be a text")
    return Inference(images, _wanted(document.get("outputs"), bool(parameters.get("binary_data_output"))), number)


def answer_of(
    results: Sequence[Result], inference: Inference, model: str, version: str
) -> tuple[bytes, Mapping[str, str]]:
    """The body and headers of the answer."""
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for name, as_binary in inference.outputs.items():
        values = _values(name, results)
        output: dict[str, Any] = {
            "name": name,
            "datatype": _DATATYPES[name],
            "shape": list(values.shape) if isinstance(values, np.ndarray) else [len(values)],
        }
        if as_binary:
            binary.append(_encoded(values))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        outputs.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if inference.id is not None:
        document["id"] = inference.id
    text = json.dumps(document, allow_nan=False).encode()
    if not binary:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    return b"".join([text, *binary]), headers


def _parsed(text: bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        _refuse(f"The JSON holds {constant}, which is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be parsed"
        raise Refusal(400, f"The request is no JSON: {why}.") from None


def _images(tensor: Mapping[str, Any], binary: memoryview, limits: Limits) -> tuple[list[NDArray[Any] | bytes], int]:
    """The images of the input, and how many bytes behind the JSON they took."""
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    parameters = _object(tensor.get("parameters", {}), "The input's parameters")
    if "shared_memory_region" in parameters:
        _refuse("Shared memory is not supported: send the tensor")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape):
        _refuse("The input's shape must be a list of whole numbers above 0")
    if shape and shape[0] > limits.batch:
        _refuse(f"The input has {shape[0]} images, and a request has at most {limits.batch}")
    size = parameters.get("binary_data_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary)):
        _refuse("binary_data_size must be a number of bytes, at most those behind the JSON")
    content = None if size is None else binary[:size]
    if content is None and "data" not in tensor:
        _refuse("The input has no data")
    if name == "image":
        images: list[NDArray[Any] | bytes] = [*_arrays(datatype, shape, content, tensor.get("data"), limits)]
    elif name == "file":
        images = [*_files(datatype, shape, content, tensor.get("data"))]
    else:
        _refuse(f"There is no input {str(name)[:100]!r}: give image, or file")
    return images, size or 0


def _arrays(
    datatype: object, shape: list[int], content: memoryview | None, data: object, limits: Limits
) -> NDArray[Any]:
    if not isinstance(datatype, str) or datatype not in NUMBERS:
        _refuse(
            f"The input image must be UINT8 (0 to 255) or UINT16, and is {str(datatype)[:20]}: the model scales it "
            "by itself"
        )
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        _refuse(f"The input image must have the shape [N, H, W, 3], or 1 or 4 channels, and has {shape}")
    kind = NUMBERS[datatype]
    if shape[1] * shape[2] > limits.pixels:
        raise Refusal(
            422, f"The image measures {shape[2]}×{shape[1]} pixels, and this station takes {limits.pixels:,}."
        )
    count = math.prod(shape)
    if content is not None:
        if len(content) != count * kind.itemsize:
            _refuse(f"The shape {shape} takes {count * kind.itemsize} bytes, and there are {len(content)}")
        return np.frombuffer(content, kind).astype(kind.newbyteorder("="), copy=False).reshape(shape)
    try:
        values = np.array(data)
    except (ValueError, OverflowError):  # of unequal lengths
        values = np.empty(0)
    highest = np.iinfo(kind).max
    if values.size != count or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > highest:
        _refuse(f"The input's data must be {count} whole numbers from 0 to {highest}, as its shape {shape} says")
    return values.astype(kind.newbyteorder("=")).reshape(shape)


def _files(datatype: object, shape: list[int], content: memoryview | None, data: object) -> list[bytes]:
    if datatype != "BYTES" or len(shape) != 1:
        _refuse("The input file must be BYTES of the shape [N]")
    if content is not None:
        found = _split(content)
    else:
        try:
            found = [base64.b64decode(one, validate=True) for one in _texts(data)]
        except (binascii.Error, ValueError):
            _refuse("In JSON, the input file must be a list of texts in Base64")
    if len(found) != shape[0]:
        _refuse(f"The input's shape says {shape[0]} files, and there are {len(found)}")
    return found


def _texts(data: object) -> list[str]:
    if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
        raise ValueError
    return data


def _split(content: memoryview) -> list[bytes]:
    """Elements of BYTES: each its length as a number of four bytes, and itself."""
    found, at = [], 0
    while at < len(content):
        if at + 4 > len(content):
            _refuse("The input file ends too early")
        (length,) = struct.unpack_from("<I", content, at)
        if at + 4 + length > len(content):
            _refuse("The input file ends too early")
        found.append(bytes(content[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def _wanted(outputs: object, binary: bool) -> dict[str, bool]:
    if outputs is None or outputs == []:
        return dict.fromkeys(_DATATYPES, binary)
    if not isinstance(outputs, list):
        _refuse("outputs must be a list")
    found = {}
    for output in outputs:
        name = _object(output, "An output").get("name")
        if not isinstance(name, str) or name not in _DATATYPES:
            _refuse(f"There is no output {str(name)[:100]!r}: there are {', '.join(_DATATYPES)}")
        parameters = _object(output.get("parameters", {}), "An output's parameters")
        if "shared_memory_region" in parameters or parameters.get("classification"):
            _refuse("Shared memory and classification are not supported")
        found[name] = bool(parameters.get("binary_data", binary))
    return found


def _values(name: str, results: Sequence[Result]) -> NDArray[Any] | list[str]:
    if name == "verdict":
        return [result.verdict for result in results]
    if name == "anomaly_map":
        if len({result.model_map.shape for result in results}) > 1:
            raise Refusal(503, "The model has changed between two images: try again.", {"Retry-After": "0"})
        return np.stack([result.model_map for result in results])
    return np.array([getattr(result, name) for result in results], np.float64)


def _encoded(values: NDArray[Any] | list[str]) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{what} must be an object")
    return value


def _refuse(sentence: str) -> NoReturn:
    raise Refusal(400, f"{sentence}.")
