"""What may be typed after an option, what it means, and the sentence for anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from workplace import command_line

from rstpm_edge.cli.main import main
from rstpm_edge.cli.parameter_types import (
    BITS,
    EVERY,
    FRAME_SIZE,
    MARGIN,
    MASK_OR_FULL,
    NAMES,
    OVERRIDE,
    PROVIDER,
    RATE,
    ROI,
    ROI_OR_FULL,
    SEEDS,
    SIZE,
    WEIGHTS,
)
from rstpm_edge.errors import UsageError
from rstpm_edge.sources.frames import Every

MEANINGS: list[tuple[Any, str, Any]] = [
    (RATE, "0.05", 0.05),
    (RATE, "5%", 0.05),
    (RATE, "5 %", 0.05),
    (RATE, " 2.5%", 0.025),
    (RATE, "1e-2", 0.01),
    (SIZE, "256", (256, 256)),
    (SIZE, "256x512", (256, 512)),
    (SIZE, "256 X 512", (256, 512)),
    (FRAME_SIZE, "1920x1080", (1080, 1920)),
    (FRAME_SIZE, "1920×1080", (1080, 1920)),
    (ROI, "1, 2,30,40", (1, 2, 30, 40)),
    (ROI_OR_FULL, "1,2,30,40", (1, 2, 30, 40)),
    (ROI_OR_FULL, "full", "full"),
    (MASK_OR_FULL, "full", "full"),
    (MASK_OR_FULL, "none", "full"),
    (MASK_OR_FULL, "mask.png", Path("mask.png")),
    (EVERY, "10", Every(10)),
    (EVERY, "0.5s", Every(seconds=0.5)),
    (EVERY, ".5s", Every(seconds=0.5)),
    (EVERY, "2s", Every(seconds=2.0)),
    (BITS, "auto", None),
    (BITS, "12", 12),
    (WEIGHTS, " resnet18 = a=b.pth", ("resnet18", "a=b.pth")),
    (OVERRIDE, "fusion=paper", ("fusion", "paper")),
    (MARGIN, "auroc=0.01", ("auroc", "0.01")),
    (PROVIDER, "cpu", "cpu"),
    (PROVIDER, "tensorrt:precision=f16,batch=4", ("tensorrt", {"precision": "f16", "batch": "4"})),
    (PROVIDER, "tensorrt:shapes=image:8x64x64x3", ("tensorrt", {"shapes": "image:8x64x64x3"})),
    (PROVIDER, "openvino:CACHE_MODE=", ("openvino", {"CACHE_MODE": ""})),
    (NAMES, "a, b,,c", ("a", "b", "c")),
    (NAMES, "", ()),
    (SEEDS, "3", (0, 1, 2)),
    (SEEDS, "1", (0,)),
    (SEEDS, "3,", (3,)),
    (SEEDS, "0, 7,2", (0, 7, 2)),
]


@pytest.mark.parametrize(("kind", "text", "value"), MEANINGS)
def test_what_a_text_means(kind: Any, text: str, value: Any) -> None:
    assert kind.convert(text, None, None) == value


def test_percent_is_exact() -> None:
    for number in range(1, 1000):
        assert RATE.convert(f"{number / 10}%", None, None) == float(f"{number}e-3")


ROI_FORM = "is x,y,width,height in pixels of the photo, such as 100,50,640,480"
REFUSED: list[tuple[Any, str, list[str]]] = [
    (RATE, "--rate is a rate, such as 0.05 or 5%", ["", "%", "x", "5%%", "5 percent", "%5", "--"]),
    (
        SIZE,
        "--size is a number of pixels or HEIGHTxWIDTH, such as 256 or 256x512",
        ["", "x", "abc", "-64", "²", "1x2x3"],
    ),
    (FRAME_SIZE, "--frame is WIDTHxHEIGHT in pixels, such as 1920x1080", ["", "1920", "1x2x3", "-1x5", "x5"]),
    (ROI, f"--roi {ROI_FORM}", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4", "1,2,3,9999999999", "٣,1,1,1", "full"]),
    (ROI_OR_FULL, f"--roi {ROI_FORM}, or full", ["", "1,2,3", "Full", "model"]),
    (
        EVERY,
        "--every is a number of frames or a time, such as 10 or 0.5s",
        ["", "0", "0s", "-1", "1.5", "s", "1e3s", "x", "1m", "nans"],
    ),
    (WEIGHTS, "--weights takes NAME=FILE, such as resnet18=resnet18.pth", ["", "foo", "=foo", "foo=", " = "]),
    (OVERRIDE, "--set takes NAME=VALUE, such as fusion=paper", ["fusion"]),
    (MARGIN, "--margin takes NAME=VALUE, such as auroc=0.01", ["auroc"]),
    (
        PROVIDER,
        "--provider is NAME or NAME:OPTION=VALUE, such as tensorrt:precision=f16",
        ["cpu:", "cpu:precision", "cpu:=f32", ":precision=f32", "cpu:precision=f32,"],
    ),
    (SEEDS, "--seeds is a number of seeds, or the seeds with commas between them", ["", "x", "-1", "0,,1", "²"]),
]


@pytest.mark.parametrize(
    ("kind", "says", "text"), [(kind, says, text) for kind, says, all_ in REFUSED for text in all_]
)
def test_what_a_text_cannot_mean(kind: Any, says: str, text: str) -> None:
    with pytest.raises(UsageError) as error:
        kind.convert(text, None, None)
    assert str(error.value) == f"{says}, not {text!r}."


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (ROI, "1,2,0,4", "A ROI is x,y,width,height in pixels of the photo"),
        (ROI, "-1,2,3,4", "A ROI is x,y,width,height in pixels of the photo"),
        (SEEDS, "0", "--seeds must be from 1 to 1000, not 0; a seed alone is written 0,"),
        (SEEDS, "1001", "--seeds must be from 1 to 1000, not 1001"),
    ],
)
def test_a_text_of_the_right_form_that_cannot_be(kind: Any, text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        kind.convert(text, None, None)
    assert str(error.value).startswith(says)


def test_a_sentence_names_the_option_that_was_typed() -> None:
    for arguments, says in (
        (["infer", "x", "--alpha", "5 percent"], "--alpha is a rate, such as 0.05 or 5%, not '5 percent'."),
        (["train", "x", "--holdout", ""], "--holdout is a rate, such as 0.05 or 5%, not ''."),
        (["export", "--margin", "auroc"], "--margin takes NAME=VALUE, such as auroc=0.01, not 'auroc'."),
        (["benchmark", "x", "--set", "a"], "--set takes NAME=VALUE, such as fusion=paper, not 'a'."),
        (["roi", "x", "--roi", "full"], f"--roi {ROI_FORM}, not 'full'."),
        (["bench", "--frame", "5"], "--frame is WIDTHxHEIGHT in pixels, such as 1920x1080, not '5'."),
    ):
        result = command_line(*arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {says}\n")


@pytest.mark.parametrize("command", ["infer", "train", "evaluate"])
def test_every_command_takes_both_ways_to_write_a_rate(command: str) -> None:
    (option,) = [option for option in main.commands[command].params if option.name == "alpha"]
    assert option.type is RATE


def test_the_judged_part_is_handed_to_the_detector_as_it_takes_it() -> None:
    group = click.Context(main, **main.context_settings)  # a command keeps the help option that its first one gives it
    for arguments, roi, mask in (
        ([], "model", "model"),
        (["--roi", "full", "--mask", "full"], None, None),
        (["--roi", "1,2,3,4", "--mask", "m.png"], (1, 2, 3, 4), Path("m.png")),
    ):
        for command in ("infer", "evaluate"):
            context = main.commands[command].make_context(command, ["x", *arguments], parent=group)
            assert (context.params["roi"], context.params["mask"]) == (roi, mask)


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer", "x", "--on-anomaly-timeout", "nan"],
        ["infer", "x", "--on-anomaly-timeout", "inf"],
        ["infer", "x", "--on-anomaly-timeout", "9999999"],  # more seconds than a wait for a process takes
        ["infer", "x", "--settle", "nan"],
        ["infer", "x", "--journal-days", "nan"],
        ["serve", "x", "--history-days", "nan"],
        ["fleet", "plan", "--within", "nan"],
        ["fleet", "plan", "--within", "inf"],
    ],
)
def test_a_number_has_limits_and_is_finite(arguments: list[str]) -> None:
    result = command_line(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (*_, sentence) = result.stderr.splitlines()
    assert sentence.startswith(f"Error: Invalid value for '{arguments[-2]}': ")
    assert sentence.endswith(("is not a finite number.", "is not in the range 0.1<=x<=3600."))


def test_bits_are_a_choice() -> None:
    with pytest.raises(click.BadParameter, match="'9' is not one of 'auto', '8', '10', '12', '14', '16'"):
        BITS.convert("9", None, None)
