"""The fusion and the score as nodes behind a graph's maps, for runtimes without our code."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rstpm_edge.model.metadata import CoarseCells, Fusion, ScoreFusion
from rstpm_edge.model.outputs import ByPair, by_kind
from rstpm_edge.postprocess.reference import bilinear_matrix, gaussian_matrix


def add_fusion(model: onnx.ModelProto, fusion: Fusion, score_fusion: ScoreFusion | None, size: tuple[int, int]) -> None:
    """Append upsampling, normalisation, fusion and score to the graph, as outputs `anomaly_map` and `score`.

    Bilinear upsampling and Gaussian smoothing are linear along each axis, so each level takes two matrix products:
    exact for every size, and free of the resize modes on which runtimes disagree.
    """
    appended = _Fusion(model.graph, size)
    anomaly_map = appended.fuse(appended.anomaly_maps, fusion, "fusion", "anomaly_map")
    if score_fusion is None:
        score = appended.node("ReduceMax", "fusion/peak", None, anomaly_map, axes=[1, 2], keepdims=0)  # (N,)
        appended.pass_on_nan("score", score, anomaly_map)
    else:
        assert appended.score_maps is not None
        score_map = appended.fuse(appended.score_maps, score_fusion.fusion, "score_fusion", "score_fusion/map")
        peak = appended.node("ReduceMax", "fusion/peak", None, anomaly_map, axes=[1, 2], keepdims=0)  # (N,)
        seen = appended.node("ReduceMax", "score_fusion/peak", None, score_map, axes=[1, 2], keepdims=0)
        weight = appended.constant("score_fusion/map_weight", score_fusion.map_weight)
        share = appended.node("Mul", "score_fusion/share", None, peak, weight)
        both = appended.node("Add", "score_fusion/both", None, seen, share)
        checked = [anomaly_map, score_map]
        if score_fusion.coarse is not None:
            for cells in appended.coarse_cells(score_fusion.coarse):
                checked.append(cells)
                coarse = appended.node("ReduceMax", f"{cells}/peak", None, cells, axes=[1, 2], keepdims=0)
                both = appended.node("Add", f"{cells}/added", None, both, coarse)
        bias = appended.constant("score_fusion/bias", score_fusion.bias)
        score = appended.node("Add", "score_fusion/sum", None, both, bias)
        appended.pass_on_nan("score", score, *checked)
    outputs = model.graph.output
    outputs.append(helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", *size]))
    outputs.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]))


class _Fusion:
    """Writes nodes behind a graph's maps; `size` is that of the fused map."""

    def __init__(self, graph: onnx.GraphProto, size: tuple[int, int]) -> None:
        self._graph = graph
        self._size = size
        names = [output.name for output in graph.output]
        self.anomaly_maps, self.score_maps, self._angle_maps, self._head_map = by_kind(names, names)
        self._shapes = {
            output.name: [d.dim_value for d in output.type.tensor_type.shape.dim[1:]] for output in graph.output
        }

    def constant(self, name: str, value: NDArray[np.float64] | float) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, operator: str, name: str, output: str | None, *inputs: str, **attributes: object) -> str:
        output = output or f"{name}_output"
        self._graph.node.append(helper.make_node(operator, inputs, [output], name, **attributes))  # type: ignore[arg-type]
        return output

    def pass_on_nan(self, output: str, score: str, *maps: str) -> None:
        """`output` is `score` (N,), or NaN where a map (N, H, W) holds NaN or infinity.

        Of such a map runtimes give what maximum they like, and a part that nobody could judge would pass as good. Sums
        pass it on; times zero, they change nothing else.
        """
        zero = self.constant("fusion/zero", 0.0)
        for i, one in enumerate(maps):
            mean = self.node("ReduceMean", f"fusion/mean_{i}", None, one, axes=[1, 2], keepdims=0)
            nothing = self.node("Mul", f"fusion/nothing_{i}", None, mean, zero)
            last = i == len(maps) - 1
            score = self.node("Add", f"fusion/score_{i}", output if last else None, score, nothing)

    def coarse_cells(self, coarse: CoarseCells) -> list[str]:
        """The coarsest level of both pairs as one, of residuals, and of angles where they are; names of (N, h, w)."""
        names = [self.anomaly_maps.stpm[-1], self.anomaly_maps.recon[-1]]
        if coarse.has_angles:
            assert self._angle_maps is not None
            names += self._angle_maps
        cells = []
        for kind in range(0, len(names), 2):
            scope = f"score_fusion/coarse_{'angles' if kind else 'residuals'}"
            scaled, offset = [], 0.0
            for i in (kind, kind + 1):
                gain = coarse.weights[i] / coarse.std[i]
                offset -= gain * coarse.mean[i]
                scale = self.constant(f"{scope}/scale_{i - kind}", gain)
                scaled.append(self.node("Mul", f"{scope}/scaled_{i - kind}", None, names[i], scale))
            both = self.node("Add", f"{scope}/both", None, *scaled)
            cells.append(self.node("Add", f"{scope}/cells", None, both, self.constant(f"{scope}/offset", offset)))
        return cells

    def fuse(self, maps: ByPair[str], fusion: Fusion, scope: str, output: str) -> str:
        """Fuse six of the graph's outputs, and the segmentation head's where `fusion` has one, to `output`, (N, H, W).

        Gives the name of `output`; those of the nodes lie below `scope`.
        """
        mean, std, weights = (ByPair.of(values) for values in (fusion.mean, fusion.std, fusion.weights))
        smooth = [gaussian_matrix(side, fusion.smoothing_sigma) for side in self._size]
        linear = fusion.mode == "normalized"
        levels = []
        offset = 0.0
        for level, (first, second) in enumerate(zip(maps.stpm, maps.recon, strict=True)):
            shape = self._shapes[first]
            tag = f"{scope}/level_{level}"
            if linear:
                gain1, gain2 = weights.stpm[level] / std.stpm[level], weights.recon[level] / std.recon[level]
                offset = -(gain1 * mean.stpm[level] + gain2 * mean.recon[level])
                scales = self.constant(f"{tag}/scale_stpm", gain1), self.constant(f"{tag}/scale_recon", gain2)
                first = self.node("Mul", f"{tag}/scaled_stpm", None, first, scales[0])
                second = self.node("Mul", f"{tag}/scaled_recon", None, second, scales[1])
            both = self.node("Add", f"{tag}/sum", None, first, second)  # (N, h, w)
            if level == 0 and (head := fusion.head) is not None:
                gain = head.weight / head.std
                offset -= gain * head.mean
                assert self._head_map is not None
                scale = self.constant(f"{tag}/scale_head", gain)
                scaled = self.node("Mul", f"{tag}/scaled_head", None, self._head_map, scale)
                both = self.node("Add", f"{tag}/sum_with_head", None, both, scaled)
            if linear:
                both = self.node("Add", f"{tag}/centred", None, both, self.constant(f"{tag}/offset", offset))
            rows, columns = (bilinear_matrix(side, small) for side, small in zip(self._size, shape, strict=True))
            rows, columns = smooth[0] @ rows, smooth[1] @ columns  # a product is not smoothed: they are identities
            tall = self.node(
                "MatMul", f"{tag}/rows", None, self.constant(f"{tag}/row_weights", rows), both
            )  # (N, H, w)
            across = self.constant(f"{tag}/column_weights", columns.T)
            levels.append(self.node("MatMul", f"{tag}/columns", None, tall, across))  # (N, H, W)
        combine = "Add" if linear else "Mul"
        partial = self.node(combine, f"{scope}/levels_0_1", None, levels[0], levels[1])
        return self.node(combine, f"{scope}/levels", output, partial, levels[2])
