"""Students, gates, distances and statistics: shapes, formulas, and the same numbers in two processes as in one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rstpm_edge.training.model.attention_gate import AttentionGate
from rstpm_edge.training.model.distances import CosineDistance, NormalizedResidual, make_distance
from rstpm_edge.training.model.layers import BatchNorm, ResidualBlock, synchronize_batch_norm
from rstpm_edge.training.model.presets import EDGE, PAPER, Preset
from rstpm_edge.training.model.rstpm import RSTPM, ChannelStatistics, Normalization
from rstpm_edge.training.model.students import (
    BackboneStudent,
    EdgeReconstructionStudent,
    EdgeStudent,
    PaperReconstructionStudent,
)
from rstpm_edge.training.model.teachers import load_teacher

RANDOM = {name: "random" for preset in (EDGE, PAPER) for name in (preset.teacher1, preset.teacher2)}
HEIGHT, WIDTH = 64, 96


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pyramid(channels: tuple[int, ...], strides: tuple[int, ...]) -> list[Tensor]:
    return [draw(2, c, HEIGHT // s, WIDTH // s, seed=s) for c, s in zip(channels, strides, strict=True)]


def shapes(features: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(feature.shape) for feature in features]


def randomize(module: nn.Module) -> None:
    """Weights and statistics that are not the neutral ones of a new batch normalisation."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor)
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_var, 0.5, 2)


# Shapes


