"""Our detector next to anomalib's, on the same cores, in one command.

    python tools/bench_peers.py --model model.onnx                    # installs anomalib where it is missing
    python tools/bench_peers.py --model model.onnx --best-provider openvino --evaluation evaluation.json --json

anomalib lives in an environment of its own (--venv). Its weights are random where they cannot be had: speed does not
depend on them. All models take 256 x 256 images. Every contestant is a process of its own that waits while another
runs. Each round times the detector before and after every other one (A-B-A), so that a machine that is slow for a
while is slow for all; a ratio is the median over rounds of a contestant's median to the mean of the detector's two.

detector_ms                     a whole call on an array: preprocessing, network, fusion, verdict, regions
detector_best_ms                the same with --best and --best-provider
anomalib_openvino_ms            STFPM (ResNet-18) in anomalib's OpenVINOInferencer, on an array
anomalib_openvino_f32_ms        the same held to float32: where the processor has it, OpenVINO takes bfloat16
stfpm_onnxruntime_ms            its network alone in ONNX Runtime, float32
efficientad_s_ms                EfficientAD-S in anomalib's OpenVINOInferencer, on an array
efficientad_s_f32_ms            the same held to float32
network_ms                      our network alone in ONNX Runtime
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from types import TracebackType
from typing import Any

import click
from anomalib_venv import ensure_anomalib, run_quietly, venv_option

SIZE = 256
FASTEST = "openvino:precision=bf16"  # where the processor lacks bfloat16, OpenVINO stays with float32
SGEMM_SIDE = 2048
COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")  # as operations; the rest is memory traffic
WARM_UP_CALLS = 3  # of each turn: another contestant has just filled the caches
REST = 0.05  # seconds between turns, in which thread pools stop to spin
WORKER = Path(__file__).with_name("bench_peers_worker.py")
PEERS = ("anomalib_openvino", "anomalib_openvino_f32", "stfpm_onnxruntime", "efficientad_s", "efficientad_s_f32")


@dataclass
class Contestant:
    """A worker process, and every time that it measured, turn by turn."""

    name: str
    command: list[str]
    turns: list[list[float]] = field(default_factory=list)

    def __enter__(self) -> Contestant:
        self._log = tempfile.TemporaryFile("w+")  # not a pipe, which a talkative library would fill
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def wait_until_ready(self) -> None:
        """Raises ClickException, with the worker's last words, when it cannot start."""
        self._answer()

    def turn(self, calls: int) -> float:
        """Median milliseconds of this turn."""
        time.sleep(REST)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{WARM_UP_CALLS} {calls}\n")
        self._process.stdin.flush()
        self.turns.append(json.loads(self._answer()))
        return median(self.turns[-1])

    def processor_seconds(self) -> float:
        """What the worker has used so far, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def times(self) -> list[float]:
        return [ms for turn in self.turns for ms in turn]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise click.ClickException(f"{self.name} could not be run: {last[0]}")
        return line


def measure(contestants: list[Contestant], rounds: int, calls: int) -> dict[str, float]:
    """Fill in the times; the ratio of each contestant to the first, which runs before and after all others."""
    first, *others = contestants
    ratios: dict[str, list[float]] = {other.name: [] for other in others}
    for _ in range(rounds):
        before = first.turn(calls)
        for other in others:
            milliseconds = other.turn(calls)
            after = first.turn(calls)
            ratios[other.name].append(milliseconds / mean((before, after)))
            before = after
    return {name: median(values) for name, values in ratios.items()}


def idle_share(contestants: list[Contestant]) -> float:
    """Processor seconds per second that all workers use while they wait: near 0, or they disturb each other."""
    time.sleep(REST)
    used, start = sum(each.processor_seconds() for each in contestants), time.perf_counter()
    time.sleep(0.5)
    return (sum(each.processor_seconds() for each in contestants) - used) / (time.perf_counter() - start)


def ensure_exports(venv: Path) -> tuple[Path, Path]:
    """The Python that has anomalib, and the folder of its exported models; both made where missing."""
    python, exports = ensure_anomalib(venv), venv / "exports"
    if not (exports / "complete").exists():
        click.echo("Exporting anomalib's STFPM and EfficientAD-S …", err=True)
        exports.mkdir(exist_ok=True)
        run_quietly([str(python), str(WORKER), "export", str(exports)], "anomalib cannot export its models")
    return python, exports


def peers(venv: Path) -> list[tuple[str, Path, str, Path]]:
    """Name, Python, kind and file of anomalib's contestants."""
    python, exports = ensure_exports(venv)

    def peer(name: str, kind: str, file: str) -> tuple[str, Path, str, Path]:
        return name, python, kind, exports / file

    return [
        peer("anomalib_openvino", "openvino", "stfpm/weights/openvino/model.xml"),
        peer("anomalib_openvino_f32", "openvino_f32", "stfpm/weights/openvino/model.xml"),
        peer("stfpm_onnxruntime", "onnx", "stfpm/weights/onnx/model.onnx"),
        peer("efficientad_s", "openvino", "efficientad_s/weights/openvino/model.xml"),
        peer("efficientad_s_f32", "openvino_f32", "efficientad_s/weights/openvino/model.xml"),
    ]


