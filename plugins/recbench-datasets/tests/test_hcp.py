"""Patches of volumes: orientation, scaling, splits, and what is said about volumes that cannot be used."""

from __future__ import annotations

import gzip
import itertools
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets import recbench_datasets
from recbench_datasets.hcp import Hcp, read_volume, scaled

pytest.importorskip("nibabel", reason="nibabel is not installed (the extra mri)")

(ENTRY,) = [entry for entry in recbench_datasets() if entry.name == "hcp"]
TO_RAS = np.eye(4)


def create(root, **params):
    return Hcp(**ENTRY.complete({"root": str(root), "size": 16, "patches": 6, **params}))


def nifti(volume, affine=TO_RAS, slope=0.0, intercept=0.0):
    """A NIfTI-1 file, byte by byte as its standard lays it out: a header of 348 bytes, 4 more, and the voxels."""
    codes = {"uint8": (2, 8), "int16": (4, 16), "float32": (16, 32), "complex64": (32, 64)}
    code, bits = codes[str(volume.dtype)]
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, volume.ndim, *volume.shape, *[1] * (7 - volume.ndim))
    struct.pack_into("<hh", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, *[1.0] * 7)  # sizes of voxels
    struct.pack_into("<fff", header, 108, 352, slope, intercept)
    struct.pack_into("<hh", header, 252, 0, 1)  # the affine transform alone says where voxels are
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header) + volume.tobytes(order="F")


