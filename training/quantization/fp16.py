"""A float graph in 16-bit floats, but for what overflows or drowns in them.

ONNX Runtime's own converter casts between any two nodes that stay in float32, so that they round and overflow all the
same; here casts stand at the border only.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graph.onnx_graph import MAPS

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ALWAYS_FLOAT = {"Resize": (1, 2)}  # inputs that are float32 by definition, whatever the others are


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` with float16 weights and activations, from its first convolutions to the maps.

    Maps are measured in float32: squares summed over hundreds of channels overflow beyond 65504, and of two such sums a
    map is the small difference. So does what stands before the first convolution, where pixels are up to 255. The
    input stays uint8 and the outputs float32.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(graph)
    del converted.graph.node[:], converted.graph.value_info[:]
    constants = {tensor.name: tensor for tensor in converted.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    stays = _float_nodes(graph)
    kind = {name: TensorProto.FLOAT for node in graph.graph.node if node.name in stays for name in node.output}
    kind |= {name: TensorProto.FLOAT16 for node in graph.graph.node if node.name not in stays for name in node.output}
    made: dict[tuple[str, int], str] = {}  # casts and converted constants

    def as_kind(name: str, wanted: int) -> str:
        if name in constants and wanted == TensorProto.FLOAT16:
            if (name, wanted) not in made:
                made[name, wanted] = f"{name}_half"
                with np.errstate(over="ignore"):  # what becomes infinite does not pass the comparison with float32
                    values = numpy_helper.to_array(constants[name]).astype(np.float16)
                converted.graph.initializer.append(numpy_helper.from_array(values, made[name, wanted]))
            return made[name, wanted]
        if name not in kind or kind[name] == wanted:  # no float, or of the right kind
            return name
        if (name, wanted) not in made:
            made[name, wanted] = f"{name}_{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
            converted.graph.node.append(
                helper.make_node("Cast", [name], [made[name, wanted]], f"{made[name, wanted]}/Cast", to=wanted)
            )
        return made[name, wanted]

    for node in graph.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        wanted = TensorProto.FLOAT if node.name in stays else TensorProto.FLOAT16
        for i, name in enumerate(node.input):
            if i not in _ALWAYS_FLOAT.get(node.op_type, ()):
                copy.input[i] = as_kind(name, wanted)
        converted.graph.node.append(copy)
    used = {name for node in converted.graph.node for name in node.input}
    for tensor in [tensor for tensor in converted.graph.initializer if tensor.name not in used]:
        converted.graph.initializer.remove(tensor)
    return converted


def _float_nodes(graph: onnx.ModelProto) -> set[str]:
    """The nodes that stay in float32: before the first convolution of each path, for the maps, and integers."""
    computed: set[str] = set()  # what depends on a convolution
    outputs = {value.name for value in graph.graph.output}
    found = set()
    for node in graph.graph.node:
        if node.op_type in _WEIGHTED or computed.intersection(node.input):
            computed.update(node.output)
        measures = node.name.startswith(MAPS) or outputs.intersection(node.output)
        if measures or not computed.intersection(node.output):
            found.add(node.name)
    return found
