"""One contestant of bench_peers.py, in a process of its own and in whatever environment its packages need.

    python bench_peers_worker.py export FOLDER                        # in anomalib's environment
    python bench_peers_worker.py serve KIND FILE THREADS IMAGE        # then, on standard input, WARM-UP TIMED

KIND is a function below; `detector:PROVIDER` is ours with that provider. `serve` says "ready", then answers each line
of two numbers with a JSON list: the milliseconds of TIMED calls after WARM-UP calls that do not count. IMAGE is a .npy
file, (256, 256, 3) uint8. Between lines the process waits on a pipe and uses no processor. Only the standard library is
imported up here: the two environments share nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE = 256  # of the models' inputs
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as rstpm-edge does; the others are timed without it, too


def export(folder: Path) -> None:
    """STFPM (ResNet-18) and EfficientAD-S as anomalib itself exports them, with random weights."""
    from unittest import mock

    import timm
    import torch
    from anomalib.engine import Engine  # type: ignore[import-not-found]
    from anomalib.models import EfficientAd, Stfpm  # type: ignore[import-not-found]

    torch.manual_seed(0)
    create = timm.create_model

    def create_untrained(*arguments: Any, **options: Any) -> Any:
        return create(*arguments, **{**options, "pretrained": False})

    with mock.patch.object(timm, "create_model", create_untrained):
        stfpm = Stfpm(backbone="resnet18", layers=["layer1", "layer2", "layer3"])
    efficientad = EfficientAd(model_size="small")
    # As after training: normalised by the teacher's statistics and the maps' quantiles.
    efficientad.model.mean_std["std"].data.fill_(1.0)
    efficientad.model.quantiles["qb_st"].data.fill_(1.0)
    efficientad.model.quantiles["qb_ae"].data.fill_(1.0)
    for name, model in (("stfpm", stfpm), ("efficientad_s", efficientad)):
        for kind in ("onnx", "openvino"):
            Engine(accelerator="cpu", logger=False, default_root_dir=folder / "engine").export(
                model, kind, export_root=folder / name, input_size=(SIZE, SIZE)
            )
    (folder / "complete").touch()


def detector(file: str, threads: int, image: Any, provider: str = "cpu") -> Callable[[], Any]:
    """Our whole detector on an image in memory; `provider` as --provider has it."""
    from rstpm_edge import Detector
    from rstpm_edge.cli.parameter_types import PROVIDER

    judge = Detector(file, threads=threads, providers=[PROVIDER.convert(provider, None, None)])
    return lambda: judge(image)


def onnx(file: str, threads: int, image: Any) -> Callable[[], Any]:
    """An ONNX file in bare ONNX Runtime, all outputs."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [1 if not isinstance(side, int) else side for side in given.shape]
    if given.type == "tensor(uint8)":
        value = np.reshape(image, shape)
    else:
        value = np.random.default_rng(0).random(shape, dtype=np.float32)
    return lambda: session.run(None, {given.name: value})


def openvino(file: str, threads: int, image: Any, **config: str) -> Callable[[], Any]:
    """anomalib's own inferencer on an image in memory."""
    from anomalib.deploy import OpenVINOInferencer  # type: ignore[import-not-found]

    # It makes a folder for its cache in the working directory; two that share one may write the same file at once.
    file = str(Path(file).resolve())
    os.chdir(tempfile.mkdtemp(dir=Path(file).parent))
    inferencer = OpenVINOInferencer(file, device="CPU", config={"INFERENCE_NUM_THREADS": str(threads), **config})
    return lambda: inferencer.predict(image)


def openvino_f32(file: str, threads: int, image: Any) -> Callable[[], Any]:
    """The same held to float32: by itself OpenVINO takes bfloat16 where the processor has it."""
    return openvino(file, threads, image, INFERENCE_PRECISION_HINT="f32")


KINDS = {f.__name__: f for f in (detector, onnx, openvino, openvino_f32)}


def serve(kind: str, file: str, threads: int, image: str) -> None:
    import numpy as np

    # Libraries print to standard output as they like; the answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, _, provider = kind.partition(":")
    run = KINDS[name](file, threads, np.load(image), *([provider] if provider else []))
    run()
    print("ready", file=answers)
    for line in sys.stdin:
        warm_up, timed = map(int, line.split())
        for _ in range(warm_up):
            run()
        milliseconds = []
        for _ in range(timed):
            start = time.perf_counter_ns()
            run()
            milliseconds.append((time.perf_counter_ns() - start) / 1e6)
        print(json.dumps(milliseconds), file=answers)


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]))
    else:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
