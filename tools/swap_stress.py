"""Swap the model of a running detector again and again, under load, with bad models among the good ones.

python tools/swap_stress.py model_a.onnx model_b.onnx       # 1,000 swaps, four threads; pip install '.[train,sign]'
python tools/swap_stress.py --swaps 100 --threads 2 model_a.onnx model_b.onnx

Two different models of one product take turns in one file. Every third time, a bad one stands there: cut off, unsigned,
with goldens that come out otherwise, or one that fails on its first image. Threads judge photos all the while. Each
result must be, bit for bit, what the model that it names gives alone; none may be missing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rstpm_edge import Detector, Result, RstpmEdgeError
from rstpm_edge.atomic_files import replacing, write_bytes
from rstpm_edge.model.goldens import Golden, golden_image, goldens_to_json, stored_map
from rstpm_edge.model.keys import PrivateKey, load_private_key, make_keys
from rstpm_edge.model.metadata import METADATA_KEY
from rstpm_edge.model.model_file import golden_entries, stamps
from rstpm_edge.model.signature import signature_file, signed

Image = NDArray[np.uint8]
BAD = ("cut off", "unsigned", "failing goldens", "failing on an image")


@dataclass
class Figures:
    """What came of it. Seconds; `gaps` are those between the ends of two calls of one thread."""

    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    rolled_back: int = 0
    swap_seconds: list[float] = field(default_factory=list)  # of those that were taken, from the file to the new model
    swap_cpu: list[float] = field(default_factory=list)  # the same of the processor, in the thread that swaps
    judged: Counter[str] = field(default_factory=Counter)  # images by the model's hash
    faults: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    gaps_before: list[float] = field(default_factory=list)  # the same without swaps


class Load:
    """Threads that judge `images` without a pause, and compare each result with what its model gives alone."""

    def __init__(self, detector: Detector, images: Sequence[Image], expected: dict[str, list[Result]], threads: int):
        self.judged: Counter[str] = Counter()
        self.faults: list[str] = []
        self.gaps: list[float] = []
        self._detector, self._images, self._expected = detector, images, expected
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, i: int) -> None:
        last = time.perf_counter()
        while not self._stop.is_set():
            i = (i + 1) % len(self._images)
            try:
                fault = self._fault(i, self._detector(self._images[i]))
            except Exception as error:  # a request that was lost
                fault = f"{type(error).__name__}: {error}"
            now = time.perf_counter()
            self.gaps.append(now - last)
            last = now
            if fault:
                self.faults.append(fault)

    def _fault(self, i: int, found: Result) -> str | None:
        if found.model_sha256 not in self._expected:
            return f"an unknown model judged, {found.model_sha256}"
        self.judged[found.model_sha256] += 1
        expected = self._expected[found.model_sha256][i]
        same = (found.score, found.threshold, found.p_value, found.regions) == (
            expected.score,
            expected.threshold,
            expected.p_value,
            expected.regions,
        )
        return None if same and np.array_equal(found.model_map, expected.model_map) else "half a model judged"


def stress(
    models: Sequence[Path],
    folder: Path,
    images: Sequence[Image],
    *,
    swaps: int = 1000,
    threads: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> Figures:
    """Swap `swaps` times between two models; what is written goes to `folder`."""
    private, public = make_keys(folder / "stress")
    key = load_private_key(private)
    good = [path.read_bytes() for path in models]
    bad = bad_models(good[0], images, folder)
    served = folder / "served.onnx"
    write(served, good[0], key)
    options: dict[str, Any] = {"threads": 1, "public_key": public}
    expected = {}
    for content in good:
        write(served, content, key)
        alone = Detector(served, **options)
        expected[alone.sha256] = [alone(image) for image in images]
    if len(expected) < 2 or any(one.score == other.score for one, other in zip(*expected.values(), strict=True)):
        raise SystemExit("The two models must judge all images differently.")

    figures = Figures()
    detector = Detector(served, **options)
    with Load(detector, images, expected, threads) as load:
        time.sleep(2.0 if swaps > 100 else 0.2)
    figures.gaps_before = load.gaps
    with Load(detector, images, expected, threads) as load:
        for i in range(swaps):
            running = detector.sha256
            if i % 3 == 2:
                kind = BAD[i // 3 % len(BAD)]
                write(served, bad[kind], None if kind == "unsigned" else key)
                _swap_bad(detector, served, kind, figures)
                if detector.sha256 != running:
                    figures.faults.append(f"a model stayed that is {kind}")
            else:
                other = good[0] if running == list(expected)[1] else good[1]
                write(served, other, key)
                start, cpu = time.perf_counter(), time.thread_time()
                figures.taken += detector.swap(served)
                figures.swap_seconds.append(time.perf_counter() - start)
                figures.swap_cpu.append(time.thread_time() - cpu)
                seen = load.judged[detector.sha256]
                while load.judged[detector.sha256] == seen:  # under load: each model judges some images
                    time.sleep(0.001)
            progress(i + 1)
    figures.gaps, figures.judged = load.gaps, load.judged
    figures.faults += load.faults
    return figures


def _swap_bad(detector: Detector, served: Path, kind: str, figures: Figures) -> None:
    back = threading.Event()
    try:
        detector.swap(served, on_rollback=lambda error: back.set())
    except RstpmEdgeError:
        figures.refused[kind] += 1
        return
    if back.wait(60):
        figures.rolled_back += 1
    else:
        figures.faults.append(f"a model was taken that is {kind}")


def write(path: Path, model: bytes, key: PrivateKey | None) -> None:
    """A model file that replaces the one before, with its signature, or that of nobody."""
    with replacing(path) as file:
        file.write(model)
    if key is None:
        signature_file(path).unlink()
    else:
        write_bytes(signature_file(path), signed("served", sha256(model).hexdigest(), key))  # also one that is cut off


def bad_models(model: bytes, images: Sequence[Image], folder: Path) -> dict[str, bytes]:
    """By what is wrong with each. Signed they all are, but for one."""
    path = folder / "bad.onnx"
    path.write_bytes(model)
    found = Detector(path, threads=1)(images[0])
    golden = Golden("photo", golden_image(images[0]), found.score, not found.is_anomalous, stored_map(found.model_map))
    return {
        "cut off": model[: len(model) // 2],
        "unsigned": changed(model, note="unsigned"),
        "failing goldens": changed(model, note="goldens", goldens=goldens_to_json([golden])),
        "failing on an image": changed(model, note="not a number", not_a_number=True),
    }


def changed(model: bytes, *, note: str, goldens: str | None = None, not_a_number: bool = False) -> bytes:
    """The model with another hash, with these goldens, or with NaN in its first map for all but a black photo."""
    content = onnx.ModelProto.FromString(model)
    if not_a_number:
        _spoil(content.graph)
    kept = {entry.key: entry.value for entry in content.metadata_props}
    onnx.helper.set_model_props(content, {METADATA_KEY: kept[METADATA_KEY]})
    entries = {**kept, "note": note, **stamps(content.SerializeToString(), kept[METADATA_KEY])}
    onnx.helper.set_model_props(content, entries if goldens is None else {**entries, **golden_entries(goldens)})
    changed_model: bytes = content.SerializeToString()
    return changed_model


def _spoil(graph: onnx.GraphProto) -> None:
    first, image = graph.output[0].name, graph.input[0].name
    for node in graph.node:
        node.output[:] = [f"{name}_before" if name == first else name for name in node.output]
        node.input[:] = [f"{name}_before" if name == first else name for name in node.input]
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", [image], "stress_float", {"to": onnx.TensorProto.FLOAT}),
        ("ReduceMax", ["stress_float"], "stress_brightest", {"keepdims": 0}),
        ("Min", ["stress_brightest", "stress_one"], "stress_any", {}),
        ("Sub", ["stress_one", "stress_any"], "stress_none", {}),
        ("Div", ["stress_zero", "stress_none"], "stress_nan", {}),
        ("Add", [f"{first}_before", "stress_nan"], first, {}),
    ]
    for operator, inputs, output, attributes in nodes:
        graph.node.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
    for name, value in (("stress_one", 1.0), ("stress_zero", 0.0)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))


def photos(models: Sequence[Path], count: int = 6) -> list[Image]:
    """Noise of several brightnesses, in the shape of the photos that the model learned from, or of its input."""
    info = Detector(models[0], threads=1).info
    height, width = info.size if info.profile is None else info.profile.sizes[0]
    rng = np.random.default_rng(0)
    return [rng.integers(0, 40 * (i + 1), (height, width, 3)).astype(np.uint8) for i in range(count)]


def main() -> None:
    """Print the figures; exit code 1 where a request was lost, or answered by half a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, type=Path, metavar="MODEL")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=4, help="that judge")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = stress(
            options.models,
            Path(folder),
            photos(options.models),
            swaps=options.swaps,
            threads=options.threads,
            progress=lambda done: print(f"\r{done} of {options.swaps} swaps", end="", flush=True),
        )
    refused = ", ".join(f"{number} {kind}" for kind, number in figures.refused.items())
    print(f"\n{figures.taken} models taken, {sum(figures.refused.values())} refused ({refused}), ", end="")
    print(f"{figures.rolled_back} rolled back after an image")
    print(f"{figures.judged.total()} images judged, by {len(figures.judged)} models; {len(figures.faults)} faults")
    for fault, number in Counter(figures.faults).most_common(10):
        print(f"  {number} times: {fault}")
    print(f"a swap, ms: median {_ms(figures.swap_seconds, 0.5)}, longest {_ms(figures.swap_seconds, 1)}")
    print(f"a swap, ms of the processor: median {_ms(figures.swap_cpu, 0.5)}, longest {_ms(figures.swap_cpu, 1)}")
    for name, gaps in (("without swaps", figures.gaps_before), ("with swaps", figures.gaps)):
        print(
            f"between two images of a thread, {name}, ms: median {_ms(gaps, 0.5)}, p99 {_ms(gaps, 0.99)}, "
            f"longest {_ms(gaps, 1)}"
        )
    raise SystemExit(1 if figures.faults else 0)


def _ms(seconds: list[float], share: float) -> str:
    ordered = sorted(seconds)
    value = statistics.median(ordered) if share == 0.5 else ordered[min(int(share * len(ordered)), len(ordered) - 1)]
    return f"{1000 * value:.1f}"


if __name__ == "__main__":
    main()
