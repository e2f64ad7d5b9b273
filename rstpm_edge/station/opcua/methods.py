"""What an OPC UA client may have a line do."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from asyncua import ua

from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.station.audit import Record, nobody
from rstpm_edge.station.line import Line
from rstpm_edge.station.line_state import judging_facts
from rstpm_edge.station.opcua.nodes import CONTINUOUS, READY, Method, states_of
from rstpm_edge.station.opcua.security import who_calls
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.products import UnknownProduct

Changed: TypeAlias = Callable[[], Awaitable[None]]
Answer: TypeAlias = "ua.CallMethodResult | ua.StatusCode | list[ua.Variant]"
Code = ua.StatusCodes
_String, _Int32, _Boolean = ua.VariantType.String, ua.VariantType.Int32, ua.VariantType.Boolean
_ERROR = ("error", _Int32, "0: it was done")
_RECIPE = ("externalId", _String, "a product, or product and version with a space between; empty: as it is")


class Steering:
    """The methods of a line. `changed` shows its state at once; `record` gets what was done, for the audit log.

    `job` numbers what runs since it was started.
    """

    def __init__(self, line: Line, changed: Changed, record: Record = nobody) -> None:
        self._line, self._changed, self._record = line, changed, record
        self.job = _new_job(line)

    @property
    def methods(self) -> tuple[Method, ...]:
        """For the address space."""
        automatic = "VisionStateMachine/AutomaticModeStateMachine"
        job = ("jobId", _String, "a number for what is judged from now on")
        return (
            Method(
                f"{automatic}/StartContinuous", (_RECIPE,), (job, _ERROR), _checked((_String,), self._start),
                "Judge from now on; takes a product first, where one is named.",
            ),
            Method(f"{automatic}/Stop", (), (_ERROR,), _checked((), self._stop), "Judge no more after this image."),
            Method(f"{automatic}/Abort", (), (_ERROR,), _checked((), self._stop), "The same as Stop."),
            Method(
                "RecipeManagement/PrepareRecipe", (_RECIPE,), (("isCompleted", _Boolean, "always true"), _ERROR),
                _checked((_String,), self._prepare), "Judge with this product from the next image on.",
            ),
        )  # fmt: skip

    async def _start(self, recipe: str) -> Answer:
        if states_of(self._line.state)[1] != READY:
            return ua.StatusCode(Code.BadInvalidState)
        refused = await self._select(recipe)
        if refused is not None:
            return refused
        self.job = _new_job(self._line)
        self._line.resume()
        await self._done("line resumed")
        return [ua.Variant(self.job, _String), ua.Variant(0, _Int32)]

    async def _stop(self) -> Answer:
        if states_of(self._line.state)[1] != CONTINUOUS:
            return ua.StatusCode(Code.BadInvalidState)
        self._line.pause()
        await self._done("line paused")
        return [ua.Variant(0, _Int32)]

    async def _prepare(self, recipe: str) -> Answer:
        refused = await self._select(recipe)
        if refused is not None:
            return refused
        return [ua.Variant(True, _Boolean), ua.Variant(0, _Int32)]

    async def _select(self, recipe: str) -> ua.CallMethodResult | ua.StatusCode | None:
        """Take a product; what to answer where that cannot be."""
        name, _, version = recipe.strip().partition(" ")
        if not name:
            return None
        try:
            product = self._line.products.resolve(name, version.strip() or None)
            await asyncio.to_thread(self._line.select, product)  # a model that is not in memory takes its time
            await self._done("product selected")
        except UnknownProduct:
            return _wrong(Code.BadInvalidArgument, [Code.BadNotFound])
        except RstpmEdgeError:  # told by the station: a file that is damaged, or has no signature
            return ua.StatusCode(Code.BadResourceUnavailable)
        return None

    async def _done(self, event: str) -> None:
        facts = {"by": who_calls(), **judging_facts(self._line.state)}
        await asyncio.to_thread(self._record, event, facts)  # which waits for the disk
        await self._changed()


def methods_of(parts: PartFeed, record: Record = nobody) -> tuple[Method, ...]:
    """Those of parts that several cameras see."""

    async def realign() -> Answer:
        parts.realign()
        facts = {"by": who_calls(), "line": parts.rule.name}
        await asyncio.to_thread(record, "parts realigned", facts)
        return [ua.Variant(0, _Int32)]

    what = "The line is empty: the next picture of each camera is of one part."
    return (Method("Realign", (), (_ERROR,), _checked((), realign), what),)


def _checked(kinds: tuple[ua.VariantType, ...], call: Callable[..., Awaitable[Answer]]) -> Callable[..., Any]:
    """The method with its arguments checked, as OPC UA wants it: part 4, table 67."""

    async def checked(parent: ua.NodeId, *arguments: ua.Variant) -> Answer:
        if len(arguments) < len(kinds):
            return ua.StatusCode(Code.BadArgumentsMissing)
        if len(arguments) > len(kinds):
            return ua.StatusCode(Code.BadTooManyArguments)
        fits = [
            argument.VariantType == kind and not argument.is_array and argument.Value is not None
            for argument, kind in zip(arguments, kinds, strict=True)
        ]
        if not all(fits):
            return _wrong(Code.BadInvalidArgument, [Code.Good if fit else Code.BadTypeMismatch for fit in fits])
        return await call(*(argument.Value for argument in arguments))

    return checked


def _wrong(code: int, of_arguments: list[int]) -> ua.CallMethodResult:
    result = ua.CallMethodResult()
    result.StatusCode = ua.StatusCode(code)
    result.InputArgumentResults = [ua.StatusCode(one) for one in of_arguments]
    return result


def _new_job(line: Line) -> str:
    return f"{line.name}-{time.time_ns() // 1_000_000}"