@pytest.mark.parametrize("strides", [(8, 16, 32), (4, 8, 16)])
def test_edge_students(strides: tuple[int, int, int]) -> None:
    channels = (40, 112, 320)
    expected = shapes(pyramid(channels, strides))
    from_image = EdgeStudent(3, 1, channels, strides, (16, 16, 24, 32, 48), (1, 1, 1))
    assert shapes(from_image(draw(2, 3, HEIGHT, WIDTH))) == expected
    student2 = EdgeReconstructionStudent(320, channels, strides, EDGE.student2_widths, EDGE.student2_blocks, 32)
    deep = draw(2, 320, HEIGHT // 32, WIDTH // 32)
    assert shapes(student2(deep, pyramid(channels, strides))) == expected
    assert list(student2.gates) == [str(stride) for stride in strides[:0:-1]]


def test_an_edge_student_from_its_teachers_stem() -> None:
    student = EdgeStudent(24, 4, (40, 112, 320), EDGE.strides, EDGE.student1_widths, EDGE.student1_blocks)
    assert shapes(student(draw(2, 24, HEIGHT // 4, WIDTH // 4))) == shapes(pyramid((40, 112, 320), EDGE.strides))
    assert list(student.stages) == list(student.projections) == ["8", "16", "32"]


def test_paper_students() -> None:
    strides = (4, 8, 16)
    expected = shapes(pyramid((64, 128, 256), strides))
    assert shapes(BackboneStudent("resnet18", strides)(draw(2, 3, HEIGHT, WIDTH))) == expected
    student2 = PaperReconstructionStudent(512, (16, 32, 64), strides).eval()  # a sixteenth of its width
    deep = draw(2, 512, HEIGHT // 32, WIDTH // 32)
    assert shapes(student2(deep, pyramid((16, 32, 64), strides))) == shapes(pyramid((16, 32, 64), strides))
    assert [gate.skip for gate in student2.gates.values()] == [False, True]


@pytest.mark.parametrize("preset", [EDGE, PAPER], ids=lambda preset: preset.name)
def test_every_trained_parameter_gets_a_gradient(preset: Preset) -> None:
    torch.manual_seed(0)
    if preset is EDGE:
        student1: nn.Module = EdgeStudent(
            24, 4, (40, 112, 320), EDGE.strides, EDGE.student1_widths, EDGE.student1_blocks
        )
        student2: nn.Module = EdgeReconstructionStudent(
            320, (40, 112, 320), EDGE.strides, EDGE.student2_widths, EDGE.student2_blocks, 32
        )
        source, deep, targets = draw(2, 24, 16, 24), draw(2, 320, 2, 3), pyramid((40, 112, 320), EDGE.strides)
    else:
        student1 = BackboneStudent("resnet18", PAPER.strides)
        student2 = PaperReconstructionStudent(512, (16, 32, 64), PAPER.strides)
        source, deep, targets = draw(2, 3, HEIGHT, WIDTH), draw(2, 512, 2, 3), pyramid((16, 32, 64), PAPER.strides)
    outputs = [*student1(source), *student2(deep, targets)]
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    trained = [p for student in (student1, student2) for p in student.parameters() if p.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


def test_the_papers_student_1_is_new_at_every_seed_and_never_its_teacher() -> None:
    teacher = load_teacher("resnet18", PAPER.strides, RANDOM).backbone
    students = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        students.append(BackboneStudent("resnet18", PAPER.strides).backbone)
    first, again, other = (student.state_dict()["conv1.weight"] for student in students)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, teacher.state_dict()["conv1.weight"])
    for name, value in students[0].state_dict().items():  # finding out what is used has left no trace
        if "running_mean" in name:
            assert not value.any()
        if "running_var" in name:
            assert bool((value == 1).all())


def test_the_papers_four_networks_have_123_million_parameters() -> None:
    with torch.device("meta"):
        student2 = PaperReconstructionStudent(512, (256, 512, 1024), PAPER.strides)
    count = sum(parameter.numel() for parameter in student2.parameters())
    student1 = BackboneStudent("resnet18", PAPER.strides)
    count += sum(parameter.numel() for parameter in student1.parameters() if parameter.requires_grad)
    used = {"resnet18": ("layer1", "layer2", "layer3", "layer4"), "resnet50": ("layer1", "layer2", "layer3")}
    for name, layers in used.items():
        for part, module in load_teacher(name, PAPER.strides, RANDOM).backbone.named_children():
            if part in ("conv1", "bn1", *layers):
                count += sum(parameter.numel() for parameter in module.parameters())
    assert count == pytest.approx(123e6, rel=0.01)


# Gates


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_gate_scales_each_position(skip: bool, kernel: int) -> None:
    torch.manual_seed(0)
    gate = AttentionGate(5, 4, kernel, skip=skip).eval()
    randomize(gate)
    x, teacher = draw(2, 7, 6, 8), draw(2, 5, 6, 8, seed=1)
    convolution, norm, _ = gate.reduce
    hidden = functional.conv2d(teacher, convolution.weight, padding=kernel // 2)
    hidden = (hidden - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    hidden = (hidden * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    score = functional.conv2d(hidden, gate.score.weight, gate.score.bias)
    attention = 1 / (1 + (-score).exp())
    assert attention.shape == (2, 1, 6, 8)
    assert attention.std() > 0.01
    torch.testing.assert_close(gate(x, teacher), x * attention + x if skip else x * attention)


def test_gates_change_what_comes_after_them_only() -> None:
    torch.manual_seed(0)
    channels, strides = (40, 112, 320), EDGE.strides
    student = EdgeReconstructionStudent(320, channels, strides, EDGE.student2_widths, EDGE.student2_blocks, 32).eval()
    deep, teacher = draw(2, 320, 2, 3), pyramid(channels, strides)
    before = student(deep, teacher)
    other = [teacher[0] + 1, teacher[1] + 1, teacher[2]]  # stride 8 has no gate, stride 16 has
    after = student(deep, other)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[2], after[2])
    assert all(map(torch.equal, student(deep, [teacher[0] + 1, *teacher[1:]]), before))


def test_a_residual_block() -> None:
    torch.manual_seed(0)
    x = draw(2, 3, 5, 6)
    for final_relu in (False, True):
        block = ResidualBlock(3, final_relu=final_relu, projected_skip=True).eval()
        randomize(block)
        y = block.skip(x) + block.body(x)
        assert float(y.min().detach()) < 0
        torch.testing.assert_close(block(x), y.clamp(min=0) if final_relu else y)


# Distance and statistics


def test_the_cosine_distance_is_half_the_squared_distance_of_normalised_features() -> None:
    student, teacher = draw(2, 7, 5, 6) * 3, draw(2, 7, 5, 6, seed=1) + 0.5
    distance = CosineDistance()(student, teacher)
    n = functional.normalize
    torch.testing.assert_close(distance, 0.5 * (n(student) - n(teacher)).square().sum(1))
    torch.testing.assert_close(distance, 1 - functional.cosine_similarity(student, teacher))
    torch.testing.assert_close(CosineDistance()(student * 9, teacher / 9), distance)


def test_extremes_of_the_cosine_distance() -> None:
    x = draw(1, 4, 3, 3)
    torch.testing.assert_close(CosineDistance()(x, x), torch.zeros(1, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(CosineDistance()(x, -x), torch.full((1, 3, 3), 2.0))
    zero = torch.zeros_like(x).requires_grad_()
    distance = CosineDistance()(zero, x)
    torch.testing.assert_close(distance, torch.ones(1, 3, 3))
    distance.sum().backward()
    assert zero.grad is not None
    assert bool(zero.grad.isfinite().all())
    torch.testing.assert_close(CosineDistance().loss(x, -x), torch.tensor(2.0))


def test_the_paper_is_measured_by_angles_and_the_edge_preset_by_normalized_residuals() -> None:
    assert type(make_distance(PAPER, 3, is_coarsest=True)) is CosineDistance
    assert type(make_distance(EDGE, 3, is_coarsest=False)) is NormalizedResidual


def test_channel_statistics_standardise() -> None:
    levels = [draw(50, 3, 8, 9) * torch.tensor([1.0, 10, 0.1])[:, None, None] + 5, draw(50, 2, 4, 4, seed=1)]
    statistics = ChannelStatistics((3, 2))
    for level, feature in enumerate(levels):
        statistics.set(level, feature.mean((0, 2, 3)), feature.std((0, 2, 3)))
    for feature in statistics(levels):
        torch.testing.assert_close(feature.mean((0, 2, 3)), torch.zeros(feature.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(feature.std((0, 2, 3)), torch.ones(feature.shape[1]), atol=1e-4, rtol=0)
    assert len(statistics.state_dict()) == 4


def test_a_channel_that_never_varies_keeps_its_scale() -> None:
    statistics = ChannelStatistics((2,))
    statistics.set(0, torch.tensor([3.0, 0.0]), torch.tensor([0.0, 2.0]))
    (feature,) = statistics([torch.tensor([5.0, 5.0])[None, :, None, None]])
    assert feature.flatten().tolist() == [2.0, 2.5]


def test_without_channels_nothing_is_standardised() -> None:
    features = [draw(1, 3, 2, 2)]
    statistics = ChannelStatistics(())
    assert torch.equal(statistics(features)[0], features[0])
    assert not statistics.state_dict()


def test_normalisation_is_that_of_the_teacher() -> None:
    teacher = load_teacher("resnet18", PAPER.strides, RANDOM)
    image = torch.randint(0, 256, (1, 3, 4, 5)).float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (teacher.mean, teacher.std))
    torch.testing.assert_close(Normalization(teacher)(image), (image / 255 - mean) / std, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"teacher2_shrink": 1, "shared_stem": None}, {"teacher1_shrink": 2}],
    ids=["preset", "plain", "both reduced"],
)
def test_the_maps_of_a_whole_model(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    preset = dataclasses.replace(EDGE, **changes)
    if preset.shared_stem is None:
        preset = dataclasses.replace(preset, student1_widths=(16, 16, 24, 32, 48))
    model = RSTPM(preset).eval()
    for distance in model.distances:  # each level's own, so that none can stand for another's
        assert isinstance(distance, NormalizedResidual)
        for values in (distance.prediction.weight, distance.prediction.bias, distance.contrast_weight, distance.offset):
            assert isinstance(values, torch.Tensor)
            values.data.normal_(0, 0.05)
        distance.scale.uniform_(0.5, 1.5)
    height, width = 64, 128
    image = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    pixels = image.permute(0, 3, 1, 2).float()
    halved = pixels.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    seen1, seen2 = (halved if shrink == 2 else pixels for shrink in (preset.teacher1_shrink, preset.teacher2_shrink))
    with torch.no_grad():
        *maps, embedding = model(image)
        raw1, raw2 = model.teacher1(model.normalize1(seen1)), model.teacher2(model.normalize2(seen2))
        if preset.shared_stem is None:
            source, targets = model.normalize1(pixels), [*raw1, *raw2]
        else:
            source, targets = raw1[0], [*raw1[1:], *raw2]
        if preset.teacher1_shrink == 2:  # the deepest feature is no level
            targets = [*raw1[1:-1], *raw2]
        students = model.students(source, raw1[-1], raw2)
        alone, (together, _) = model.teacher1_alone(image), model.teachers(image)
    torch.testing.assert_close(alone, together, rtol=0, atol=0)
    assert raw1[-1].shape == (2, 320, height // 32 // preset.teacher1_shrink, width // 32 // preset.teacher1_shrink)
    assert model.map_names == ("stpm_8", "stpm_16", "stpm_32", "recon_8", "recon_16", "recon_32")
    errors, angles = (f"{name}_error" for name in model.map_names), ("stpm_32_angle", "recon_32_angle")
    assert model.output_names == (*model.map_names, *errors, *angles, "head_8")
    assert shapes(maps) == [(2, height // s, width // s) for s in (*EDGE.strides * 4, 32, 32, 8)]
    torch.testing.assert_close(embedding, targets[1].clamp(-1, 1).mean((2, 3)))
    by_name = dict(zip(model.output_names, maps, strict=True))
    for name, distance, student, teacher in zip(model.map_names, model.distances, students, targets, strict=True):
        assert isinstance(distance, NormalizedResidual)
        found = distance(student, teacher)
        for kind, expected in (("", found.anomaly), ("_error", found.error), ("_angle", found.angle)):
            assert (expected is None) == (name + kind not in by_name)
            if expected is not None:
                torch.testing.assert_close(by_name[name + kind], expected[:, 0], atol=1e-5, rtol=1e-5)


# Batch normalisation over processes


def test_batch_norm_alone_is_pytorchs() -> None:
    own, reference = BatchNorm(3), nn.BatchNorm2d(3)
    for _ in range(2):
        x = draw(4, 3, 5, 6) * 2 + 1
        torch.testing.assert_close(own(x), reference(x))
    torch.testing.assert_close(dict(own.state_dict()), dict(reference.state_dict()))
    assert torch.equal(own.eval()(x), reference.eval()(x))


def test_synchronising_keeps_the_values() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, 1e-4, 0.2)), BatchNorm(4))
    randomize(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    synchronize_batch_norm(network)
    replaced = network[1][0]
    assert type(replaced) is BatchNorm
    assert (replaced.eps, replaced.momentum) == (1e-4, 0.2)
    torch.testing.assert_close(dict(network.state_dict()), before, atol=0, rtol=0)


PROCESS = """
import sys
import torch
import torch.distributed as dist
from rstpm_edge.training.model.layers import BatchNorm

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
norm = BatchNorm(3)
norm.load_state_dict(given["state"])
rows = slice(0, 3) if rank == 0 else slice(3, 5)  # unequal parts
x = given["x"][rows].requires_grad_()
y = norm(x)
y.backward(given["slope"][rows])
found = {"y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "state": norm.state_dict()}
norm.eval()
found["eval"] = norm(x).detach()
torch.save(found, f"{folder}/found_{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_normalise_as_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = nn.BatchNorm2d(3)
    randomize(reference)
    x, slope = draw(5, 3, 4, 6) * 3 + 2, draw(5, 3, 4, 6, seed=1)
    torch.save({"state": reference.state_dict(), "x": x, "slope": slope}, tmp_path / "given.pt")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS, str(rank), str(tmp_path)],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    found = [torch.load(tmp_path / f"found_{rank}.pt", weights_only=True) for rank in range(2)]

    x.requires_grad_()
    y = reference(x)
    y.backward(slope)
    state = dict(reference.state_dict())
    evaluated = reference.eval()(x).detach()
    for name, whole in {"y": y.detach(), "x": x.grad, "eval": evaluated}.items():
        torch.testing.assert_close(torch.cat([part[name] for part in found]), whole, atol=1e-5, rtol=1e-5)
    for name, parameter in reference.named_parameters():  # each process has its share: data-parallel training adds
        torch.testing.assert_close(found[0][name] + found[1][name], parameter.grad, atol=1e-5, rtol=1e-5)
    for part in found:
        torch.testing.assert_close(dict(part["state"]), state, atol=1e-5, rtol=1e-5)


# Without attention


@pytest.mark.parametrize("preset", [EDGE, PAPER], ids=lambda preset: preset.name)
def test_without_attention_there_are_no_gates_and_the_teacher_is_not_looked_at(preset: Preset) -> None:
    torch.manual_seed(0)
    strides, channels = preset.strides, (16, 32, 64)
    if preset is EDGE:
        student: nn.Module = EdgeReconstructionStudent(
            320, channels, strides, EDGE.student2_widths, EDGE.student2_blocks, 32, attention=False
        )
    else:
        student = PaperReconstructionStudent(320, channels, strides, attention=False)
    assert not any("gate" in name for name, _ in student.named_parameters())
    assert not any(isinstance(module, AttentionGate) for module in student.modules())
    deep, teacher = draw(2, 320, HEIGHT // 32, WIDTH // 32), pyramid(channels, strides)
    outputs = student.eval()(deep, teacher)
    assert shapes(outputs) == shapes(teacher)
    for output, other in zip(outputs, student(deep, [torch.zeros_like(level) for level in teacher]), strict=True):
        torch.testing.assert_close(output, other, rtol=0, atol=0)
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
