"""From a camera to a PLC: a station that judges what Aravis' fake camera gives, unplugged and plugged in again."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from fake_camera import FakeCamera
from waiting import until
from workplace import running

pytestmark = [pytest.mark.aravis, pytest.mark.extra]

SAYS = re.compile(r"OPC UA on (opc\.tcp://\S+)")


def test_a_plc_sees_the_verdicts_of_a_camera_and_its_loss(model: Path, tmp_path: Path) -> None:
    async def becomes(client: Client, path: str, expected: Any) -> Any:
        node = client.get_node(ua.NodeId(f"line/{path}", await client.get_namespace_index("urn:rstpm-edge:station")))
        end = time.monotonic() + 60
        while True:
            found = await node.read_data_value(raise_on_bad_status=False)
            value = None if found.Value is None else found.Value.Value
            value = value.Text if isinstance(value, ua.LocalizedText) else value
            if value == expected or (callable(expected) and value is not None and expected(value)):
                return value
            assert time.monotonic() < end, value
            await asyncio.sleep(0.01)

    async def plc(url: str) -> None:
        async with Client(url, timeout=20) as client:
            await becomes(client, "VisionStateMachine/CurrentState", "Operational")
            part = await becomes(client, "ResultManagement/Results/LastResult/PartId", lambda value: value != "")
            assert part == f"{camera.source},fps=10"
            number = await becomes(client, "ResultManagement/Results/LastResult/ResultId", lambda value: value != "")
            camera.unplug()
            await becomes(client, "VisionStateMachine/CurrentState", "Error")
            await becomes(client, "Problem", f"{camera.source},fps=10 is lost; trying to get it back.")
            camera.plug_in()
            await becomes(client, "VisionStateMachine/CurrentState", "Operational")
            await becomes(
                client, "ResultManagement/Results/LastResult/ResultId", lambda value: int(value) > int(number)
            )

    log = tmp_path / "log"
    with FakeCamera() as camera, open(log, "w") as errors:
        arguments = [
            "serve",
            f"{camera.source},fps=10",
            "--model",
            model,
            "--port",
            0,
            "--opcua",
            "opc.tcp://127.0.0.1:0",
        ]
        with running(*arguments, stdout=subprocess.DEVNULL, stderr=errors) as process:
            until(lambda: "Serving on" in log.read_text(), 60)
            url = SAYS.search(log.read_text())
            assert url is not None
            asyncio.run(plc(url[1]))
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
