"""A preset with some of its fields changed, for ablations (`--set NAME=VALUE` on the command line).

    override(EDGE, {"attention": "no", "strides": "4,8,16", "shared_stem": "none"})

Unlike `preset_with_teachers`, it may give both pairs the same backbone: that this costs accuracy is one of the
paper's claims, and worth measuring.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rstpm_edge.errors import UsageError
from rstpm_edge.model.read_metadata import SMOOTHING

from .old_names import FALSE, TRUE, current_preset
from .presets import Preset

NONE = ("none", "")


def override(preset: Preset, values: Mapping[str, str]) -> Preset:
    """`preset` with the fields that `values` names; its name tells of them, too: `edge (attention=no)`.

    Values are read by the field's type: true or false; a number; one of the choices; numbers with commas between them;
    `none` where a field may have no value. Earlier names of fields are read, too (`old_names`).

    Raises UsageError for an unknown field, a value of another type, and a preset that cannot be built.
    """
    values = {name: _text(value) for name, value in current_preset(values).items()}
    if not values:
        return preset
    types = get_type_hints(Preset)
    unknown = [name for name in values if name not in types]
    if unknown:
        raise UsageError(f"A preset has no field {', '.join(unknown)}; its fields are {', '.join(types)}.")
    changes = {name: _parse(name, text, types[name]) for name, text in values.items()}
    said = ", ".join(f"{name}={text}" for name, text in sorted(values.items()))
    changed = replace(preset, **{"name": f"{preset.name} ({said})", **changes})
    check_preset(changed)
    if changes.get("segmentation_head") and not changed.has_segmentation_head:
        raise UsageError("`preset.segmentation_head=true` needs distance=normalized-residual and fusion=normalized.")
    return changed


def check_preset(preset: Preset) -> None:
    """Raises UsageError, in one sentence, where a preset's fields make no model or no training."""
    for name, least in {"batch_size": 1, "epochs": 1, "teacher1_shrink": 1, "teacher2_shrink": 1}.items():
        if getattr(preset, name) < least:
            raise UsageError(f"`preset.{name}` must be at least {least}, not {getattr(preset, name)}.")
    for name in ("learning_rate", "weight_decay", "smoothing_sigma", "reconstruction_weight"):
        value = getattr(preset, name)
        if value is not None and (not 0 <= value < math.inf or (name == "learning_rate" and value == 0)):
            lowest = "above 0" if name == "learning_rate" else "from 0 up"
            raise UsageError(f"`preset.{name}` must be a finite number {lowest}, not {value:g}.")
    if preset.smoothing_sigma and not SMOOTHING[0] <= preset.smoothing_sigma <= SMOOTHING[1]:
        raise UsageError(
            f"`preset.smoothing_sigma` is 0, or from {SMOOTHING[0]:g} to {SMOOTHING[1]:g} pixels, "
            f"not {preset.smoothing_sigma:g}."
        )
    if preset.smoothing_sigma and preset.fusion == "paper":
        raise UsageError("`preset.fusion=paper` needs smoothing_sigma=0: a product of maps is not smoothed.")
    if not 0 < preset.mining_share <= 1:
        raise UsageError(f"`preset.mining_share` is a share above 0, up to 1, not {preset.mining_share:g}.")
    strides, stem = preset.strides, preset.shared_stem
    if not strides[0] < strides[1] < strides[2] or not set(strides) <= {2, 4, 8, 16, 32}:
        raise UsageError(f"`preset.strides` must be three of 2, 4, 8, 16 and 32, finest first, not {_list(strides)}.")
    for name in ("teacher1_shrink", "teacher2_shrink"):
        shrink = getattr(preset, name)
        if strides[0] % shrink or strides[0] == shrink:
            raise UsageError(
                f"`preset.{name}={shrink}` leaves nothing of the strides {_list(strides)}: "
                "it must divide the finest and be smaller."
            )
    if preset.students == "paper":
        if strides != (4, 8, 16) or stem is not None or preset.teacher1_shrink > 1:
            raise UsageError("The paper's students need strides=4,8,16, shared_stem=none and teacher1_shrink=1.")
    else:
        _check_edge_students(preset)


def _check_edge_students(preset: Preset) -> None:
    strides, stem = preset.strides, preset.shared_stem
    if stem is not None and (stem not in (2, 4, 8, 16) or stem >= strides[0]):
        raise UsageError(
            f"`preset.shared_stem={stem}`: student 1 starts from the image (none) or from a stride (2, 4, 8 or 16) "
            f"finer than the finest of its levels, {strides[0]}."
        )
    if stem is not None and (stem % preset.teacher1_shrink or stem == preset.teacher1_shrink):
        raise UsageError(
            f"`preset.shared_stem={stem}`: teacher 1 has no such feature with "
            f"teacher1_shrink={preset.teacher1_shrink}, which must divide it and be smaller."
        )
    first = 2 if stem is None else stem
    wanted = int(math.log2(strides[-1] // first)) + 1
    start = "the image" if stem is None else f"stride {stem}"
    for name, count, least, most, what in (
        ("student1_widths", wanted, 1, 4096, f"for the strides from {first} to {strides[-1]}: it starts from {start}"),
        ("student1_blocks", 3, 0, 64, "one for each level, finest first"),
        ("student2_widths", 3, 1, 4096, "one for each level, coarsest first"),
        ("student2_blocks", 3, 0, 64, "one for each level, coarsest first"),
    ):
        given = getattr(preset, name)
        if len(given) != count or not all(least <= number <= most for number in given):
            raise UsageError(
                f"`preset.{name}` takes {count} numbers from {least} to {most} ({what}), not {_list(given)}."
            )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _parse(name: str, text: str, kind: Any) -> Any:
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # with None
        return None if text.lower() in NONE else _parse(name, text, choices[0])
    if origin is Literal:
        if text not in choices:
            raise UsageError(f"`preset.{name}` takes one of {', '.join(choices)}, not {text!r}.")
        return text
    if origin is tuple:
        what = "whole numbers, as in 4,8,16"
        numbers = tuple(_number(name, part.strip(), int, what) for part in text.split(","))
        if Ellipsis not in choices and len(numbers) != len(choices):
            raise UsageError(f"`preset.{name}` takes {len(choices)} numbers with commas between, not {text!r}.")
        return numbers
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise UsageError(f"`preset.{name}` takes true or false, not {text!r}.")
        return text.lower() in TRUE
    if kind is int:
        return _number(name, text, int, "a whole number")
    if kind is float:
        return _number(name, text, float, "a number")
    if not text:
        raise UsageError(f"`preset.{name}` takes a name.")
    return text


def _number(name: str, text: str, kind: type[int] | type[float], what: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"`preset.{name}` takes {what}, not {text!r}.") from None


def _list(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers) or "none"
