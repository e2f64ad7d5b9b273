"""Whether INT8 pays on a processor, and who says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from workplace import command_line

from rstpm_edge import cpu as processor
from rstpm_edge.cpu import advice, dot_products, limited_cores, usable_cores
from rstpm_edge.latency import measure_latency

Cpuinfo = Callable[[str], None]

ZEN4 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse avx2 avx512f avx512_vnni avx512_bf16\n"
HASWELL = "processor\t: 0\nmodel name\t: avx512_vnni in a name\nflags\t\t: fpu sse avx avx2 fma\n"
ALDER_LAKE = "flags\t\t: avx2 avx_vnni\n"
SAPPHIRE = "flags\t\t: avx512_vnni amx_tile amx_int8 avx_vnni\n"
RASPBERRY_5 = (
    "processor\t: 0\nFeatures\t: fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
)
RASPBERRY_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
GRAVITON_3 = "Features\t: fp asimd asimddp i8mm bf16\n"


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cpuinfo:
    """Makes Linux describe another processor."""

    def describe(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")

    return describe


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ZEN4, "avx512_vnni"),
        (HASWELL, None),
        (ALDER_LAKE, "avx_vnni"),
        (SAPPHIRE, "amx_int8"),
        (RASPBERRY_5, "asimddp"),
        (RASPBERRY_4, None),
        (GRAVITON_3, "i8mm"),
        ("", None),
    ],
)
def test_dot_products(cpuinfo: Cpuinfo, text: str, found: str | None) -> None:
    cpuinfo(text)
    assert dot_products() == found


def test_where_linux_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "missing")
    assert dot_products() is None


def test_no_more_cores_than_a_limit() -> None:
    cores = usable_cores()
    with limited_cores(1):
        assert usable_cores() == 1
        with limited_cores(9):
            assert usable_cores() == 1
    assert usable_cores() == cores


def test_advice(cpuinfo: Cpuinfo) -> None:
    cpuinfo(ZEN4)
    assert "(avx512_vnni): try `rstpm-edge export --int8`" in advice("fp32")
    assert "(avx512_vnni), for which INT8 is made" in advice("int8")
    assert "saves space, not time" in advice("fp16")
    cpuinfo(HASWELL)
    assert "no dot products" in advice("fp32")
    assert "`rstpm-edge export --int8`" not in advice("fp32")
    assert "compare with the FP32 file by `rstpm-edge bench`" in advice("int8")


def test_info_and_bench_say_it(cpuinfo: Cpuinfo, model: Path) -> None:
    cpuinfo(RASPBERRY_5)
    told = command_line("info", "--model", model)
    assert [line.split() for line in told.stdout.splitlines() if line.startswith("precision")] == [
        ["precision", "fp32"]
    ]
    assert advice("fp32") in told.stdout
    runtime = json.loads(command_line("info", "--model", model, "--json").stdout)["runtime"]
    assert (runtime["dot_products"], runtime["advice"]) == ("asimddp", advice("fp32"))
    assert advice("fp32") in command_line("bench", "--model", model, "--runs", "2").stdout
    result = measure_latency(model, runs=2)
    assert (result.precision, result.advice) == ("fp32", advice("fp32"))


def test_info_shows_what_the_precision_changed(model_factory: Callable[..., Path]) -> None:
    change = {"auroc": -0.0012, "false_rejects": 0.0, "score_shift": 0.0721}
    path = model_factory(precision="int8", precision_change=change)
    told = command_line("info", "--model", path).stdout
    assert "int8; against fp32: auroc -0.0012, false_rejects +0, score_shift +0.0721" in told
    facts = json.loads(command_line("info", "--model", path, "--json").stdout)
    assert (facts["precision"], facts["precision_change"]) == ("int8", change)
    assert ": test, int8, 64 x 64" in command_line("bench", "--model", path, "--runs", "2").stdout
