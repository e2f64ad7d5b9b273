"""A model as a C header: the numbers that `rstpm_scorer_create` is given, so that firmware parses no JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rstpm_edge.model.metadata import Bundle, CoarseCells, Fusion, HeadMap


def c_header(bundle: Bundle) -> str:
    """One `static const rstpm_scorer_config`, C99 and C++11; what the network takes and gives stands in a comment."""
    head, score_fusion = bundle.fusion.head or HeadMap(0.0, 0.0, 0.0), bundle.score_fusion
    scores = Fusion(std=(0.0,) * 6, weights=(0.0,) * 6) if score_fusion is None else score_fusion.fusion
    coarse = (score_fusion and score_fusion.coarse) or CoarseCells((), (), ())
    of_cells = (("mean", coarse.mean), ("std", coarse.std), ("weight", coarse.weights))
    fields = [
        ("struct_size", "sizeof(rstpm_scorer_config)"),
        ("mode", _mode(bundle.fusion)),
        ("level_height", _row(height for height, _ in bundle.level_sizes)),
        ("level_width", _row(width for _, width in bundle.level_sizes)),
        ("height", str(bundle.height)),
        ("width", str(bundle.width)),
        *_statistics("", bundle.fusion),
        ("has_head", str(int(bundle.fusion.head is not None))),
        ("has_score_maps", str(int(score_fusion is not None))),
        *((f"head_{name}", repr(float(getattr(head, name)))) for name in ("mean", "std", "weight")),
        ("score_mode", _mode(scores)),
        *_statistics("score_", scores),
        ("coarse_maps", str(len(coarse.weights))),
        *((f"coarse_{name}", _row(map(float, (*values, *(0.0,) * (4 - len(values)))))) for name, values in of_cells),
        ("map_weight", repr(0.0 if score_fusion is None else float(score_fusion.map_weight))),
        ("bias", repr(0.0 if score_fusion is None else float(score_fusion.bias))),
        ("threshold", repr(float(bundle.calibration.threshold))),
        ("kernel", "NULL"),
    ]
    lines = [
        "/* Written by `rstpm-edge info --c-header`: how a model's outputs are scored. */",
        "#ifndef RSTPM_MODEL_H",
        "#define RSTPM_MODEL_H",
        "",
        "#include <rstpm_edge.h>",
        "",
        f"/* The network's input is `image`, uint8 [N, {bundle.height}, {bundle.width}, 3], RGB{_photo(bundle)}.",
        " * Its outputs, in the order of rstpm_scorer_run, are float32 [N, height, width]:",
        *_outputs(bundle.output_sizes),
        " */",
        "static const rstpm_scorer_config kModel = {",
        *(f"    /* {name} */ {value}," for name, value in fields),
        "};",
        "",
        "/* x, y, width and height of what is judged of a photo; a width of 0: all of it. */",
        f"static const int32_t kModelRoi[4] = {{{', '.join(map(str, bundle.roi or (0, 0, 0, 0)))}}};",
        "/* 1 where it keeps its shape, centred on grey. */",
        f"enum {{ kModelLetterbox = {int(bundle.resize == 'letterbox')} }};",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _mode(fusion: Fusion) -> str:
    return "RSTPM_PAPER" if fusion.mode == "paper" else "RSTPM_NORMALIZED"


def _statistics(prefix: str, fusion: Fusion) -> list[tuple[str, str]]:
    six = {"mean": fusion.mean, "std": fusion.std, "weight": fusion.weights}
    rows = [(prefix + name, _row(map(float, values))) for name, values in six.items()]
    return [*rows, (f"{prefix}smoothing_sigma", repr(float(fusion.smoothing_sigma)))]


def _row(values: Iterable[float]) -> str:
    return f"{{{', '.join(map(repr, values))}}}"


def _photo(bundle: Bundle) -> str:
    """What becomes of a photo before the network sees it."""
    resized = "stretched" if bundle.resize == "stretch" else "letterboxed, centred on grey,"
    part = "" if bundle.roi is None else " of its pixels x {}, y {}, {} wide, {} high".format(*bundle.roi)
    mask = "" if bundle.mask is None else ".\n * The model has a mask; docs/embedding.md says how to write it to a file"
    return f":\n * a photo{part}, {resized} to that size{mask}"


def _outputs(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    return [f" *   {i:2}  {name}, {height} x {width}" for i, (name, (height, width)) in enumerate(sizes.items())]
