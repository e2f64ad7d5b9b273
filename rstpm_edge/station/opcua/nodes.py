"""The nodes that an OPC UA client sees of a line, named after OPC 40100-1 (Machine Vision) where that has a name."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from asyncua import Server, ua

from rstpm_edge.printable import one_line
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.line_state import LineState

NAMESPACE = "urn:rstpm-edge:station"
OUR_OWN = "rstpm-edge"

# The states of OPC 40100-1, with their numbers there.
PREOPERATIONAL, HALTED, ERROR, OPERATIONAL = ("Preoperational", 1), ("Halted", 2), ("Error", 3), ("Operational", 4)
READY, CONTINUOUS = ("Ready", 6), ("ContinuousExecution", 8)
COMPLETED, FAILED = 1, 4  # its states of a result

_Type = ua.VariantType
_AUTOMATIC = "VisionStateMachine/AutomaticModeStateMachine"
_RESULT = "ResultManagement/Results/LastResult"
STATE: Mapping[str, ua.VariantType] = {
    "VisionStateMachine/CurrentState": _Type.LocalizedText,
    "VisionStateMachine/CurrentState/Number": _Type.UInt32,
    f"{_AUTOMATIC}/CurrentState": _Type.LocalizedText,
    f"{_AUTOMATIC}/CurrentState/Number": _Type.UInt32,
    "Source": _Type.String,
    "Problem": _Type.String,
    "Drift": _Type.String,
    "JobId": _Type.String,
    "RecipeManagement/ActiveRecipe": _Type.String,
    "RecipeManagement/ActiveRecipeVersion": _Type.String,
    "RecipeManagement/ActiveRecipeSha256": _Type.String,
    "RecipeManagement/Recipes": _Type.String,
    "Counts/Normal": _Type.UInt32,
    "Counts/Anomalous": _Type.UInt32,
    "Counts/Invalid": _Type.UInt32,
    "Counts/Failed": _Type.UInt32,
    "Counts/DroppedFrames": _Type.UInt32,
    "Counts/DamagedFrames": _Type.UInt32,
}
COUNTS = {path: kind for path, kind in STATE.items() if path.startswith("Counts/") and "Frames" not in path}
# Of parts that several cameras see.
PARTS: Mapping[str, ua.VariantType] = {"Problem": _Type.String, **COUNTS}
# In the order in which they are written: whoever is told of a new ResultId may read the others.
RESULT: Mapping[str, ua.VariantType] = {
    f"{_RESULT}/IsPartial": _Type.Boolean,
    f"{_RESULT}/IsSimulated": _Type.Boolean,
    f"{_RESULT}/ResultState": _Type.Int32,
    f"{_RESULT}/PartId": _Type.String,
    f"{_RESULT}/JobId": _Type.String,
    f"{_RESULT}/ExternalRecipeId": _Type.String,
    f"{_RESULT}/CreationTime": _Type.DateTime,
    f"{_RESULT}/Score": _Type.Double,
    f"{_RESULT}/Threshold": _Type.Double,
    f"{_RESULT}/PValue": _Type.Double,
    f"{_RESULT}/Regions": _Type.UInt32,
    f"{_RESULT}/Reason": _Type.String,
    f"{_RESULT}/Verdict": _Type.String,
    f"{_RESULT}/IsGood": _Type.Boolean,
    f"{_RESULT}/ResultContent": _Type.String,
    f"{_RESULT}/ResultId": _Type.String,
}
_NOTHING_YET = ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData)
_NO_VALUE = ua.StatusCode(ua.StatusCodes.BadNoData)
_NOT_ACTIVE = ua.StatusCode(ua.StatusCodes.BadStateNotActive)


@dataclass(frozen=True)
class Method:
    """A method of a line: its place, what it takes and gives (name, type, description), and what it calls."""

    path: str
    takes: tuple[tuple[str, ua.VariantType, str], ...]
    gives: tuple[tuple[str, ua.VariantType, str], ...]
    call: Callable[..., Any]
    description: str


class LineNodes:
    """The nodes of the line `name` below Objects/VisionSystems. Used in the thread of the server alone."""

    def __init__(self, server: Server, namespace: int, name: str) -> None:
        self.name = name
        self.root = ua.NodeId(name, namespace)
        self._server, self._namespace = server, namespace
        self._written: dict[str, tuple[Any, ua.StatusCode | None]] = {}

    async def make(self, parent: Any, methods: tuple[Method, ...], *, judges: bool = True) -> None:
        """Add them. `judges`: it is a line, and no parts that several see."""
        root = await parent.add_object(self._id(""), self._named(self.name))
        made = {"": root}
        variables = {**(STATE if judges else PARTS), **RESULT}
        for path, kind in variables.items():
            place = await self._place(made, path)
            value = [] if path.endswith("/Recipes") else _empty(kind)
            variable = await place.add_variable(
                self._id(path), self._named(path.rpartition("/")[2]), ua.Variant(value, kind), datatype=_data_type(kind)
            )
            made[path] = variable
            await self._write(path, value, kind, status=_NOTHING_YET)
        for method in methods:
            place = await self._place(made, method.path)
            node = await place.add_method(
                self._id(method.path),
                self._named(method.path.rpartition("/")[2]),
                method.call,
                [_argument(*one) for one in method.takes],
                [_argument(*one) for one in method.gives],
            )
            await node.write_attribute(
                ua.AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText(method.description, "en")))
            )

    async def show_state(self, state: LineState, job: str, recipes: list[str], counts: Mapping[str, int]) -> None:
        """Tell what the line does; what is as it was is not written again."""
        whole, automatic = states_of(state)
        now = {
            "VisionStateMachine/CurrentState": ua.LocalizedText(whole[0], "en"),
            "VisionStateMachine/CurrentState/Number": whole[1],
            "Source": state.source,
            "Problem": state.problem or "",
            "Drift": "" if state.drift is None else state.drift.drift,
            "JobId": job,
            "RecipeManagement/ActiveRecipe": state.product.name,
            "RecipeManagement/ActiveRecipeVersion": state.product.version,
            "RecipeManagement/ActiveRecipeSha256": state.model_sha256,
            "RecipeManagement/Recipes": recipes,
            "Counts/DroppedFrames": state.dropped,
            "Counts/DamagedFrames": state.damaged,
            **{f"Counts/{verdict.capitalize()}": number for verdict, number in counts.items()},
        }
        for path, value in now.items():
            await self._write(path, value, STATE[path])
        name, number = automatic or ("", 0)
        status = None if automatic else _NOT_ACTIVE
        await self._write(
            f"{_AUTOMATIC}/CurrentState", ua.LocalizedText(name, "en"), _Type.LocalizedText, status=status
        )
        await self._write(f"{_AUTOMATIC}/CurrentState/Number", number, _Type.UInt32, status=status)

    async def show_parts(self, problem: str | None, counts: Mapping[str, int]) -> None:
        """Tell how many parts there were, and why they cannot be judged, if they cannot."""
        await self._write("Problem", problem or "", _Type.String)
        for verdict, number in counts.items():
            path = f"Counts/{verdict.capitalize()}"
            await self._write(path, number, PARTS[path])

    async def show_result(self, values: Mapping[str, Any]) -> None:
        """Tell of a result, as `result_values` gives it; its number comes last."""
        for path, kind in RESULT.items():
            value = values[path.rpartition("/")[2]]
            status = _NO_VALUE if value is None else None
            await self._write(path, value, kind, values["CreationTime"], status=status, always=True)

    async def _place(self, made: dict[str, Any], path: str) -> Any:
        """The object that holds `path`; those on the way are added."""
        above = path.rpartition("/")[0]
        if above not in made:
            place = await self._place(made, above)
            made[above] = await place.add_object(self._id(above), self._named(above.rpartition("/")[2]))
        return made[above]

    async def _write(
        self,
        path: str,
        value: Any,
        kind: ua.VariantType,
        when: datetime | None = None,
        *,
        status: ua.StatusCode | None = None,
        always: bool = False,
    ) -> None:
        if not always and self._written.get(path, (self, None)) == (value, status):
            return
        self._written[path] = (value, status)
        stamp = when or datetime.fromtimestamp(time.time(), timezone.utc)
        bad = ua.DataValue(StatusCode=status, SourceTimestamp=stamp) if status else None
        new = bad or ua.DataValue(ua.Variant(value, kind), SourceTimestamp=stamp)
        (await self._server.iserver.aspace.write_attribute_value(self._id(path), ua.AttributeIds.Value, new)).check()

    def _id(self, path: str) -> ua.NodeId:
        return ua.NodeId("/".join(filter(None, (self.name, path))), self._namespace)

    def _named(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, self._namespace)


def result_values(inspection: Inspection, job: str) -> dict[str, Any]:
    """What is told of a verdict, by the names of the variables; None for what it has not."""
    fields = inspection.fields
    content = json.dumps(inspection.document, ensure_ascii=False)
    return {
        "IsPartial": False,
        "IsSimulated": False,
        "ResultState": FAILED if inspection.verdict == "failed" else COMPLETED,
        "PartId": one_line(fields.get("path", "")),  # a name may have bytes that are no text
        "JobId": job,
        "ExternalRecipeId": inspection.product,
        "CreationTime": datetime.fromtimestamp(inspection.time, timezone.utc),
        "Score": fields.get("score"),
        "Threshold": fields.get("threshold"),
        "PValue": fields.get("p_value"),
        "Regions": len(fields.get("regions", ())),
        "Reason": one_line(fields.get("invalid_reason") or fields.get("error") or ""),
        "Verdict": inspection.verdict,
        "IsGood": inspection.verdict == "normal",
        "ResultContent": content.encode(errors="backslashreplace").decode(),  # which is JSON's own escape, too
        "ResultId": str(inspection.id),
    }


def states_of(state: LineState) -> tuple[tuple[str, int], tuple[str, int] | None]:
    """The state of the line's VisionStateMachine, and that of its automatic mode; None where that is not active."""
    if state.condition == "starting":
        return PREOPERATIONAL, None
    if state.condition in ("ended", "stopped"):
        return HALTED, None
    if state.condition == "no source" or state.problem is not None:
        return ERROR, None
    return OPERATIONAL, READY if state.condition == "paused" else CONTINUOUS


def _empty(kind: ua.VariantType) -> Any:
    return {
        _Type.LocalizedText: ua.LocalizedText("", "en"),
        _Type.String: "",
        _Type.Boolean: False,
        _Type.DateTime: datetime.fromtimestamp(0, timezone.utc),
        _Type.Double: 0.0,
    }.get(kind, 0)


def _data_type(kind: ua.VariantType) -> ua.NodeId:
    return ua.NodeId(int(kind.value))


def _argument(name: str, kind: ua.VariantType, description: str) -> ua.Argument:
    return ua.Argument(
        Name=name, DataType=_data_type(kind), ValueRank=-1, Description=ua.LocalizedText(description, "en")
    )
