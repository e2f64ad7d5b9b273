"""Trains the segmentation head, when the students are done: on synthetic defects, whose masks are known."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rstpm_edge.errors import TrainingError

from ..data.noise import Field
from ..data.synthetic_defects import with_masks
from ..model.distances import NormalizedResidual
from ..model.rstpm import RSTPM, TeacherFeatures
from ..model.segmentation_head import REDUCED, WIDTH, SegmentationHead
from .feature_cache import MEMORY_SHARE, FeatureCache
from .memory import available_memory

PAINTED = (200, 800)  # at least and at most, of 256×256; four for each photo in between
STEPS = 300
MEASURED = 4  # steps that say what one takes
BATCH = 16  # of 256×256; a quarter good ones
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
AT_ONCE = 8
ROOM_OF_PAINTED = 2.5  # times the features of an image: painted ones twice for a moment, and good ones


def train_segmentation_head(
    model: RSTPM,
    cache: FeatureCache,
    device: torch.device,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train the segmentation head of `model`, if it has one, on the cached images and on defects painted into them.

    The residual normalization must be fitted before. `progress` is called with the steps done, painting included, and
    their number. On one processor the same model and images give the same head. Raises TrainingError when it diverges.
    """
    if model.head is None:
        return
    # Larger teachers, fewer images: no more memory than there is.
    area = _area(cache.images)
    each = sum(level[:1].nbytes for level in (*cache.features1, *cache.features2))  # residuals are as large as features
    room = MEMORY_SHARE * available_memory() / (ROOM_OF_PAINTED * each)
    count = max(BATCH, min(_count(cache.photos, area), int(room)))
    total = count + STEPS
    was_training = model.training
    model.eval()
    good = _good_inputs(model, cache, count // 4, device)
    painted, masks = _synthetic_inputs(
        model, cache.images[: cache.photos], count, device, lambda done: progress(done, total)
    )
    scales = [max(float(level.float().square().mean().sqrt()), 1e-6) for level in good.residuals]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = _Learner(SegmentationHead([level.shape[1] for level in good.residuals]), scales).to(device)
        learner.learn(painted, masks, good, _batch(area), lambda done: progress(count + done, total))
    head = learner.folded()
    if not all(bool(weights.isfinite().all()) for weights in head.parameters()):
        raise TrainingError(
            "The segmentation head's loss is not finite: train again with `preset.segmentation_head=false`, or "
            "with another `seed`."
        )
    model.head.load_state_dict(head.state_dict())
    model.train(was_training)


def measure_head_training(model: RSTPM, some: NDArray[np.uint8], device: torch.device) -> tuple[float, float]:
    """What `train_segmentation_head` will take, tried on `some` photos (N, H, W, 3).

    Seconds of each painted image, and of each of `STEPS`; both 0 without a head.
    """
    if model.head is None:
        return 0.0, 0.0
    area, start = _area(some), time.monotonic()
    painted, masks = _synthetic_inputs(model, some, len(some), device, lambda done: None)
    each = (time.monotonic() - start) / len(some)
    learner = _Learner(SegmentationHead([level.shape[1] for level in painted.residuals]), [1.0] * 6).to(device)
    times = [start]
    learner.learn(
        painted, masks, painted, _batch(area), lambda done: times.append(time.monotonic()), steps=1 + MEASURED
    )
    steps = [after - before for before, after in pairwise(times[1:])]  # the first one is slower
    return each, min(steps)


def painted_for_head(photos: int, size: tuple[int, int]) -> int:
    """How many painted images the head learns from, of so many photos at an input of this (height, width)."""
    return _count(photos, max(1.0, size[0] * size[1] / 256**2))


def _area(images: NDArray[np.uint8]) -> float:
    """Of an image, in 256×256 pixels, 1 at least."""
    return max(1.0, float(images.shape[1] * images.shape[2] / 256**2))


def _count(photos: int, area: float) -> int:
    """How many painted images: of larger ones fewer, in the same time."""
    return max(64, round(min(max(4 * photos, PAINTED[0]), PAINTED[1]) / area))


def _batch(area: float) -> int:
    return max(4, round(BATCH / area))


@dataclass(frozen=True, eq=False)
class HeadInputs:
    """What a segmentation head learns from: six residuals (N, C, h, w) float16, and six maps (N, 1, h, w) float32."""

    residuals: Sequence[Tensor]
    maps: Sequence[Tensor]


def _good_inputs(model: RSTPM, cache: FeatureCache, most: int, device: torch.device) -> HeadInputs:
    """Up to `most` of the photos, evenly spread."""
    rows = cache.spread(most)
    starts = range(0, len(rows), AT_ONCE)
    return _joined([_inputs(model, cache.batch(model, rows[start : start + AT_ONCE], device)) for start in starts])


def _synthetic_inputs(
    model: RSTPM, images: NDArray[np.uint8], count: int, device: torch.device, progress: Callable[[int], None]
) -> tuple[HeadInputs, Tensor]:
    """`count` images with a defect each, and its mask at the finest level, (count, 1, h, w)."""
    pieces: list[HeadInputs] = []
    masks: list[Field] = []
    photos: list[NDArray[np.uint8]] = []
    finest = tuple(side // model.preset.strides[0] for side in images.shape[1:3])
    for photo, mask in with_masks(list(images), count, seed=1):
        photos.append(photo)
        masks.append(np.asarray(cv2.resize(mask, finest[::-1], interpolation=cv2.INTER_AREA), np.float32))
        if len(photos) == AT_ONCE or len(masks) == count:
            pixels = torch.from_numpy(np.stack(photos)).to(device)
            with torch.no_grad():
                features = model.prepare(pixels, *model.teachers(pixels))
            pieces.append(_inputs(model, features))
            photos.clear()
            progress(len(masks))
    return _joined(pieces), torch.from_numpy(np.stack(masks))[:, None]


@torch.no_grad()
def _inputs(model: RSTPM, features: TeacherFeatures) -> HeadInputs:
    vectors, maps = [], []
    students = model.students(features.source, features.deep, features.levels[3:])
    for distance, student, teacher in zip(model.distances, students, features.levels, strict=True):
        assert isinstance(distance, NormalizedResidual)
        residual = distance.measure(student, teacher)
        vector = (teacher - student) / residual.contrast.sqrt()
        vectors.append(vector.clamp(-65504, 65504).half().cpu())
        maps.append(distance.normalize(student, residual).anomaly.cpu())
    return HeadInputs(vectors, maps)


def _joined(pieces: Sequence[HeadInputs]) -> HeadInputs:
    def levels(kind: list[Sequence[Tensor]]) -> list[Tensor]:
        return [torch.cat(level) for level in zip(*kind, strict=True)]

    return HeadInputs(levels([piece.residuals for piece in pieces]), levels([piece.maps for piece in pieces]))


class _Learner(nn.Module):
    """A segmentation head with what it needs while it learns: residuals of one scale, and batch normalisation."""

    def __init__(self, head: SegmentationHead, scales: Sequence[float]) -> None:
        super().__init__()
        self.head, self.scales = head, scales
        self.reduced = nn.ModuleList(nn.BatchNorm2d(REDUCED) for _ in scales)
        self.mixed, self.around = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH)

    def forward(self, residuals: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
        """As the head does, from residuals (B, C, h, w) divided by `scales`; not clamped."""
        layers = zip(self.head.reduce, self.reduced, residuals, strict=True)
        normal = [norm(layer(residual)) for layer, norm, residual in layers]
        inputs = [self.head.inputs(residual, level) for residual, level in zip(normal, maps, strict=True)]
        mixed = functional.relu(self.mixed(self.head.mixed(inputs)))
        odds: Tensor = self.head.score(functional.relu(self.around(self.head.context(mixed))))
        return odds

    def learn(
        self,
        painted: HeadInputs,
        masks: Tensor,
        good: HeadInputs,
        batch: int,
        progress: Callable[[int], None],
        steps: int | None = None,
    ) -> None:
        """One cycle of AdamW on cross-entropy with the masks (N, 1, h, w), 0 to 1; good images have none."""
        steps = STEPS if steps is None else steps
        optimizer = torch.optim.AdamW(self.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
        draw, device = np.random.default_rng(0), next(self.parameters()).device
        self.train()
        for step in range(steps):
            bad_rows = draw.integers(0, len(masks), batch - batch // 4)
            good_rows = draw.integers(0, len(good.maps[0]), batch // 4)

            def both(bad: Sequence[Tensor], fine: Sequence[Tensor]) -> list[Tensor]:
                levels = zip(bad, fine, strict=True)
                return [torch.cat([a[bad_rows], b[good_rows]]).to(device).float() for a, b in levels]  # noqa: B023

            residuals = [r / s for r, s in zip(both(painted.residuals, good.residuals), self.scales, strict=True)]
            wanted = masks[bad_rows].to(device)
            wanted = torch.cat([wanted, wanted.new_zeros(len(good_rows), *wanted.shape[1:])])
            odds = self(residuals, both(painted.maps, good.maps))
            loss = functional.binary_cross_entropy_with_logits(odds, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress(step + 1)
        self.eval()

    @torch.no_grad()
    def folded(self) -> SegmentationHead:
        """The head, with the scales and the normalisations in its own weights."""
        head = self.head
        for layer, norm, scale in zip(head.reduce, self.reduced, self.scales, strict=True):
            _fold(layer, norm, scale)
        for layer in head.mix:
            _fold(layer, self.mixed)  # upsampling and the sum leave a factor a factor
        head.bias.copy_(_affine(self.mixed)[1])
        _fold(head.context, self.around)
        return head


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a normalisation does once it is trained: a factor and a shift, (1, C, 1, 1) each."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return gain.view(1, -1, 1, 1), (norm.bias - norm.running_mean * gain).view(1, -1, 1, 1)


def _fold(layer: nn.Module, norm: nn.Module, scale: float = 1.0) -> None:
    """Put what follows a convolution into its weights, and that its inputs were divided by `scale`."""
    assert isinstance(layer, nn.Conv2d)
    gain, shift = _affine(norm)
    layer.weight.mul_(gain.view(-1, 1, 1, 1) / scale)
    if layer.bias is not None:
        layer.bias.copy_(layer.bias * gain.flatten() + shift.flatten())
