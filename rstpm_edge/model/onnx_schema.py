"""What of ONNX a model file may hold: messages, their fields, operators. All else is refused.

Refused is what `export` has no use for: tensors in other files, functions, operators that loop, branch, or come from
elsewhere; and messages that come twice and are merged, of which parsers differ in what they make.
"""

from collections.abc import Iterator, Mapping

from rstpm_edge.model.protobuf import Field, Reader, check_packed

# After onnx.proto: message → field number → what it is. A name of a message for one that may come once, with * for any
# number of times; "." for a value that may come once, "*" for any number of times. All others are refused.
FIELDS: Mapping[str, Mapping[int, str]] = {
    "graph": {1: "node*", 2: ".", 5: "tensor*", 10: ".", 11: "value*", 12: "value*", 13: "value*"},
    "node": {1: "*", 2: "*", 3: ".", 4: ".", 5: "attribute*", 6: ".", 7: "."},
    "attribute": {1: ".", 2: ".", 3: ".", 4: ".", 5: "tensor", 7: "*", 8: "*", 9: "*", 13: ".", 20: "."},
    "tensor": {1: "*", 2: ".", 4: "*", 5: "*", 6: "*", 7: "*", 8: ".", 9: ".", 10: "*", 11: "*", 12: ".", 14: "."},
    "value": {1: ".", 2: "type", 3: "."},
    "type": {1: "tensor type", 6: "."},
    "tensor type": {1: ".", 2: "shape"},
    "shape": {1: "dimension*"},
    "dimension": {1: ".", 2: ".", 3: "."},
    "opset": {1: ".", 2: "."},
    "entry": {1: ".", 2: "."},
}
# Numbers that may stand in a row without tags: bytes of each, or None for those of any length (varints).
PACKED: Mapping[tuple[str, int], int | None] = {
    ("attribute", 7): 4,
    ("attribute", 8): None,
    ("tensor", 1): None,
    ("tensor", 4): 4,
    ("tensor", 5): None,
    ("tensor", 7): None,
    ("tensor", 10): 8,
    ("tensor", 11): None,
}
OWN_DOMAINS = ("", "ai.onnx")
# What some of the others would be, for the sentence.
_OTHER_FILE = {("tensor", 13), ("tensor", 14)}  # external_data, data_location
_STEERING = {("attribute", 6), ("attribute", 11)}  # graphs: those of Loop, Scan and If

# All that computes numbers from numbers, in a time and to a size that the shapes say, in opset 17. Not among them: what
# loops or branches, what draws random numbers, sequences, strings, and what finds its own sizes.
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift Cast CastLike
    Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace
    DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear
    Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose
    Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905, a hundred lines otherwise
)
# Operators that make as many numbers as a constant says: the input with it.
SIZED = {"ConstantOfShape": 0, "Expand": 1, "OneHot": 1, "Pad": 1, "Range": 1, "Resize": 3, "Tile": 1}


class ForeignError(ValueError):
    """A file that may well be sound ONNX, but none that this package writes, or one that asks for other files."""


def known_fields(reader: Reader, message: memoryview, kind: str) -> Iterator[Field]:
    """Fields that a message of this kind may have.

    Raises ForeignError for others, and ValueError for one that comes twice and may come once.
    """
    allowed = FIELDS[kind]
    seen: set[int] = set()
    for one in reader.fields(message):
        what = allowed.get(one.number)
        if what is None:
            raise refused(kind, one.number)
        if one.number in seen and not what.endswith("*"):
            raise ValueError(f"it has field {one.number} of a {kind} twice")  # and runtimes merge them
        seen.add(one.number)
        if (kind, one.number) in PACKED and isinstance(one.value, memoryview):
            check_packed(one.value, PACKED[kind, one.number])
        yield one


def refused(kind: str, number: int) -> ForeignError:
    """The error for this field of a message of this kind."""
    if (kind, number) in _OTHER_FILE:
        return ForeignError("it keeps weights in a second file")
    if (kind, number) in _STEERING:
        return ForeignError("it decides at run time what to compute")
    return ForeignError(f"it has parts that rstpm-edge does not write (field {number} of a {kind})")
