"""Aravis' own camera that is none: a GigE Vision camera on a loopback address, in a process of its own."""

from __future__ import annotations

import subprocess
import time

from rstpm_edge.sources.aravis.binding import AravisError, load_aravis

PROGRAM = "arv-fake-gv-camera-0.8"


class FakeCamera:
    """The camera, which may be unplugged and plugged in. It loses `lost` of 1000 packets.

    There can be one at a time, since it takes the port of all GigE Vision cameras, and no address but that of an
    interface. Where there are other interfaces, Aravis finds it by its name there, but gets frames by the address only.
    """

    address = "127.0.0.1"
    source = f"aravis:{address}"

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FakeCamera:
        self.plug_in()
        return self

    def __exit__(self, *exception: object) -> None:
        self.unplug()

    def plug_in(self) -> None:
        """Start it, and wait until it answers."""
        command = [PROGRAM, "-i", self.address, "-s", "TEST", "-r", str(self.lost)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        aravis, end = load_aravis(), time.monotonic() + 10
        while True:
            try:
                aravis.call("g_object_unref", aravis.call("arv_camera_new", self.address.encode()))
                return
            except AravisError:
                assert time.monotonic() < end
                assert self.process.poll() is None

    def unplug(self) -> None:
        """As if its cable were pulled out: it says no word more."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
