"""`rstpm-edge train`, `export` and `evaluate`. They import torch only when they run."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli_common import model_option, provider_option, say, training_module
from rstpm_edge.errors import ExportError, UsageError
from rstpm_edge.files import check_writable, write_json
from rstpm_edge.processor import advice
from rstpm_edge.roi import parse_roi

if TYPE_CHECKING:
    from rstpm_edge.providers import Provider
    from rstpm_edge.training.evaluate import Evaluation, Metrics, Verdicts
    from rstpm_edge.training.run import Summary

ODD = 1.25  # times as far above the typical score as the next


@click.command()
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--preset", default="edge", show_default=True, help="edge, or paper (ResNet-18 and ResNet-50).")
@click.option("--teacher1", metavar="NAME", help="Another backbone for pair 1: a name of timm or torchvision.")
@click.option("--teacher2", metavar="NAME", help="Another backbone for pair 2; it must differ from teacher 1.")
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=FILE",
    help="A teacher's weights (.pth or .safetensors), or NAME=random to try things out; may be repeated.",
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Another value for a preset's field.")
@click.option("--epochs", type=int, help="Passes over the images.  [default: the preset's]")
@click.option("--max-minutes", type=float, help="Finish the schedule within this time, with fewer epochs.")
@click.option("--size", default="256", show_default=True, metavar="HxW", help="Input size, multiples of 32.")
@click.option("--resize", type=click.Choice(["stretch", "letterbox"]), default="stretch", show_default=True)
@click.option("--roi", metavar="X,Y,W,H", help="Learn this part of each photo only (pixels); `infer` keeps to it.")
@click.option("--holdout", default=0.2, show_default=True, help="Share of the images kept for calibration.")
@click.option("--alpha", type=float, help="False-reject rate to promise.  [default: 0.01, or what holdout allows]")
@click.option("--seed", default=0, show_default=True)
@click.option("--skip-unreadable", is_flag=True, help="Name damaged images and go on without them.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps or auto.")
@click.option("--precision", default="auto", show_default=True, help="As Fabric has it: 32-true, bf16-mixed, …")
@click.option("--processes", default=1, show_default=True, help="Processes or GPUs that share each batch.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with an interrupted run.")
def train(data: Path | None, **options: Any) -> None:
    """Learn a product from the good images in DATA; writes ./runs/<time>.

    DATA is a folder of good images, or has the MVTec AD layout, of which train/good is taken.

    \b
    Examples:
      rstpm-edge train photos/good
      rstpm-edge train photos/good --max-minutes 10 --size 256x512
      rstpm-edge train photos/good --set fusion=paper --set attention=false
      rstpm-edge train --resume runs/2026-01-31_12-00-00
    """
    module = training_module("train")
    presets = training_module("presets")
    machine = module.Machine(options["device"], options["precision"], options["processes"])
    with progress_bars() as report:
        if options["resume"] is not None:
            if data is not None:
                raise UsageError("Give either DATA or --resume RUN: a run knows its data.")
            run = module.resume(options["resume"], machine, report=report)
        elif data is None:
            raise UsageError("Give DATA, a folder of good images, or --resume RUN.")
        else:
            preset = presets.preset_with_teachers(options["preset"], options["teacher1"], options["teacher2"])
            preset = training_module("overrides").override(preset, parse_overrides(options["overrides"]))
            chosen = {
                name: options[name]
                for name in ("epochs", "max_minutes", "seed", "resize", "holdout", "alpha", "skip_unreadable")
            }
            roi = None if options["roi"] is None else parse_roi(options["roi"])
            parsed = module.TrainingOptions(
                roi=roi,
                preset=preset,
                size=parse_size(options["size"]),
                weights=parse_weights(options["weights"]),
                **chosen,
            )
            run = module.train(data, parsed, machine, report=report)
    if module.is_first_process():
        say_run(run)


def say_run(run: Path) -> None:
    """What the quality manager asks: how often will it reject a good part, and how do you know?"""
    module = training_module("run")
    summary, config = module.load_summary(run), module.load_config(run)
    calibration, held = summary.calibration, len(config.holdout)
    say(
        f"{run}: {summary.epochs} epochs on {len(config.train)} images in {summary.minutes:.1f} min; "
        f"loss {summary.losses[-1][0]:.3f} (STPM pair), {summary.losses[-1][1]:.3f} (reconstruction pair)."
    )
    say(
        f"A good part is rejected with probability at most {calibration.alpha:.3g}, for parts like the {held} "
        f"held-out images, at the threshold {calibration.threshold:.4g}."
    )
    if calibration.alpha > 0.01 and config.alpha is None:
        say(f"The {held} held-out images allow no smaller rate; 0.01 takes 99 of them.")
    _say_odd_one(summary)


def _say_odd_one(summary: "Summary") -> None:
    """One line when a single held-out image, far above all others, is what the threshold rests on."""
    typical, threshold = summary.calibration.median, summary.calibration.threshold
    if len(summary.highest) < 3 or summary.highest[0][1] > threshold:
        return
    (name, first), (_, second) = summary.highest[:2]
    if first - typical > ODD * (second - typical):
        say(
            f"One image alone sets that threshold: {name} scores {first:.4g}, the next {second:.4g}. If it shows a "
            "defect, take it out and train again: a lower threshold finds more. `rstpm-edge audit` looks at all photos."
        )


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default="model.onnx", show_default=True)
@click.option("--fused", is_flag=True, help="Also give anomaly_map and score in the graph, for other runtimes.")
@click.option("--int8", is_flag=True, help="8-bit convolutions, for processors with dot products of 8-bit integers.")
@click.option("--fp16", is_flag=True, help="16-bit floats: half the file, for GPUs and some ARM processors.")
@click.option("--symmetric", is_flag=True, help="With --int8: as TensorRT takes it, and slow on a CPU.")
@click.option("--data", type=click.Path(path_type=Path), metavar="FOLDER", help="Where the run's photos are now.")
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="NAME=VALUE",
    help="What --int8 and --fp16 may change: auroc=0.005, false_rejects=0.02, verdict=0.25 unless given otherwise.",
)
def export(
    run: Path | None,
    output: Path,
    fused: bool,
    int8: bool,
    fp16: bool,
    symmetric: bool,
    data: Path | None,
    margins: tuple[str, ...],
) -> None:
    """Write a finished RUN (the newest in ./runs by default) as one ONNX file, and check it on real images.

    --int8 and --fp16 need the photos that the run was trained on. They compare the result with the float32 model on
    photos that were held out, also with defects painted into them, and refuse when it moved too far.

    \b
    Examples:
      rstpm-edge export
      rstpm-edge export runs/2026-01-31_12-00-00 -o bracket.onnx --fused
      rstpm-edge export --int8 -o bracket-int8.onnx
    """
    if int8 and fp16:
        raise UsageError("Give either --int8 or --fp16; each makes a file of its own.")
    if symmetric and not int8:
        raise UsageError("--symmetric goes with --int8 only.")
    if not (int8 or fp16) and (data is not None or margins):
        raise UsageError("--data and --margin go with --int8 or --fp16 only; a float32 export needs neither.")
    limits = parse_margins(margins)
    module = training_module("export")
    check_writable(output)
    reduction = training_module("reduced").Reduction(
        precision="int8" if int8 else "fp16" if fp16 else "fp32",
        symmetric=symmetric,
        data=data,
        margins=training_module("gate").checked_margins(limits),
    )
    run = run or training_module("run").newest_run()
    with progress_bars() as report:
        found = module.export(
            run, output, fused=fused, reduction=reduction, report=report, compared=lambda found: say(moved_table(found))
        )
    say_export(found)


def say_export(report: Any) -> None:
    """One line, and more where a backbone brought something that not every runtime takes."""
    small = report.reduced
    say(
        f"{report.path} ({report.path.stat().st_size / 1e6:.1f} MB{f', {report.precision}' if small else ''}): "
        f"{'in float32, it ' if small else ''}agrees with PyTorch on {report.images} images; "
        f"largest difference {report.map_difference:.1g} (maps), {report.score_difference:.1g} (score, relative)."
    )
    if small:
        say_reduced(report.precision, small)
    if report.unusual_operators:
        say(f"Not every TensorRT or OpenVINO takes these operators: {', '.join(report.unusual_operators)}.")
    if report.obstacles:
        many = "" if len(report.obstacles) == 1 else f", for {len(report.obstacles)} reasons"
        say(f"TensorRT or OpenVINO may refuse this file{many}: {report.obstacles[0]}")


def say_reduced(precision: str, small: Any) -> None:
    """What the reduction did, and whether it pays on this machine: measured, and by what the processor has."""
    if small.share is not None:
        kept = f"{len(small.kept)} of {small.blocks} blocks stay in float"
        if small.kept:
            kept += f": {', '.join(small.kept)}"
        say(
            f"Ranges by {small.method}; {kept}. {small.share.operators:.0%} of the operators and "
            f"{small.share.multiplications:.0%} of the multiplications are integer."
        )
    before, after = small.milliseconds
    say(
        f"One image in ONNX Runtime here, at best: {before:.1f} ms in FP32, {after:.1f} ms in {precision.upper()}; "
        f"{'INT8 for TensorRT is slow on a CPU' if small.symmetric else advice(precision)}."
    )


def moved_table(comparison: Any) -> str:
    """What moved against float32, as people read it."""
    header = f"{comparison.good} held-out good photos, {comparison.spoiled} with a defect painted in"
    lines = [f"{header:56}{'float32':>12}{'this file':>12}{'allowed':>10}"]
    for row in comparison.rows:
        verdict = "" if row.holds else "  too far"
        lines.append(f"{row.name:56}{row.before:>12}{row.after:>12}{row.allowed or '':>10}{verdict}")
    return "\n".join(lines)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@model_option
@click.option("--run", type=click.Path(path_type=Path), help="Where it was exported from.  [default: newest in ./runs]")
@click.option("--most", type=click.IntRange(min=1), default=50, show_default=True, help="Images, evenly spread.")
def verify(paths: tuple[Path, ...], model: Path, run: Path | None, most: int) -> None:
    """Compare a model file in ONNX Runtime and in the C++ kernels with PyTorch and NumPy, on images.

    \b
    Example:
      rstpm-edge verify photos/good
    """
    from rstpm_edge.image import find_images

    images = [image for path in paths for image in (find_images(path) if path.is_dir() else [path])]
    chosen = [images[i * len(images) // most] for i in range(most)] if len(images) > most else images
    run = run or training_module("run").newest_run()
    result = training_module("verify").verify(run, model, chosen)
    say(
        f"{result.images} images; largest difference of a map {result.map_onnxruntime:.1e} (ONNX Runtime and PyTorch), "
        f"of the fused map {result.fused_extension:.1e} (extension and NumPy, relative), "
        f"of the score {result.score:.1e} (relative)."
    )
    if not result.agree:
        raise ExportError(f"{model} does not agree with {run}: was it exported from another run?")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@model_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all figures there.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an HTML report there, with figures, charts and pictures.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
@provider_option
def evaluate(
    data: Path,
    model: Path,
    json_file: Path | None,
    report_file: Path | None,
    threads: int | None,
    providers: "list[Provider] | None",
) -> None:
    """Measure a model on the test images of DATA (MVTec AD layout: test/good, test/KIND, ground_truth/KIND).

    The file itself is run, as it ships. AUROC, AP and best F1 of the images; AUROC, AP and AUPRO (to a
    false-positive rate of 0.3 and of 0.05) of the pixels, at the images' own resolution.

    \b
    Example:
      rstpm-edge evaluate mvtec/bottle --model bottle.onnx --report bottle.html --json bottle.json
    """
    module = training_module("evaluate")
    write_report = training_module("report").write_report if report_file else None
    _check_outputs(model, json_file, report_file)
    with _bar("Testing") as advance:
        predictions = training_module("predictions").predict(
            data, model, threads=threads, providers=providers, report=advance
        )
    result = module.measure(predictions)
    say(format_evaluation(result))  # first, so that a full disk does not lose it
    if json_file:
        write_json(json_file, result.to_json())
    if report_file and write_report:
        with _bar("Drawing") as advance:
            write_report(report_file, predictions, result, progress=advance)


def _check_outputs(model: Path, *files: Path | None) -> None:
    """Before the work, refuse what could not be written after it. Raises UsageError and OutputError."""
    taken = {model.resolve()}
    for file in filter(None, files):
        if file.resolve() in taken:
            raise UsageError(f"{file} is named twice: the model, --json and --report must be different files.")
        taken.add(file.resolve())
        check_writable(file)


def format_evaluation(result: "Evaluation") -> str:
    """The tables that people read."""
    columns = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "aupro_30", "aupro_05")
    of_kind = ("image_auroc", "pixel_auroc", "aupro_30")

    def cells(metrics: "Metrics", columns: tuple[str, ...]) -> str:
        values = (getattr(metrics, column) for column in columns)
        return "".join("           –" if v is None else f"{v:12.4f}" for v in values)

    def verdicts_row(name: str, verdicts: "Verdicts", metrics: "Metrics | None") -> str:
        low, high = verdicts.interval
        counts = f"{name:16}{verdicts.images:8}{verdicts.anomalous:11}{verdicts.rate:8.3f}   {low:.3f} to {high:.3f}"
        return counts + (cells(metrics, of_kind) if metrics else "")

    rows = {"both": result.both, "stpm": result.stpm, "recon": result.recon, **result.maps}
    lines = [f"{'':10}" + "".join(f"{column:>12}" for column in columns)]
    lines += [f"{name:10}{cells(metrics, columns)}" for name, metrics in rows.items()]
    lines += ["", f"{'':16}{'images':>8}{'anomalous':>11}{'rate':>8}   95 % interval "]
    lines[-1] += "".join(f"{column:>12}" for column in of_kind)[1:]
    lines += [verdicts_row(kind, verdicts, result.by_kind.get(kind)) for kind, verdicts in result.verdicts.items()]
    lines.append(verdicts_row("all defects", result.recall, result.both))
    return "\n".join(lines)


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[Any], None]]:
    """Something that takes training's Progress and draws one bar a stage on standard error."""
    with contextlib.ExitStack() as stack:
        stages: dict[str, Callable[[int, int], None]] = {}
        bars: list[Any] = []

        def report(progress: Any) -> None:
            if progress.warning is not None:
                click.echo(f"Skipped: {progress.warning}", err=True)
                return
            if progress.stage not in stages:
                stack.close()  # the stage before is done
                bar: Any = click.progressbar(
                    length=progress.total,
                    label=f"{progress.stage.capitalize():11}",
                    item_show_func=lambda loss: f"loss {loss[0]:.3f} {loss[1]:.3f}" if loss else "",
                    file=sys.stderr,
                )
                bars[:] = [stack.enter_context(bar)]
                stages[progress.stage] = _mover(bars[0])
            bars[0].current_item = progress.loss
            stages[progress.stage](progress.done, progress.total)

        yield report


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    with click.progressbar(length=1, label=f"{label:11}", file=sys.stderr) as bar:
        yield _mover(bar)


def _mover(bar: Any) -> Callable[[int, int], None]:
    def move(done: int, total: int) -> None:
        bar.length = total
        bar.update(done - bar.pos, bar.current_item)

    return move


def parse_size(text: str) -> tuple[int, int]:
    """--size as (height, width). Raises UsageError."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--size is a number of pixels or HEIGHTxWIDTH, such as 256 or 256x512, not {text!r}.")
    return int(parts[0]), int(parts[-1])


def parse_weights(pairs: Iterable[str]) -> dict[str, str]:
    """--weights as {NAME: FILE}. Raises UsageError."""
    return _pairs(pairs, "--weights takes NAME=FILE, such as resnet18=resnet18.pth")


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """--set as {NAME: VALUE}. Raises UsageError."""
    return _pairs(pairs, "--set takes NAME=VALUE, such as fusion=paper")


def parse_margins(pairs: Iterable[str]) -> dict[str, str]:
    """--margin as {NAME: VALUE}. Raises UsageError."""
    return _pairs(pairs, "--margin takes NAME=VALUE, such as auroc=0.01")


def _pairs(pairs: Iterable[str], expected: str) -> dict[str, str]:
    values = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise UsageError(f"{expected}, not {pair!r}.")
        values[name] = value
    return values
