"""What compare_accuracy.py has anomalib do, in anomalib's own environment.

    python compare_accuracy_worker.py fit FOLDER            # what FOLDER/job.json asks for
    python compare_accuracy_worker.py metrics FOLDER NAME   # one JSON object, the last line of standard output

`fit` trains one method on FOLDER/../inputs and leaves in FOLDER its raw maps.npy (N, H, W) and scores.npy (N,) of the
test images, model.onnx and, when all the rest is there, result.json. `metrics` has anomalib's own metrics measure
FOLDER/NAME/maps.npy and scores.npy by FOLDER/masks.npy and labels.npy. Only the standard library is imported up here.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

BATCH = 8  # of the test images; PatchCore compares each patch with all of its memory
WEIGHTS_TOLERANCE = 1e-3  # of the features' largest value: two versions of torch and timm may round differently


def fit(folder: Path) -> None:
    """Train what job.json names, and write its raw maps and scores of the test images."""
    import numpy as np
    import timm
    import torch
    from anomalib.data import ImageBatch, ImageItem  # type: ignore[import-not-found]
    from anomalib.engine import Engine  # type: ignore[import-not-found]
    from lightning.pytorch import Callback, seed_everything  # type: ignore[import-not-found]
    from torch.utils.data import DataLoader

    job = json.loads((folder / "job.json").read_text())
    inputs = folder.parent / "inputs"
    seed_everything(job["seed"])

    def tensors(name: str) -> Any:  # (N, 3, H, W) float32 in 0..1, channels last in memory
        return torch.from_numpy(np.load(inputs / name)).permute(0, 3, 1, 2).float() / 255

    # timm's own way to pretrained weights from a file; a network that is to be random never looks at it.
    weights = {"file": str(inputs / "teacher.safetensors")}
    from_file = functools.partial(timm.create_model, pretrained_cfg_overlay=weights)
    with mock.patch.object(timm, "create_model", from_file):
        model = make_model(job)
    check_teacher(model, inputs, job["layers"])
    model.to(memory_format=torch.channels_last)  # the same figures, a quarter faster

    class Progress(Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            said = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items())
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs} {said}", flush=True)

    items: Any = [ImageItem(image=image, gt_label=torch.tensor(0)) for image in tensors("train.npy")]
    batches: Any = DataLoader(
        items,
        batch_size=job["batch_size"],
        shuffle=True,
        collate_fn=ImageBatch.collate,
    )
    scratch = folder / "engine"
    engine = Engine(
        accelerator="cpu",
        devices=1,
        max_epochs=job["epochs"],
        default_root_dir=scratch,
        logger=False,
        enable_progress_bar=False,
        callbacks=[Progress()],
    )
    wall, cores = time.monotonic(), time.process_time()
    engine.fit(model, train_dataloaders=batches)
    minutes, core_minutes = (time.monotonic() - wall) / 60, (time.process_time() - cores) / 60

    model.eval()
    with torch.inference_mode():
        results = [model(batch) for batch in tensors("test.npy").split(BATCH)]
    maps = torch.cat([each.anomaly_map for each in results]).squeeze(1).float()  # (N, H, W)
    scores = torch.cat([each.pred_score for each in results]).flatten().float()  # (N,)
    if not (maps.isfinite().all() and scores.isfinite().all()):
        raise SystemExit("the maps have values that are NaN or infinite: did the training diverge?")
    np.save(folder / "maps.npy", maps.numpy())
    np.save(folder / "scores.npy", scores.numpy())
    engine.export(model, "onnx", export_root=scratch, input_size=tuple(job["size"]))
    os.replace(scratch / "weights" / "onnx" / "model.onnx", folder / "model.onnx")
    shutil.rmtree(scratch)
    versions = {module.__name__: module.__version__ for module in (sys.modules["anomalib"], torch, timm)}
    result = {"job": job, "minutes": minutes, "core_minutes": core_minutes, "versions": versions}
    (scratch.with_suffix(".json")).write_text(json.dumps(result))
    os.replace(scratch.with_suffix(".json"), folder / "result.json")


def make_model(job: dict[str, Any]) -> Any:
    """The method with anomalib's defaults, but for the backbone, its layers and what normalises its images."""
    from anomalib.models import Padim, Patchcore, Stfpm  # type: ignore[import-not-found]
    from anomalib.pre_processing import PreProcessor  # type: ignore[import-not-found]
    from torchvision.transforms.v2 import Normalize

    common = {
        "backbone": job["backbone"],
        "layers": job["layers"],
        "pre_processor": PreProcessor(Normalize(job["mean"], job["std"])),
        "post_processor": False,  # it would rescale the maps by what it sees of the test images
        "evaluator": False,
        "visualizer": False,
    }
    if job["method"] == "stfpm":
        return Stfpm(**common)
    if job["method"] == "padim":
        return Padim(**common, n_features=job["n_features"])
    return Patchcore(**common, coreset_sampling_ratio=job["coreset"])


def check_teacher(model: Any, inputs: Path, layers: list[str]) -> None:
    """Stop unless the teacher gives the features that our own gives of the same image."""
    import numpy as np
    import torch

    reference = np.load(inputs / "features.npz")
    teacher = getattr(model.model, "teacher_model", None) or model.model.feature_extractor
    features = teacher(torch.from_numpy(reference["image"]))
    for layer in layers:
        expected = reference[layer]
        difference = np.abs(features[layer].numpy() - expected).max() / np.abs(expected).max()
        if not difference < WEIGHTS_TOLERANCE:
            raise SystemExit(f"anomalib's teacher differs from ours by {difference:.2g} in {layer}: other weights?")


def metrics(folder: Path, name: str) -> None:
    """anomalib's own figures of one method's maps and scores."""
    import numpy as np
    import torch
    from anomalib.metrics.aupro import _AUPRO  # type: ignore[import-not-found]
    from anomalib.metrics.auroc import _AUROC  # type: ignore[import-not-found]

    def load(path: Path) -> torch.Tensor:
        return torch.from_numpy(np.load(path))

    def figure(metric: Any, values: torch.Tensor, truth: torch.Tensor) -> float:
        metric.update(values, truth.int())
        return float(metric.compute())

    maps, masks = load(folder / name / "maps.npy"), load(folder / "masks.npy")
    found = {
        "image_auroc": figure(_AUROC(), load(folder / name / "scores.npy"), load(folder / "labels.npy")),
        "pixel_auroc": figure(_AUROC(), maps, masks),
        "aupro_30": figure(_AUPRO(fpr_limit=0.3), maps, masks),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit(Path(sys.argv[2]))
    else:
        metrics(Path(sys.argv[2]), sys.argv[3])
