"""A camera of Aravis as it is typed."""

from __future__ import annotations

import pytest

from rstpm_edge.errors import UsageError
from rstpm_edge.sources.aravis.settings import AravisSettings, parse_settings


def test_a_name_alone() -> None:
    assert parse_settings("aravis:Basler-21234567") == AravisSettings("Basler-21234567")
    assert parse_settings("aravis:The Imaging Source Europe GmbH-1:2").name == "The Imaging Source Europe GmbH-1:2"
    assert parse_settings("aravis:").name == ""


def test_all_settings_in_any_order() -> None:
    typed = "aravis:10.0.0.7,trigger=Line1,BalanceWhiteAuto=Off,gain=0,exposure=5000.5,size=1920x1080,format=Mono12"
    assert parse_settings(typed + ",GevSCPSPacketSize=1500") == AravisSettings(
        "10.0.0.7",
        "Mono12",
        (1920, 1080),
        5000.5,
        0,
        None,
        "Line1",
        (("BalanceWhiteAuto", "Off"), ("GevSCPSPacketSize", "1500")),
    )
    assert parse_settings("aravis:a,trigger=Software,fps=2.5").trigger == "software"
    assert parse_settings("aravis:a,trigger=OFF,fps=2.5").rate == 2.5


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("a,exposure", r"^A camera of Aravis is aravis:NAME, and after it any of ,format=.*, not 'exposure'\.$"),
        ("a,", r", not ''\.$"),
        ("a,exposure=", r", not 'exposure='\.$"),
        ("a,shutter=5", r", not 'shutter'\.$"),
        ("a,gain=1,gain=2", r"^The camera aravis:a has gain twice\.$"),
        ("a,exposure=fast", r"^exposure is a number, such as 5000, not 'fast'\.$"),
        ("a,exposure=0", r"^exposure is more than 0\.$"),
        ("a,fps=0.0", r"^fps is more than 0\.$"),
        ("a,gain=-1", r"^gain is a number, such as 6, not '-1'\.$"),
        ("a,gain=1e3", r"^gain is a number"),
        ("a,size=640", r"^size is width and height in pixels, such as 1920x1080, not '640'\.$"),
        ("a,size=0x480", r"^size is width and height"),
        ("a,format=Mono 8", r"^format is a word, such as Mono8, as the camera calls it, not 'Mono 8'\.$"),
        ("a,trigger=Line 1", r"^trigger is a word, such as off, software or Line1, not 'Line 1'\.$"),
        ("a,UserSetSelector=Default Set", r"^The GenICam feature UserSetSelector takes a number or a word, not "),
        ("a,trigger=Line1,fps=3", r"^fps does not go with trigger=Line1: the signals on that line say when "),
        ("a\0b", r"; the name has a null byte\.$"),
    ],
)
def test_what_cannot_be(typed: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings(f"aravis:{typed}")