def count_macs(file: Path) -> int:
    """Multiply-accumulates of all convolutions and matrix products, for one image."""
    import onnx

    model = onnx.load(str(file))
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]  # shapes noted for any batch, or none, would stand in the way
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True).graph
    shapes: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)

    def macs(node: onnx.NodeProto) -> int:
        if node.op_type == "Conv":  # each output is a sum over kernel and input channels of its group
            return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        if node.op_type == "ConvTranspose":  # each input goes to kernel and output channels of its group
            return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        if node.op_type == "MatMul":
            return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        # Gemm
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]

    counted = [macs(node) for node in graph.node if node.op_type in COUNTED]
    if not all(counted):
        raise click.ClickException(f"The shapes in {file} cannot be inferred, so its operations cannot be counted.")
    return sum(counted)


def write_sgemm(path: Path) -> None:
    """A model that is one large matrix product, its right side constant as the weights of a network are."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    side = SGEMM_SIDE
    left, product = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("a", "c"))
    right = numpy_helper.from_array(np.random.default_rng(0).random((side, side), dtype=np.float32), "b")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "sgemm", [left], [product], [right])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def image_auroc(evaluation: Path | None, data: Path | None, model: Path) -> float | None:
    """From what `rstpm-edge evaluate --json` wrote, or measured on a data set now."""
    if evaluation is not None:
        return float(json.loads(evaluation.read_text())["both"]["image_auroc"])
    if data is not None:
        from rstpm_edge.training.evaluation.evaluate import evaluate

        return float(evaluate(data, model).both.image_auroc)
    return None


def write_image(source: Path | None, path: Path) -> None:
    """What every contestant judges, (256, 256, 3) uint8: a photo, or noise."""
    import numpy as np

    from rstpm_edge.image.decode import read_image
    from rstpm_edge.image.preprocess import to_input

    if source is None:
        image = np.random.default_rng(0).integers(96, 160, (SIZE, SIZE, 3), np.uint8)
    else:
        image = np.ascontiguousarray(to_input(read_image(source), (SIZE, SIZE), "stretch")[0][:, :, ::-1])
    np.save(path, image)


def benchmark(
    model: Path,
    best: tuple[Path, str] | None,
    venv: Path | None,
    photo: Path | None,
    threads: int,
    rounds: int,
    calls: int,
) -> dict[str, Any]:
    """Everything but the AUROC; without `venv`, or where anomalib cannot be had, its keys are None."""
    here = Path(sys.executable)
    lineup = [("detector", here, "detector", model)]
    if best is not None:
        lineup.append(("detector_best", here, f"detector:{best[1]}", best[0]))
    load, trouble = os.getloadavg()[0], None  # before anything of ours runs
    if venv is not None:
        try:
            lineup += peers(venv)
        except click.ClickException as error:
            trouble = error.message
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        image, sgemm = Path(folder) / "image.npy", Path(folder) / "sgemm.onnx"
        write_image(photo, image)
        write_sgemm(sgemm)
        lineup += [("network", here, "onnx", model), ("sgemm", here, "onnx", sgemm)]
        contestants = [
            stack.enter_context(
                Contestant(
                    name, [str(python), str(WORKER), "serve", kind, str(file.resolve()), str(threads), str(image)]
                )
            )
            for name, python, kind, file in lineup
        ]
        for each in contestants:
            each.wait_until_ready()
        ratios = measure(contestants, rounds, calls)
        idle = idle_share(contestants)
    medians = {each.name: median(each.times) for each in contestants}
    macs = count_macs(model)
    names = ("detector", "detector_best", *PEERS, "network")
    return {
        **{f"{name}_ms": medians.get(name) for name in names},
        "sgemm_gflops": 2 * SGEMM_SIDE**3 / medians["sgemm"] / 1e6,
        "network_gflops": 2 * macs / medians["network"] / 1e6,
        "network_gmacs": macs / 1e9,
        "min_ms": {each.name: min(each.times) for each in contestants if each.name != "sgemm"},
        "ratios": {name: ratio for name, ratio in ratios.items() if name != "sgemm"},
        "rounds": rounds,
        "calls": calls,
        "threads": threads,
        "load": load,
        "idle_share": idle,
        "anomalib_missing": trouble,
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{'ms':24}{'median':>10}{'min':>10}{'to detector':>14}"]
    for name, least in result["min_ms"].items():
        ratio = result["ratios"].get(name, 1.0)
        lines.append(f"{name:24}{result[f'{name}_ms']:10.2f}{least:10.2f}{ratio:13.2f}x")
    auroc = result["auroc"]
    lines += [
        "",
        f"matrix product {result['sgemm_gflops']:.1f} GFLOP/s; network {result['network_gflops']:.1f} GFLOP/s, "
        f"{result['network_gmacs']:.3f} GMAC",
        f"AUROC of the model timed: {'not given' if auroc is None else f'{auroc:.4f}'}",
        f"{result['rounds']} rounds of {result['calls']} calls, {result['threads']} threads, load {result['load']:.1f} "
        f"before; waiting workers used {result['idle_share']:.1%} of a core",
    ]
    return "\n".join(lines)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--model", type=click.Path(path_type=Path, exists=True), default="model.onnx", show_default=True)
@click.option("--best", type=click.Path(path_type=Path, exists=True), help="Our fastest model.  [default: --model]")
@click.option("--best-provider", help=f"And its provider.  [default: {FASTEST}, where OpenVINO is installed]")
@venv_option
@click.option("--no-peers", is_flag=True, help="Leave anomalib out.")
@click.option("--evaluation", type=click.Path(path_type=Path, exists=True), help="JSON of `rstpm-edge evaluate`.")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Or a data set to measure the AUROC on.")
@click.option("--image", type=click.Path(path_type=Path, exists=True), help="Photo that all judge.  [default: noise]")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--calls", type=click.IntRange(min=1), default=10, show_default=True, help="Timed calls of each turn.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object and nothing else.")
def main(
    model: Path,
    best: Path | None,
    best_provider: str | None,
    venv: Path,
    no_peers: bool,
    evaluation: Path | None,
    data: Path | None,
    image: Path | None,
    threads: int,
    rounds: int,
    calls: int,
    as_json: bool,
) -> None:
    # The same cores for all; workers inherit it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    provider = best_provider or (FASTEST if importlib.util.find_spec("openvino") else "cpu" if best else None)
    fastest = (best or model, provider) if provider else None
    result = benchmark(model, fastest, None if no_peers else venv, image, threads, rounds, calls)
    result["detector_best"] = provider
    result["auroc"] = image_auroc(evaluation, data, model)
    if result["anomalib_missing"]:
        click.echo(f"Without anomalib: {result['anomalib_missing']}", err=True)
    print(json.dumps(result) if as_json else table(result))


if __name__ == "__main__":
    main()
