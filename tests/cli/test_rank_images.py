"""``recbench rank-images``: reconstructions by any tool, against scikit-image and the ranking of tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import recbench
from recbench.cli import main

Bytes = NDArray[np.uint8]
Call = Callable[..., tuple[int, str, str]]
COUNT = 7


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """``recbench rank-images`` in this process, which has imported torch already."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["recbench", "rank-images", *arguments])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def write(folder: Path, images: Bytes, ending: str = "png") -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.{ending}")


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Bytes]]:
    """A target, a method with one seed and one with two, as folders in the working folder; and their pixels."""
    generator = np.random.default_rng(0)
    target = generator.integers(0, 256, (COUNT, 12, 16, 3)).astype(np.uint8)

    def noisy(spread: float) -> Bytes:
        return np.clip(target + generator.normal(0, spread, target.shape), 0, 255).astype(np.uint8)

    found = {"target": [target], "mild": [noisy(5)], "strong": [noisy(30), noisy(31)]}
    write(tmp_path / "target", target)
    write(tmp_path / "mild", found["mild"][0], "bmp")
    for seed, pixels in enumerate(found["strong"]):
        write(tmp_path / "strong" / f"seed-{seed}", pixels)
    return found


def test_ranks_as_the_table_of_scores_of_scikit_image(call: Call, images: dict[str, list[Bytes]]) -> None:
    (target,) = images["target"]
    rows = [
        {"method": method, "seed": seed, "image": i, "score": peak_signal_noise_ratio(target[i], pixels[i])}
        for method in ("mild", "strong")
        for seed, pixels in enumerate(images[method])
        for i in range(COUNT)
    ]
    expected = recbench.rank(pd.DataFrame(rows), metric="psnr").set_index("method")
    code, out, _ = call("target", "strong", "mild", "--metrics", "psnr", "--format", "json")
    assert code == 0
    (board,) = json.loads(out)["boards"]
    assert [row["label"] for row in board["rows"]] == list(expected.index) == ["mild", "strong"]
    for row in board["rows"]:
        want = expected.loc[row["label"]]
        assert row["seeds"] == want["seeds"]
        assert row["tier"] == want["tier"]
        cell = row["cells"]["psnr"]
        assert [cell["mean"], *cell["interval"]] == pytest.approx([want["mean"], want["low"], want["high"]], rel=1e-5)


