"""Everything that this package raises on purpose.

RstpmEdgeError
├── UsageError            an option or argument that cannot work as given
│   └── ProviderError     an execution provider that this ONNX Runtime build lacks
├── ImageError            an image that cannot be read or judged
│   └── InvalidImageError one that can be read, of a size or range that is not what was learned from
├── SourceError           a camera, stream, video or folder that gives no images
├── DatasetError          a folder of images that cannot be trained on or evaluated
├── ModelError            a model file that is missing, foreign, damaged or too new
│   └── SignatureError    a model file whose signature is missing, or of another key or file
├── WeightsError          teacher weights that are missing or do not match
├── TrainingError         training that cannot start, go on, or has diverged
├── ExportError           an export whose self-check failed
├── FleetError            a Ray cluster that cannot be started, or has failed
└── OutputError           a result that could not be written

Each message is one sentence or two: what is wrong, and what to do.
"""


class RstpmEdgeError(Exception):
    """Base of the tree; the command line prints its message and never a traceback."""


class UsageError(RstpmEdgeError):
    """An option or argument that cannot work as given."""


class ProviderError(UsageError):
    """An execution provider that the installed ONNX Runtime does not have."""


class ImageError(RstpmEdgeError):
    """An image that is missing, damaged, of an unsupported type, or of an impossible size."""


class InvalidImageError(ImageError):
    """An image that can be read, but is of a size or range that a verdict of this model would mean nothing for."""


class SourceError(RstpmEdgeError):
    """A camera, stream, video or watched folder that cannot be opened, or has stopped giving images."""


class DatasetError(RstpmEdgeError):
    """A data set that is empty, too small, or has unreadable files."""


class ModelError(RstpmEdgeError):
    """A model that is missing, damaged, not exported by rstpm-edge, or newer than this package."""


class SignatureError(ModelError):
    """A model whose signature is missing, damaged, or one of another key or another file."""


class WeightsError(RstpmEdgeError):
    """Teacher weights that are missing, of the wrong shape, or fail their hash."""


class TrainingError(RstpmEdgeError):
    """Training that cannot start or resume, or whose loss is not finite."""


class ExportError(RstpmEdgeError):
    """An export that was refused, since its self-check failed."""


class FleetError(RstpmEdgeError):
    """A Ray cluster that cannot be started, or that the work cannot go on with."""


class OutputError(RstpmEdgeError):
    """A file that could not be written: full disk, read-only folder, no permission."""