def brain(seed, shape=(24, 28, 20)):
    """Noise within a ball, and zeros around it."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij"))
    voxels = np.random.default_rng(seed).integers(200, 1000, shape).astype(np.int16)
    return voxels * (np.square(grid).sum(0) < 1.2).astype(np.int16)


def write(file, volume, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    content = nifti(volume, **options)
    file.write_bytes(gzip.compress(content, 1) if file.suffix == ".gz" else content)
    return file


def fill(root, count=10):
    for number in range(count):
        write(root / f"sub-{number:02}.nii.gz", brain(number))
    return root


def load(dataset, split):
    return np.stack(list(dataset.images(split)))


def test_patches_in_the_promised_shape(tmp_path):
    dataset = create(fill(tmp_path), validation=0.1)
    assert dataset.shape == ImageShape(1, 16, 16)
    for split, count in {"train": 7, "validation": 1, "test": 2}.items():
        patches = load(dataset, split)
        assert patches.shape == (6 * count, 16, 16, 1)
        assert patches.dtype == np.uint8


def test_the_voxels_are_those_of_the_file(tmp_path):
    volume = brain(0)
    np.testing.assert_array_equal(read_volume(write(tmp_path / "a.nii", volume)), volume)
    np.testing.assert_array_equal(read_volume(write(tmp_path / "b.nii.gz", volume)), volume)
    rescaled = read_volume(write(tmp_path / "c.nii", volume, slope=0.5, intercept=10.0))
    np.testing.assert_allclose(rescaled, volume * 0.5 + 10)


def test_axes_lead_to_the_right_the_front_and_the_top(tmp_path):
    """The same head, stored left to right, or with the slices first, as scanners do."""
    volume = brain(0)
    flipped = np.diag([-1.0, 1, 1, 1])
    np.testing.assert_array_equal(read_volume(write(tmp_path / "a.nii", volume[::-1].copy(), affine=flipped)), volume)
    permuted = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    stored = volume.transpose(2, 0, 1).copy()
    np.testing.assert_array_equal(read_volume(write(tmp_path / "b.nii", stored, affine=permuted)), volume)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_patches_stand_upright(tmp_path, plane):
    """Each voxel of this volume tells its place: brightness grows along one axis."""
    grid = np.stack(np.meshgrid(*[np.arange(1, 33)] * 3, indexing="ij")).astype(np.int16)
    vertical = {"axial": 1, "coronal": 2, "sagittal": 2}[plane]  # the front or the top is above
    horizontal = {"axial": 0, "coronal": 0, "sagittal": 1}[plane]
    for axis, direction in ((vertical, (-1, 0)), (horizontal, (0, 1))):
        folder = tmp_path / str(axis)
        for number in range(2):
            write(folder / f"{number}.nii", grid[axis] + 100 * np.int16(number))
        patch = load(create(folder, plane=plane, foreground=0.0), "train")[0, :, :, 0].astype(int)
        rows, columns = (np.sign(np.diff(patch, axis=axis)) for axis in (0, 1))
        assert (rows == direction[0]).all()
        assert (columns == direction[1]).all()


def test_scaling_is_robust_and_ignores_the_background():
    generator = np.random.default_rng(0)
    volume = np.zeros((20, 20, 20), dtype=np.float32)
    volume[5:15] = generator.uniform(100, 200, (10, 20, 20))
    plain = scaled(volume, 1.0, 99.0)
    black, white = np.percentile(volume[5:15], (1, 99))
    wanted = np.clip((volume - black) / (white - black), 0, 1) * 255
    assert np.abs(plain - wanted).max() <= 0.51
    assert not plain[:5].any()
    padded = np.pad(volume, 10)
    np.testing.assert_array_equal(scaled(padded, 1.0, 99.0)[10:-10, 10:-10, 10:-10], plain)
    outlier = volume.copy()
    outlier[6, 0, 0] = 1e6
    assert np.abs(scaled(outlier, 1.0, 99.0).astype(int) - plain)[outlier < 1e6].max() <= 1
    np.testing.assert_array_equal(scaled(volume * 7, 1.0, 99.0), plain)


def test_division_by_the_maximum_is_a_special_case():
    """The scaling of Volokitin et al., up to the smallest voxel above zero, which becomes black."""
    volume = brain(0).astype(np.float32)
    volume[12, 14, 10] = 1e-3
    assert np.abs(scaled(volume, 0.0, 100.0) - volume / volume.max() * 255).max() <= 0.51


def test_no_subject_is_in_two_splits(tmp_path):
    """Every volume has a grey value of its own, by which its patches can be told."""
    for number in range(10):
        volume = np.full((20, 20, 20), 100, dtype=np.uint8)
        volume[0, 0, 0], volume[1:, 1:, 1:] = 1, 110 + 10 * number
        volume[0, 1, 1] = 255
        write(tmp_path / f"{number}.nii", volume)
    dataset = create(tmp_path, lower=0.0, upper=100.0, validation=0.2, first=0.3)
    seen = {split: {int(patch[-1, -1, 0]) for patch in load(dataset, split)} for split in SPLITS}
    assert sum(map(len, seen.values())) >= 10
    for one, other in itertools.combinations(SPLITS, 2):
        assert {source.path for source in dataset.splits[one]}.isdisjoint(s.path for s in dataset.splits[other])
    assert sum(len(sources) for sources in dataset.splits.values()) == 10


def test_patches_are_the_same_every_time(tmp_path):
    fill(tmp_path, 5)
    used = create(tmp_path)
    list(used.images("test"))
    np.testing.assert_array_equal(load(create(tmp_path), "train"), load(used, "train"))
    assert not np.array_equal(load(create(tmp_path, seed=1), "train"), load(used, "train"))


def test_patches_of_a_volume_do_not_depend_on_the_other_volumes(tmp_path):
    fill(tmp_path / "few", 2)
    fill(tmp_path / "many", 6)

    def patches(folder):
        dataset = create(folder)
        split = next(split for split in SPLITS if folder / "sub-00.nii.gz" in [s.path for s in dataset.splits[split]])
        index = [source.path for source in dataset.splits[split]].index(folder / "sub-00.nii.gz")
        return load(dataset, split)[6 * index : 6 * index + 6]

    np.testing.assert_array_equal(patches(tmp_path / "few"), patches(tmp_path / "many"))


def test_only_so_many_volumes_are_used(tmp_path):
    assert [path.name for path in create(fill(tmp_path), volumes=3).files] == [f"sub-{n:02}.nii.gz" for n in range(3)]
    assert len(create(tmp_path, volumes=0).files) == 10


def test_patches_of_nothing_but_background_are_drawn_anew(tmp_path):
    for number in range(2):
        volume = np.zeros((40, 40, 40), dtype=np.int16)
        volume[:12, :12, :12] = np.random.default_rng(number).integers(500, 1000, (12, 12, 12))
        write(tmp_path / f"{number}.nii", volume)
    for foreground in (0.1, 0.3):
        patches = load(create(tmp_path, foreground=foreground), "train")
        assert ((patches > 25).mean((1, 2, 3)) >= foreground).all()
    assert not load(create(tmp_path, foreground=0.0, patches=20), "train").any((1, 2, 3)).all()


def test_slices_are_taken_from_the_range_that_is_asked_for(tmp_path):
    """Brightness is the number of the slice."""
    for number in range(2):
        volume = np.broadcast_to(np.arange(1, 101, dtype=np.int16)[None, :, None], (20, 100, 20)).copy()
        write(tmp_path / f"{number}.nii", volume + np.int16(number * 1000))
    dataset = create(tmp_path, first=0.5, last=0.8, step=5, upper=100.0, patches=50, foreground=0.0)
    found = {round(int(value) / 255 * 99) for value in load(dataset, "train")[:, 0, 0, 0]}
    assert found <= {50, 55, 60, 65, 70, 75}
    assert len(found) > 3


# One volume


def test_a_lone_volume_is_divided_along_its_slices(tmp_path):
    """Brightness is the number of the slice, so that patches tell where they are from."""
    volume = np.broadcast_to(np.arange(1, 101, dtype=np.int16)[None, :, None], (20, 100, 20)).copy()
    write(tmp_path / "only.nii.gz", volume)
    dataset = create(tmp_path, patches=200, validation=0.1, test=0.2, upper=100.0, gap=5, foreground=0.0)
    patches = {split: load(dataset, split) for split in SPLITS}
    assert {split: len(found) for split, found in patches.items()} == {"train": 140, "validation": 20, "test": 40}
    slices = {split: {round(int(v) / 255 * 99) for v in found[:, 0, 0, 0]} for split, found in patches.items()}
    assert slices["train"] <= set(range(65))
    assert slices["validation"] <= set(range(70, 80))
    assert slices["test"] <= set(range(85, 100))


def test_a_lone_volume_that_is_too_small_to_divide(tmp_path):
    write(tmp_path / "only.nii", brain(0))
    with pytest.raises(UserError, match=r"has 28 slices, too few to take any from 0\.8 to 1 of them"):
        list(create(tmp_path, validation=0.1, gap=20).images("test"))


def test_a_lone_volume_is_named_and_counted_once(tmp_path):
    """Though all three splits are cut from it."""
    write(tmp_path / "only.nii", brain(0)[..., None].repeat(2, axis=3))
    with pytest.raises(UserError) as caught:
        list(create(tmp_path).images("train"))
    assert str(caught.value).splitlines() == [
        f"1 of the 1 volumes in {tmp_path} cannot be used:",
        f"  {tmp_path}/only.nii: has 4 axes, expected 3",
    ]


# What cannot be used


def test_volumes_that_cannot_be_used_are_counted_and_named(tmp_path):
    fill(tmp_path, 4)
    whole = (tmp_path / "sub-00.nii.gz").read_bytes()
    (tmp_path / "sub-00.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a.nii").write_text("text")
    write(tmp_path / "b.nii", np.zeros((20, 20, 20), dtype=np.int16))
    write(tmp_path / "c.nii", brain(0)[..., None].repeat(2, axis=3))
    write(tmp_path / "d.nii", brain(0, (24, 24, 8)))
    broken = brain(0).astype(np.float32)
    broken[3, 3, 3] = np.nan
    write(tmp_path / "e.nii", broken)
    dark = np.ones((30, 30, 30), dtype=np.int16)
    dark[0, 0, 0] = 1000
    write(tmp_path / "f.nii", dark, slope=1.0)
    (tmp_path / "g.nii").write_bytes(b"")
    write(tmp_path / "h.nii", brain(0).astype(np.complex64))
    vast = bytearray(nifti(brain(0)))
    struct.pack_into("<4h", vast, 40, 3, 32000, 32000, 32000)
    (tmp_path / "i.nii.gz").write_bytes(gzip.compress(vast))
    dataset = create(tmp_path, upper=100.0, foreground=0.5)
    with pytest.raises(UserError) as caught:
        list(dataset.images("train"))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"10 of the 13 volumes in {tmp_path} cannot be used:"
    told = {Path(line.split(":")[0].strip()).name: line for line in lines[1:]}
    assert "is broken" in told["sub-00.nii.gz"]
    assert "is not a NIfTI volume" in told["a.nii"]
    assert "has no voxels above zero" in told["b.nii"]
    assert "has 4 axes, expected 3" in told["c.nii"]
    assert "has slices of 24x8, too small for patches of 16" in told["d.nii"]
    assert "has 1 voxels that are not finite" in told["e.nii"]
    assert "no patch of 16x16 had 0.5 of its pixels brighter than the background" in told["f.nii"]
    assert "is not a NIfTI volume" in told["g.nii"]
    assert "has voxels of type complex64, expected real numbers" in told["h.nii"]
    assert "has 32768000000000 voxels, more than the" in told["i.nii.gz"]


def test_a_subject_that_is_in_two_splits_is_named(tmp_path):
    fill(tmp_path, 4)
    content = (tmp_path / "sub-00.nii.gz").read_bytes()
    for number in range(10):
        (tmp_path / f"copy-{number}.nii.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"of the volumes in .* are in two splits:\n.* is the same as"):
        list(create(tmp_path, test=0.5).images("train"))


def test_folders_of_subjects(tmp_path):
    for number in range(3):
        for name in ("T1w_acpc_dc_restore_brain.nii.gz", "ribbon.nii.gz"):
            write(tmp_path / f"10030{number}" / "T1w" / name, brain(number))
    with pytest.raises(UserError) as caught:
        create(tmp_path).source()
    assert str(caught.value).splitlines() == [
        f"3 of the 3 subjects in {tmp_path} have several files called *.nii*, expected one volume for each "
        "(set pattern):",
        *(f"  {tmp_path}/10030{number}: 2" for number in range(3)),
    ]
    dataset = create(tmp_path, pattern="T1w_acpc_dc_restore_brain.nii.gz")
    assert len(dataset.files) == 3
    assert dataset.source()


def test_no_volumes(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UserError, match=r"holds no volumes, no file called \*\.nii\*"):
        create(tmp_path).source()
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        create(tmp_path / "nowhere")


def test_nibabel_that_is_missing_is_told_before_anything_is_read(tmp_path, monkeypatch):
    from importlib import metadata

    from recbench_datasets import hcp

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(hcp, "version", missing)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    write(tmp_path / "only.nii", brain(0))
    with pytest.raises(UserError, match=r"nibabel, which is not installed: pip install 'recbench\[mri\]'"):
        create(tmp_path).source()


@pytest.mark.parametrize("wrong", [{"first": 0.5, "last": 0.5}, {"lower": 50.0, "upper": 10.0}, {"validation": 0.8}])
def test_parameters_that_contradict_each_other_are_refused(wrong):
    assert ENTRY.refusals(ImageShape(1, 64, 64), ENTRY.complete(wrong))
    assert not ENTRY.refusals(ImageShape(1, 64, 64), ENTRY.complete({}))


# The real thing


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared):
    folder = tmp_path_factory.mktemp("mri")
    (folder / "ch2.nii.gz").symlink_to(shared / "data" / "mri" / "ch2.nii.gz")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_real_volume(real, plane):
    dataset = create(real, size=64, patches=40, plane=plane, last=0.9)
    patches = {split: load(dataset, split) for split in SPLITS}
    assert {split: len(found) for split, found in patches.items()} == {"train": 30, "validation": 2, "test": 8}
    for found in patches.values():
        assert found.shape[1:] == (64, 64, 1)
        assert ((found > 25).mean((1, 2, 3)) >= 0.1).all()
    assert 40 < patches["train"].mean() < 160
    assert len({patch.tobytes() for found in patches.values() for patch in found}) == 40
    voxels = read_volume(real / "ch2.nii.gz")
    assert voxels.shape == (181, 217, 181)
    assert voxels[:, :, :60].mean() > voxels[:, :, 150:].mean(), "the top of the head is smaller than its base"
