"""Auditing a set of photos: what should not be learned from is named with its reason, and nothing is moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import Result
from encoded import encode
from numpy.typing import NDArray
from workplace import command_line, document

from rstpm_edge.errors import DatasetError, UsageError
from rstpm_edge.image.duplicates import find_duplicates, fingerprint
from rstpm_edge.training.audit.audit import MINIMUM_IMAGES, audit
from rstpm_edge.training.audit.contact_sheet import CELLS, draw_sheet
from rstpm_edge.training.audit.image_quality import judge_quality, measure_quality, robust_z
from rstpm_edge.training.audit.outliers import PhotoDistances, Ranking, compare_photos, ranking_of
from rstpm_edge.training.demo.part import write_dataset

SIZE = (128, 128)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four good rendered parts, MVTec AD layout."""
    folder = tmp_path_factory.mktemp("clean")
    write_dataset(folder, train=24, test_good=1, test_per_kind=1, size=SIZE)
    return folder


@pytest.fixture
def mixed(clean: Path, tmp_path: Path) -> Path:
    """A flat folder of them with one of each thing that an audit must find; what each is stands in its name."""
    folder = tmp_path / "good"
    shutil.copytree(clean / "train" / "good", folder)
    first, *others = sorted(folder.iterdir())
    image = read(others[5])
    shutil.copy(first, folder / "x_copy.png")
    write(folder / "x_again.jpg", read(others[0]))
    write(folder / "x_blurred.png", cv2.GaussianBlur(read(others[2]), (0, 0), 3))
    write(folder / "x_bright.png", np.clip(read(others[3]) * 2.2, 0, 255).astype(np.uint8))
    write(folder / "x_cut.png", read(others[4])[:90])
    (folder / "x_empty.png").write_bytes(b"")
    jpeg = encode(".jpg", read(others[6]))
    (folder / "x_lacking.jpg").write_bytes(jpeg[: len(jpeg) // 2] + jpeg[len(jpeg) // 2 + 400 :])
    image[40:80, 40:80] = image[40:80, 40:80][::-1, :, ::-1] // 2  # a stain
    write(folder / "x_stain.png", image)
    return folder


def test_photos_in_folders_below(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    shutil.copytree(clean / "train" / "good", folder / "monday")
    first, second, *_ = sorted((folder / "monday").iterdir())
    (folder / "tuesday").mkdir()
    shutil.copy(first, folder / "tuesday" / second.name)
    with pytest.raises(DatasetError, match="holds 0 image"):
        audit(folder, size=SIZE)
    found = audit(folder, below=True, size=SIZE)
    assert (found.folder, found.images, found.left_out) == (folder, 25, ())
    (copy,) = [one for one in found.named if one.twin is not None]
    assert found.name(copy.path) == f"tuesday/{second.name}"
    assert copy.remarks[0].text == f"a copy of monday/{first.name}"


def read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image, np.uint8)


def write(path: Path, image: Any) -> None:
    assert cv2.imwrite(str(path), image)


def kinds(found: Any, name: str) -> set[str]:
    return {remark.kind for one in found.named if one.path.name == name for remark in one.remarks}


def sentence(result: Result) -> str:
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert lines[0] == result.stderr.splitlines()[-1]
    return lines[0].removeprefix("Error: ")


# As a user types it


def test_everything_is_named_and_nothing_moved(mixed: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in mixed.iterdir()}
    sheet, file = tmp_path / "sheet.png", tmp_path / "found.json"
    result = command_line("audit", mixed, "-o", sheet, "--json", file, "--size", 128)
    assert result.exit_code == 3  # two cannot be read
    assert {path.name: path.read_bytes() for path in mixed.iterdir()} == before

    found = document(file)
    kinds_of = {Path(one["path"]).name: {remark["kind"] for remark in one["remarks"]} for one in found["named"]}
    assert "copy" in kinds_of["x_copy.png"]
    assert "duplicate" in kinds_of["x_again.jpg"]
    assert "blurred" in kinds_of["x_blurred.png"]
    assert "exposure" in kinds_of["x_bright.png"]
    assert "size" in kinds_of["x_cut.png"]
    assert kinds_of["x_empty.png"] == {"unreadable"}
    assert "unusual" in kinds_of["x_stain.png"]
    twins = {Path(one["path"]).name: one["copy_of"] for one in found["named"] if one["copy_of"]}
    assert set(twins) == {"x_copy.png", "x_again.jpg"}
    assert Path(twins["x_copy.png"]).name == sorted(before)[0]
    assert kinds_of["x_lacking.jpg"] == {"unreadable"}
    assert (found["images"], found["readable"]) == (len(before), len(before) - 2)
    assert found["suspicious"] == sum(one["suspicious"] for one in found["named"])
    assert len(found["scores"]) == found["readable"]
    ranked = [one["score"] for one in found["named"] if one["rank"] is not None]
    assert len(ranked) == 10
    assert ranked == sorted(ranked, reverse=True)

    for one in found["named"]:  # one line each, with the reason
        (line,) = [line for line in result.stdout.splitlines() if f"{Path(one['path']).name} " in line[:40]]
        assert one["remarks"][0]["text"] in line
    last = result.stdout.splitlines()[-1]
    assert last == f"Look at {sheet}, move what is bad out of {mixed}, and then: rstpm-edge train {mixed}"
    picture = read(sheet)
    assert picture.std() > 20
    assert picture.shape[0] > 5 * 200


def test_a_clean_set_has_few_false_alarms(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = command_line("audit", clean, "--size", 128, "--most", 3, "--json", "found.json")
    found = document(tmp_path / "found.json")
    assert result.exit_code == int(found["suspicious"] > 0)
    assert found["suspicious"] <= 1
    assert [len(one["remarks"]) for one in found["named"]] == [1, 1, 1]
    assert {remark["kind"] for one in found["named"] for remark in one["remarks"]} == {"unusual"}
    assert all("train/good" in one["path"] for one in found["named"])
    assert {path.name for path in tmp_path.iterdir()} == {"audit.jpg", "found.json"}
    assert read(tmp_path / "audit.jpg").size


def test_where_it_is_unusual_is_in_pixels_of_the_photo(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    shutil.copytree(clean / "train" / "good", folder)
    image = read(folder / "003.png")
    image[80:112, 8:40] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    write(folder / "003.png", image)
    roi = (0, 32, 128, 96)
    for options in ({}, {"roi": roi}, {"resize": "letterbox", "roi": roi}):
        found = audit(folder, size=SIZE, **options)  # type: ignore[arg-type]
        (one,) = [one for one in found.named if one.rank == 1]
        assert one.path.name == "003.png"
        assert one.suspicious
        assert one.position is not None
        assert np.abs(np.subtract(one.position, (24, 96))).max() < 32
        assert draw_sheet(found).shape[2] == 3


# Mistakes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-o", "sheet.txt"], "-o names a picture, .jpg, .jpeg or .png, not sheet.txt."),
        (["-o", "missing/sheet.png"], "Cannot write missing/sheet.png: there is no folder missing."),
        (["--json", "missing/f.json"], "Cannot write missing/f.json: there is no folder missing."),
        (["-o", "a.png", "--json", "a.png"], "--json does not write a picture: give it a name other than a.png."),
        (["--size", "100"], "The input size 100x100 does not work"),
        (["--roi", "1,2"], "--roi is x,y,width,height"),
        (["--weights", "foo=bar"], "--weights names foo, but the teachers are"),
        (["--weights", "tf_efficientnet_lite0=none.pth"], "Cannot read the weights none.pth"),
    ],
)
def test_wrong_options(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence(command_line("audit", clean, *options)).startswith(says)
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_among_the_photos_would_be_learned_from(clean: Path) -> None:
    source = clean / "train" / "good"
    for data, sheet in ((source, source / "audit.jpg"), (clean, source / "audit.jpg")):
        said = sentence(command_line("audit", data, "-o", sheet))
        assert said == f"{sheet} would lie among the photos and be learned from; name another place with -o."
        assert not sheet.exists()


def test_too_few_photos(clean: Path, tmp_path: Path) -> None:
    empty, few = tmp_path / "empty", tmp_path / "few"
    empty.mkdir()
    few.mkdir()
    out = ["-o", tmp_path / "sheet.png"]
    assert sentence(command_line("audit", empty, *out)).startswith(f"{empty} holds 0 image(s)")
    assert sentence(command_line("audit", tmp_path / "none", *out)).endswith("is missing; give a folder of images.")
    for path in sorted((clean / "train" / "good").iterdir())[: MINIMUM_IMAGES - 1]:
        shutil.copy(path, few)
    said = sentence(command_line("audit", few, *out))
    assert said == f"9 of the 9 images in {few} can be read, and an audit needs at least 10 to say what is usual."
    (few / "x.png").write_bytes(b"no image")
    said = sentence(command_line("audit", few, *out))
    assert said.startswith(f"9 of the 10 images in {few} can be read, and an audit needs at least 10 to say what is")
    assert f"Cannot read {few / 'x.png'}" in said
    with pytest.raises(UsageError, match="`most` must be at least 1"):
        audit(clean, most=0)
    with pytest.raises(DatasetError, match="reaches beyond"):
        audit(clean, size=SIZE, roi=(0, 0, 4000, 10))


def test_copies_of_a_few_photos_are_named_but_not_compared(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for i, path in enumerate(sorted((clean / "train" / "good").iterdir())[:4]):
        for j in range(3):
            shutil.copy(path, folder / f"{i}{j}.png")
    result = command_line("audit", folder, "-o", tmp_path / "sheet.png", "--json", tmp_path / "f.json", "--size", 128)
    assert result.exit_code == 1
    assert "There are too few different photos to compare them with each other." in result.stdout
    found = document(tmp_path / "f.json")
    assert [one["rank"] for one in found["named"]] == [None] * 8
    assert found["scores"] is None
    assert json.dumps(found)


# Unlike all others


def test_an_image_is_never_compared_with_itself_or_its_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(12, 4, 64, generator=generator), dim=2)
    features[7] = features[3]
    apart = compare_photos(features, np.arange(12)).distances
    assert apart[3].max() < 0.5  # as the mean of its copy, at distance 0, and one more
    groups = np.arange(12)
    groups[7] = 3
    comparison = compare_photos(features, groups)
    together = comparison.distances
    np.testing.assert_array_equal(comparison.bank, np.delete(np.arange(12), 7))  # once is enough
    for row in (3, 7):
        assert np.isinf(comparison.apart[row, 3])
        assert np.isfinite(np.delete(comparison.apart[row], 3)).all()
    assert together[3].min() > 0.5
    others = [i for i in range(12) if i not in (3, 7)]
    for place in range(4):  # by hand
        similar = torch.stack([(features[i] @ features[3, place]).max() for i in others]).sort().values
        assert together[3, place] == pytest.approx(float(1 - similar[-2:].mean()), abs=1e-5)
    whole = 1 - torch.stack([(features[5] @ features[3, place]).max() for place in range(4)]).mean()
    assert comparison.apart[3, 5] == pytest.approx(float(whole), abs=1e-5)


def test_a_photo_and_its_copy_are_one_witness() -> None:
    features = torch.nn.functional.normalize(torch.randn(12, 4, 64, generator=torch.Generator().manual_seed(0)), dim=2)
    features[3] = features[7]  # both show the same rare thing
    alone = compare_photos(features, np.arange(12)).distances[3]
    features = torch.cat([features, features[7:8]])  # and one of them was photographed twice
    groups = np.array([*range(12), 7])
    np.testing.assert_allclose(compare_photos(features, groups).distances[3], alone, atol=1e-6)
    assert compare_photos(features, np.arange(13)).distances[3].max() < alone.min()


def test_many_places_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from rstpm_edge.training.audit import outliers

    features = torch.nn.functional.normalize(torch.randn(11, 9, 16, generator=torch.Generator().manual_seed(1)), dim=2)
    whole = compare_photos(features, np.arange(11))
    monkeypatch.setattr(outliers, "SIMILARITIES", 200)
    parts = compare_photos(features, np.arange(11))
    np.testing.assert_allclose(parts.distances, whole.distances, atol=1e-6)
    np.testing.assert_allclose(parts.apart, whole.apart, atol=1e-6)
    monkeypatch.setattr(outliers, "BANK", 5)
    sampled = compare_photos(features, np.arange(11))
    assert (sampled.distances >= whole.distances - 1e-6).all()  # fewer to choose from: never nearer
    np.testing.assert_allclose(sampled.apart, whole.apart[:, sampled.bank], atol=1e-6)


def ranked(distances: Any, grid: tuple[int, int], plain: Any = None, groups: Any = None) -> Ranking:
    """The ranking of images that are all alike as a whole; those of one of the `groups` more so."""
    count = len(distances)
    groups = np.zeros(count) if groups is None else groups
    apart = np.where(groups[:, None] == groups, 0.1, 0.5).astype(np.float32)
    np.fill_diagonal(apart, np.inf)
    plain = np.ones(count, np.bool_) if plain is None else plain
    return ranking_of(PhotoDistances(distances, apart, np.arange(count)), grid, plain)


def test_the_outlier_of_a_set_is_not_expected_in_it() -> None:
    rng = np.random.default_rng(0)
    distances = rng.gamma(20, 0.02, (200, 64)).astype(np.float32)
    calm = ranked(distances, (8, 8))
    assert calm.expected.min() > 0.05
    distances[11, 20:24] += 1
    ranking = ranked(distances, (8, 8))
    assert ranking.order()[0] == 11
    assert ranking.expected[11] < 1e-3
    assert ranking.maps[11].argmax() in range(20, 24)
    assert ranking.maps.shape == (200, 8, 8)


def test_where_images_always_differ_a_difference_is_usual() -> None:
    distances = np.full((50, 16), 0.2, np.float32) + np.random.default_rng(0).normal(0, 0.005, (50, 16)).astype("f4")
    distances[:, 0] += np.random.default_rng(1).uniform(0, 0.4, 50).astype("f4")  # an edge
    distances[7, 9] += 0.25
    distances[8, 0] = 0.55
    ranking = ranked(distances, (4, 4))
    assert ranking.order()[0] == 7


def test_a_photo_that_is_odd_all_over_hides_no_scratch() -> None:
    distances = np.full((40, 16), 0.2, np.float32) + np.random.default_rng(0).normal(0, 0.01, (40, 16)).astype("f4")
    distances[:3] += 0.5
    distances[20, 4] += 0.1
    plain = np.arange(40) > 2
    ranking = ranked(distances, (4, 4), plain)
    assert sorted(ranking.order()[:3]) == [0, 1, 2]
    assert ranking.order()[3] == 20
    assert ranking.scores[20] > 5 * ranked(distances, (4, 4)).scores[20]


def test_what_is_usual_under_one_light_hides_nothing_under_another() -> None:
    distances = np.full((60, 16), 0.1, np.float32) + np.random.default_rng(0).normal(0, 0.005, (60, 16)).astype("f4")
    light = np.arange(60) % 3
    distances[light == 2] += 0.3  # differs more from photo to photo
    distances[12, 5] += 0.15  # under light 0
    assert ranked(distances, (4, 4), groups=light).order()[0] == 12
    assert ranked(distances, (4, 4)).order()[0] != 12


def test_hardly_any_plain_photo_among_those_compared_with() -> None:
    distances = np.random.default_rng(0).gamma(20, 0.02, (40, 16)).astype(np.float32)
    for count in (0, 1, 2):  # an image says nothing of itself: one of one would have nothing beside it
        ranking = ranked(distances, (4, 4), plain=np.arange(40) < count)
        np.testing.assert_array_equal(ranking.maps, ranked(distances, (4, 4)).maps)


def test_a_set_without_differences() -> None:
    ranking = ranked(np.zeros((12, 4), np.float32), (2, 2))
    assert np.isfinite(ranking.expected).all()
    assert not ranking.scores.any()


# Double


def textured(count: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)
    return np.stack([cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC) for image in coarse])


def duplicates_of(images: Any) -> list[tuple[tuple[int, ...], bool]]:
    return [(group.rows, group.exact) for group in find_duplicates([fingerprint(i) for i in images], images)]


@pytest.mark.parametrize("change", ["jpeg", "brighter", "smaller", "noise"])
def test_a_photo_that_was_saved_again_is_found(change: str) -> None:
    images = textured(12)
    again = images[4]
    if change == "jpeg":
        again = np.asarray(cv2.imdecode(cv2.imencode(".jpg", again, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], 1), np.uint8)
    elif change == "brighter":
        again = np.clip(again * 1.1, 0, 255).astype(np.uint8)
    elif change == "smaller":
        again = np.asarray(
            cv2.resize(cv2.resize(again, (150, 150), interpolation=cv2.INTER_AREA), (256, 256)), np.uint8
        )
    else:
        again = np.clip(again + np.random.default_rng(1).normal(0, 3, again.shape), 0, 255).astype(np.uint8)
    assert duplicates_of(np.concatenate([images, again[None]])) == [((4, 12), False)]


def test_copies_are_exact_and_strangers_are_none() -> None:
    images = textured(12)
    assert duplicates_of(images) == []
    assert duplicates_of(np.concatenate([images, images[[2, 2, 5]]])) == [((2, 12, 13), True), ((5, 14), True)]
    blank = np.full((5, 256, 256, 3), [[[[9]]], [[[60]]], [[[90]]], [[[140]]], [[[200]]]], np.uint8)
    assert duplicates_of(blank) == []  # nothing to see on them, but not the same pixels


def test_parts_that_lie_alike_are_no_copies() -> None:
    view = textured(1)[0].astype(float)
    images = [np.clip(view * 0.5 + 60 + np.random.default_rng(i).normal(0, 9, view.shape), 0, 255) for i in range(12)]
    stacked = np.array(images).astype(np.uint8)
    assert duplicates_of(stacked) == []
    assert duplicates_of(np.concatenate([stacked, stacked[[3]]])) == [((3, 12), True)]


# Focus, exposure, size


def quality(images: Any) -> list[set[str]]:
    return [{remark.kind for remark in remarks} for remarks in judge_quality([measure_quality(i, i) for i in images])]


def test_a_photo_out_of_focus() -> None:
    images = list(textured(20))
    images[6] = np.asarray(cv2.GaussianBlur(images[6], (0, 0), 4), np.uint8)
    assert [row for row, kinds_of in enumerate(quality(images)) if kinds_of] == [6]
    assert quality(images)[6] == {"blurred"}


@pytest.mark.parametrize("gain", [0.3, 2.5])
def test_a_badly_exposed_photo(gain: float) -> None:
    images = [image // 3 + 40 for image in textured(20)]
    images[6] = np.clip(images[6] * gain, 0, 255).astype(np.uint8)
    found = quality(images)
    assert [row for row, kinds_of in enumerate(found) if kinds_of] == [6]
    assert "exposure" in found[6]


def test_sets_that_vary_are_judged_by_their_own_measure() -> None:
    rng = np.random.default_rng(0)
    images = [np.clip(image * rng.uniform(0.4, 1.0), 0, 255).astype(np.uint8) for image in textured(30)]
    assert quality(images) == [set()] * 30


def test_an_odd_size_and_sizes_that_are_all_different() -> None:
    images = list(textured(20))
    odd = [*images[:-1], images[-1][:200]]
    assert [row for row, kinds_of in enumerate(quality(odd)) if "size" in kinds_of] == [19]
    free = [image[: 250 - i, : 250 - i] for i, image in enumerate(images)]
    assert not any("size" in kinds_of for kinds_of in quality(free))
    free[3] = images[3][:60]
    assert [row for row, kinds_of in enumerate(quality(free)) if "size" in kinds_of] == [3]


def test_deviations_where_most_agree() -> None:
    np.testing.assert_array_equal(robust_z(np.full(9, 5.0)), 0)
    assert robust_z(np.array([5.0] * 30 + [9.0]))[-1] > 5
    assert robust_z(np.arange(31.0))[15] == 0


# The sheet


def test_names_of_any_kind_and_more_findings_than_fit(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for path in (clean / "train" / "good").iterdir():
        shutil.copy(path, folder)
    for i in range(CELLS + 5):
        (folder / f"größe 型 {'long' * 20}{i}.png").write_bytes(b"")
    found = audit(folder, size=SIZE, most=2)
    assert found.unreadable == CELLS + 5
    assert found.suspicious >= CELLS + 5
    sheet = draw_sheet(found)
    assert sheet.dtype == np.uint8
    assert max(sheet.shape) < 20_000


def test_a_photo_that_vanished_meanwhile_is_left_blank(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    shutil.copytree(clean / "train" / "good", folder)
    found = audit(folder, size=SIZE, most=4)
    shutil.rmtree(folder)
    assert draw_sheet(found).shape[2] == 3