def test_arrays_rank_as_folders(call: Call, images: dict[str, list[Bytes]], tmp_path: Path) -> None:
    for name in ("target", "mild"):
        np.save(tmp_path / f"{name}.npy", images[name][0].transpose(0, 3, 1, 2))
    (tmp_path / "arrays").mkdir()
    for seed, pixels in enumerate(images["strong"]):
        np.save(tmp_path / "arrays" / f"seed-{seed}.npy", pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    options = ("--metrics", "psnr,ssim", "-p", "ssim.window=7", "--format", "csv")
    folders = call("target", "strong", "mild", *options)
    arrays = call("target.npy", "strong=arrays", "mild.npy", *options)
    assert folders[0] == arrays[0] == 0
    assert arrays[1] == folders[1]
    assert "ssim_mean" in folders[1]


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
@pytest.mark.usefixtures("images")
def test_says_who_is_better_in_every_format(call: Call, tmp_path: Path, form: str) -> None:
    code, out, _ = call("target", "strong", "mild", "--metrics", "psnr", "--format", form)
    assert code == 0
    assert "mild is significantly better than strong" in out
    assert "KL" not in out
    assert "jobs" not in out
    code, nothing, _ = call("target", "strong", "mild", "--metrics", "psnr", "--format", form, "--output", "board.txt")
    assert (code, nothing) == (0, "")
    assert "mild is significantly better than strong" in (tmp_path / "board.txt").read_text()


@pytest.mark.usefixtures("images")
def test_by_default_ranks_by_what_can_score_the_images(call: Call) -> None:
    code, out, _ = call("target", "mild", "--format", "json")
    assert code == 0
    (board,) = json.loads(out)["boards"]
    assert board["ranking"] == ["psnr", "ssim"]
    assert any(note.startswith("st_lpips does not rank: it needs at least") for note in json.loads(out)["notes"])


def test_an_equal_image_counts_as_the_best_other_one(
    call: Call, images: dict[str, list[Bytes]], tmp_path: Path
) -> None:
    array = images["mild"][0].copy()
    array[2] = images["target"][0][2]
    write(tmp_path / "one_equal", array)
    code, out, _ = call("target", "one_equal", "strong", "--metrics", "mse", "--format", "json")
    assert code == 0
    cell = json.loads(out)["boards"][0]["rows"][0]["cells"]["mse"]
    difference = (array / 255 - images["target"][0] / 255) ** 2
    assert cell["mean"] == pytest.approx(difference.mean(), rel=1e-5)


def without_one(folder: Path) -> None:
    (folder / "3.png").unlink()


def renamed(folder: Path) -> None:
    (folder / "3.png").rename(folder / "three.png")


def larger(folder: Path) -> None:
    for file in folder.iterdir():
        Image.new("RGB", (20, 12)).save(file)


def with_others(folder: Path) -> None:
    write(folder / "seed-0", np.zeros((1, 12, 16, 3), np.uint8))


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_one, "odd lacks 1 of the 7 images of target (3); both must hold the same images, by name"),
        (renamed, "odd lacks 1 of the 7 images of target (3) and has 1 that it lacks (three); both must hold"),
        (larger, "odd holds images of 3x12x20 and target holds images of 3x12x16 (channels x height x width)"),
        (with_others, "odd holds seeds (seed-0) and others (0.png, 1.png, 2.png, 3.png, 4.png and 2 more)"),
        (emptied, "odd holds no images: expected image files, or a sub-folder or .npy file for each seed"),
    ],
)
def test_names_what_does_not_match(
    call: Call, images: dict[str, list[Bytes]], tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    write(tmp_path / "odd", images["mild"][0])
    spoil(tmp_path / "odd")
    code, out, err = call("target", "mild", "odd", "--metrics", "psnr")
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((6, 3, 12, 16), np.uint8), "odd.npy holds 6 images, target holds 7; they must be equally many"),
        (np.full((7, 3, 12, 16), 2.0), "odd.npy has values from 2 to 2, outside of 0 to 1; give its --range"),
        (np.full((7, 3, 12, 16), np.nan), "odd.npy holds NaN or infinity"),
    ],
)
@pytest.mark.usefixtures("images")
def test_names_what_is_wrong_with_an_array(call: Call, tmp_path: Path, array: NDArray[np.generic], said: str) -> None:
    np.save(tmp_path / "odd.npy", array)
    code, _, err = call("target", "odd.npy", "--metrics", "psnr")
    assert code == 2
    assert said in err


@pytest.mark.usefixtures("images")
def test_an_array_needs_names_in_the_order_of_their_numbers(call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "odd.npy", np.zeros((7, 3, 12, 16), np.uint8))
    (tmp_path / "target" / "6.png").rename(tmp_path / "target" / "10.png")
    code, _, err = call("target", "odd.npy", "--metrics", "psnr")
    assert code == 2
    assert "by name 10.png of target comes before 2.png" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("target", "mild", "again/../mild"), "another method is called mild too; name one of them"),
        (("target", "nowhere"), "nowhere does not exist: expected a folder of images or an .npy array"),
        (("target", "mild", "--metrics", "pnsr"), "did you mean 'psnr'"),
        (("target", "mild", "--metrics", ","), "--metrics ,: expected names of metrics"),
        (("target", "mild", "--metrics", "kl"), "kl scores a model, not images"),
        (("target", "mild", "-p", "window=3"), "-p window=3: expected METRIC.KEY=VALUE"),
        (("target", "mild", "--metrics", "psnr", "-p", "ssim.window=3"), "the metric ssim is not used"),
        (("target", "mild", "--metrics", "st_lpips"), "st_lpips cannot take the"),
    ],
)
@pytest.mark.usefixtures("images")
def test_errors_are_one_clear_sentence(call: Call, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "again").mkdir()
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
