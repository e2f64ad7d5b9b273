"""What leaderboard.py has anomalib do, in anomalib's own environment.

    python leaderboard_worker.py FOLDER INPUTS      # what FOLDER/job.json asks for

Trains one method on INPUTS/train.npy and leaves in FOLDER its raw maps.npy (N, H, W) and scores.npy (N,) of
INPUTS/test.npy, model.onnx and, when all the rest is there, result.json. Only the standard library is imported up here.
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


def fit(folder: Path, inputs: Path) -> None:
    """Train what job.json names, and write its raw maps and scores of the test images."""
    import numpy as np
    import timm
    import torch
    from anomalib.data import ImageBatch, ImageItem  # type: ignore[import-not-found]
    from anomalib.engine import Engine  # type: ignore[import-not-found]
    from lightning.pytorch import Callback, LightningDataModule, seed_everything  # type: ignore[import-not-found]
    from torch.utils.data import DataLoader

    job = json.loads((folder / "job.json").read_text())
    seed_everything(job["seed"])

    def tensors(name: str) -> Any:  # (N, 3, H, W) float32 in 0..1, channels last in memory
        return torch.from_numpy(np.load(inputs / name)).permute(0, 3, 1, 2).float() / 255

    # timm's own way to pretrained weights from a file; a network that is to be random never looks at it.
    weights = {"file": str(inputs / "teacher.safetensors")}
    from_file = functools.partial(timm.create_model, pretrained_cfg_overlay=weights)
    with mock.patch.object(timm, "create_model", from_file):
        model = make_model(job)
    if job["method"] != "efficientad":
        check_teacher(model, inputs, job["layers"])
    model.to(memory_format=torch.channels_last)  # the same figures, a quarter faster

    class Progress(Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            said = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items())
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs} {said}", flush=True)

    items: Any = [ImageItem(image=image, gt_label=torch.tensor(0)) for image in tensors("train.npy")]

    def batches(chosen: Any, size: int, shuffle: bool) -> Any:
        return DataLoader(chosen, batch_size=size, shuffle=shuffle, collate_fn=ImageBatch.collate)

    class OneByOne(LightningDataModule):  # type: ignore[misc]
        """What EfficientAD asks for: single images, and a tenth of them to scale its maps by."""

        name = category = "photos"
        train_batch_size = 1

        def train_dataloader(self) -> Any:
            return batches([item for i, item in enumerate(items) if i % 10], 1, True)

        def val_dataloader(self) -> Any:
            return batches(items[::10], 1, False)

    scratch = folder / "engine"
    engine = Engine(
        accelerator="cpu",
        devices=1,
        max_epochs=job.get("epochs", -1),
        max_steps=job.get("steps", -1),
        default_root_dir=scratch,
        logger=False,
        enable_progress_bar=False,
        callbacks=[Progress()],
    )
    wall, cores = time.monotonic(), time.process_time()
    if job["method"] == "efficientad":
        engine.fit(model, datamodule=OneByOne())
    else:
        engine.fit(model, train_dataloaders=batches(items, job["batch_size"], True))
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
    import torch
    from anomalib.models import EfficientAd, Padim, Patchcore, Stfpm  # type: ignore[import-not-found]
    from anomalib.pre_processing import PreProcessor  # type: ignore[import-not-found]
    from torchvision.transforms.v2 import Normalize

    plain = {
        "post_processor": False,  # it would rescale the maps by what it sees of the test images
        "evaluator": False,
        "visualizer": False,
    }
    if job["method"] == "efficientad":

        class WithTeacherFromFile(EfficientAd):  # type: ignore[misc]
            def prepare_pretrained_model(self) -> None:
                weights = torch.load(job["own_teacher"], map_location=self.device, weights_only=True)
                self.model.teacher.load_state_dict(weights)

        return WithTeacherFromFile(imagenet_dir=job["imagenette"], model_size="small", pre_processor=False, **plain)
    common = {
        **plain,
        "backbone": job["backbone"],
        "layers": job["layers"],
        "pre_processor": PreProcessor(Normalize(job["mean"], job["std"])),
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


if __name__ == "__main__":
    fit(Path(sys.argv[1]), Path(sys.argv[2]))
