"""What a PLC has a station do by OPC UA, asked by asyncua's client."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from asyncua import Client, ua
from numpy.typing import NDArray
from opcua_plc import AUTOMATIC, RESULT, Plc, Served, serving

from rstpm_edge import Detector
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.opcua.nodes import NAMESPACE
from rstpm_edge.station.opcua.security import Endpoint
from rstpm_edge.station.opcua.server import OpcUa
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.parts import PartRule
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.station import make_station

pytestmark = pytest.mark.extra


def test_stop_and_start(served: Served, good: NDArray[Any]) -> None:
    async def plc() -> None:
        async with served.client() as plc:
            await plc.becomes(f"{AUTOMATIC}/CurrentState", "ContinuousExecution")
            with pytest.raises(ua.uaerrors.BadInvalidState):
                await plc.call(f"{AUTOMATIC}/StartContinuous", "")
            assert await plc.call(f"{AUTOMATIC}/Stop") == 0
            assert await plc.read(f"{AUTOMATIC}/CurrentState") == "Ready"  # at once
            with pytest.raises(ua.uaerrors.BadInvalidState):
                await plc.call(f"{AUTOMATIC}/Abort")
            job = await plc.read("JobId")
            new, error = await plc.call(f"{AUTOMATIC}/StartContinuous", "second 1")
            assert error == 0
            assert new != job
            assert await plc.read("JobId") == new
            assert await plc.read("RecipeManagement/ActiveRecipe") == "second"
            assert await plc.read("RecipeManagement/ActiveRecipeSha256") == served.line.state.model_sha256
            served.images.give(good, "first of the job")
            await plc.becomes(f"{RESULT}/PartId", "first of the job")
            assert await plc.read(f"{RESULT}/JobId") == new
            assert await plc.read(f"{RESULT}/ExternalRecipeId") == "second"

    asyncio.run(plc())


def test_another_model_while_it_judges(served: Served) -> None:
    async def plc() -> None:
        async with served.client() as plc:
            assert await plc.call("RecipeManagement/PrepareRecipe", "second") == [True, 0]
            assert await plc.read("RecipeManagement/ActiveRecipe") == "second"
            assert served.line.state.product == ProductName("second", "1")
            assert await plc.call("RecipeManagement/PrepareRecipe", "") == [True, 0]

    asyncio.run(plc())


def test_a_line_with_products_of_its_own_takes_its_own(products: Products) -> None:
    async def plc(served: Served) -> None:
        async with served.client() as plc:
            assert await plc.call("RecipeManagement/PrepareRecipe", "second") == [True, 0]
            await plc.becomes("RecipeManagement/ActiveRecipe", "second")

    by_hand = Products(products._shelf, lambda path: Detector(path, threads=1, threshold=0.5))
    with by_hand, serving(products, judging=by_hand) as served:
        asyncio.run(plc(served))
        of_line = by_hand.in_memory(ProductName("second", "1"))
        assert of_line is not None
        assert (of_line.detector.threshold, of_line.pinned) == (0.5, 1)
        assert served.line.state.product == ProductName("second", "1")


def test_arguments_that_cannot_be(served: Served) -> None:
    async def refused(plc: Plc, *arguments: Any) -> tuple[str, list[str]]:
        request = ua.CallMethodRequest(
            plc.node("RecipeManagement").nodeid, plc.node("RecipeManagement/PrepareRecipe").nodeid, list(arguments)
        )
        (answer,) = await plc.client.uaclient.call([request])
        return answer.StatusCode.name, [one.name for one in answer.InputArgumentResults]

    async def plc() -> None:
        async with served.client() as plc:
            text = ua.Variant("first", ua.VariantType.String)
            assert (await refused(plc))[0] == "BadArgumentsMissing"
            assert (await refused(plc, text, text))[0] == "BadTooManyArguments"
            for wrong in (
                ua.Variant(1, ua.VariantType.Int32),
                ua.Variant(["first"], ua.VariantType.String),
                ua.Variant(None, ua.VariantType.String),
                ua.Variant(None, ua.VariantType.Null),
            ):
                assert await refused(plc, wrong) == ("BadInvalidArgument", ["BadTypeMismatch"])
            for name in ("third", "first 2", "../first"):
                unknown = ua.Variant(name, ua.VariantType.String)
                assert await refused(plc, unknown) == ("BadInvalidArgument", ["BadNotFound"])
            damaged = ua.Variant("damaged", ua.VariantType.String)
            assert (await refused(plc, damaged))[0] == "BadResourceUnavailable"
            assert served.line.state.product == ProductName("first", "1")

    asyncio.run(plc())


def test_parts_that_several_cameras_see(products: Products) -> None:
    async def plc(url: str, feed: Feed) -> None:
        async with Client(url, timeout=20) as client:
            plc = Plc(client, await client.get_namespace_index(NAMESPACE), "part")
            feed.publish(Inspection(time.time(), "top", "first", "1", {"verdict": "invalid", "path": "x", "frame": 0}))
            feed.publish(Inspection(time.time(), "side", "first", "1", {"verdict": "failed", "path": "y", "frame": 0}))
            await plc.becomes("Counts/Failed", 1)
            assert await plc.read(f"{RESULT}/PartId") == "part 1"
            assert await plc.read(f"{RESULT}/IsGood") is False
            parts.tell_source("side", False)
            await plc.becomes("Problem", parts.apart)
            assert await client.get_node(ua.NodeId("part", plc.namespace)).call_method(plc.node("Realign").nodeid) == 0
            await plc.becomes("Problem", "")
            assert parts.apart is None

    with (
        make_station(products) as station,
        PartFeed(station.feed, PartRule("part", ("top", "side"), by="count")) as parts,
        OpcUa(station, Endpoint("127.0.0.1", 0), parts) as server,
    ):
        asyncio.run(plc(server.url, station.feed))
