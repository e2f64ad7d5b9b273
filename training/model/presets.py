"""The presets, as data: which networks, and how they are trained."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import FusionMode

# auto: shift where parts lie alike in the photos, else none
Augmentation = Literal["auto", "none", "shift", "rotate", "flip"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


@dataclass(frozen=True)
class Preset:
    """Everything that defines a model and its training, apart from the data, the input size and the seed."""

    name: str
    teacher1: str
    teacher2: str
    strides: tuple[int, int, int]  # of the maps, relative to the model's input; finest first
    distance: Literal["normalized-residual", "cosine"]  # see `anomaly_map`; cosine is the paper's
    students: Literal["edge", "paper"]
    standardize: bool  # scale each teacher channel to mean 0, deviation 1 over the training images
    fusion: FusionMode
    optimizer: Literal["adamw", "sgd"]
    learning_rate: float
    schedule: Literal["one-cycle", "constant"]
    weight_decay: float
    batch_size: int
    epochs: int
    teacher1_shrink: int = 1  # teacher 1 sees the image reduced by this factor
    teacher2_shrink: int = 1  # and teacher 2 by this one
    shared_stem: int | None = None  # student 1 starts from teacher 1's feature at this stride, not from the image
    student1_widths: tuple[int, ...] = ()  # edge students only: channels at strides 4, 8, …, or 2, 4, … from the image
    student1_blocks: tuple[int, ...] = (1, 1, 1)  # and its residual blocks at each level, finest first
    student2_widths: tuple[int, ...] = ()  # edge students only: channels of the decoder, coarsest first
    student2_blocks: tuple[int, ...] = ()  # and its residual blocks
    attention: bool = True  # gates between the stages of student 2, from teacher 2's features
    mining_share: float = 1.0  # of an image's squared errors, the largest are learned from; not with "cosine"
    segmentation_head: bool = False  # trained on synthetic defects; see `has_segmentation_head`
    augmentation: Augmentation = "none"  # copies of the photos that are learned from beside them
    reconstruction_weight: float = 1.0  # of pair 2's maps beside pair 1's; fusion "normalized" only
    smoothing_sigma: float = 0.0  # of a Gaussian over the sum of maps, in pixels of the model's input; 0 is none

    @property
    def has_segmentation_head(self) -> bool:
        """Whether the model has one: it takes the residuals of "normalized-residual", and its map joins a sum."""
        return self.segmentation_head and self.distance == "normalized-residual" and self.fusion == "normalized"


EDGE = Preset(
    name="edge",
    teacher1="tf_efficientnet_lite0",
    teacher2="tf_efficientnet_lite1",
    # Deeper than the paper's 4, 8, 16: far better on low-contrast parts, and a third faster.
    strides=(8, 16, 32),
    students="edge",
    # The angle alone segments badly: it lights up wherever there is little to see.
    distance="normalized-residual",
    standardize=True,  # without it a few loud channels decide the distance, and low contrast is lost
    fusion="normalized",
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="one-cycle",
    weight_decay=1e-4,
    batch_size=8,  # twice the steps of 16 for a fifth more time
    epochs=60,
    # Half the resolution for teacher 2: a quarter of its time, and its levels are then those of strides 4, 8 and 16 of
    # its own, whose features say more about a surface than deeper ones. On the tiles AUROC rose from 0.958 to 0.977.
    teacher2_shrink=2,
    # Both of pair 1 see through the same first layers: half the training time, and no worse.
    shared_stem=4,
    student1_widths=(48, 64, 96, 160),
    # The finest level is where a block costs most and says least.
    student1_blocks=(0, 1, 1),
    student2_widths=(160, 128, 64),
    student2_blocks=(2, 1, 1),
    # What is hard on good parts is what a map must not light up at; the mean of all hardly sees it.
    mining_share=0.1,
    segmentation_head=True,
    # Where few photos show parts that lie alike, the students would know each pixel's place by heart. Elsewhere photos
    # show by themselves how parts lie, and copies cost: a person asks for them.
    augmentation="auto",
    # Pair 2 is the surer of the two about whether there is a defect, pair 1 about where it ends.
    reconstruction_weight=1.5,
)

EDGE_SMALL = replace(
    EDGE,
    name="edge-small",
    # Two thirds of the time: pair 1 is as good, but pair 2 reconstructs from a deepest feature that saw less.
    teacher1_shrink=2,
)

PAPER = Preset(
    name="paper",
    teacher1="resnet18",
    teacher2="resnet50",
    strides=(4, 8, 16),
    distance="cosine",
    students="paper",
    standardize=False,
    fusion="paper",
    # Optimiser, batch and epochs: RSTPM, section 4 (arXiv 2111.15376).
    optimizer="sgd",
    learning_rate=0.4,
    schedule="constant",
    weight_decay=1e-4,
    batch_size=32,
    epochs=100,
)

PRESETS = {preset.name: preset for preset in (EDGE, EDGE_SMALL, PAPER)}


def preset_with_teachers(name: str, teacher1: str | None, teacher2: str | None) -> Preset:
    """The preset of that name, with other teachers where given.

    Raises UsageError for an unknown preset, and for the same backbone twice.
    """
    if name not in PRESETS:
        raise UsageError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    preset = replace(preset, teacher1=teacher1 or preset.teacher1, teacher2=teacher2 or preset.teacher2)
    if preset.teacher1 == preset.teacher2:
        raise UsageError(
            f"Both teachers are {preset.teacher1}: RSTPM rests on two different backbones, which look at different "
            "regions. Choose another `teacher1` or `teacher2`."
        )
    return preset
