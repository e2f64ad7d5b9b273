"""How images are judged, from what was typed."""

from pathlib import Path

from rstpm_edge.cli.line.options import LineOptions
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model.keys import load_public_key
from rstpm_edge.pipeline import InferenceOptions


def judging_of(options: LineOptions) -> InferenceOptions:
    """The options of the models; files of mask and key are read, once. Raises UsageError."""
    return InferenceOptions(
        providers=options.providers,
        threads=options.threads,
        polite=options.polite,
        engine_cache=options.engine_cache,
        threshold=options.threshold,
        alpha=options.alpha,
        roi=options.roi,
        mask=load_mask(options.mask) if isinstance(options.mask, Path) else options.mask,
        allow_size_change=options.allow_size_change,
        public_key=None if options.public_key is None else load_public_key(options.public_key),
        verify=options.verify,
        explain=options.explain,
    )
