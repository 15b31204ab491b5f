"""``recbench score``: against values that other people's code gave, and on what it must refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recbench.cli import main
from recbench.errors import UserError
from recbench.job.standalone import read_pair
from tests.conftest import TINY, Recbench

Call = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process, which has imported torch already: ``call("score", …)``."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["recbench", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs of colour images of 16 pixels in 0 to 1, as .npy, as bytes, in -1 to 1, and as folders of PNGs."""
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    target = rng.integers(0, 256, (4, 3, 16, 16), dtype=np.uint8)
    decoded = (255 - target // 2).astype(np.uint8)
    for name, images in (("decoded", decoded), ("target", target)):
        np.save(folder / f"{name}_bytes.npy", images)
        np.save(folder / f"{name}.npy", (images / 255).astype(np.float32))
        np.save(folder / f"{name}_signed.npy", images / 127.5 - 1)
        (folder / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / name / f"{index}.png")
    return folder


def score(call: Call, *arguments: object) -> dict[str, Any]:
    done = call("score", *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return found


def test_a_loss_by_hand(call: Call, arrays: Path) -> None:
    found = score(call, "loss", "l2", arrays / "decoded.npy", arrays / "target.npy", "--grad", "--dtype", "float64")
    difference = np.load(arrays / "decoded.npy").astype(float) - np.load(arrays / "target.npy")
    assert list(found) == ["name", "params", "per_image", "mean", "grad_norm"]
    assert found["name"] == "l2"
    expected = 0.5 * (difference**2).sum((1, 2, 3))
    assert found["per_image"] == pytest.approx(expected.tolist(), rel=1e-12)
    assert found["mean"] == pytest.approx(expected.mean(), rel=1e-12)
    norms = np.sqrt((difference**2).sum((1, 2, 3)))  # the gradient of ½ d² is d
    assert found["grad_norm"] == pytest.approx(norms.tolist(), rel=1e-12)


@pytest.mark.parametrize("form", ["{}.npy", "{}_bytes.npy", "{}"])
def test_arrays_bytes_and_folders_give_the_same(call: Call, arrays: Path, form: str) -> None:
    pair = [arrays / form.format(name) for name in ("decoded", "target")]
    expected = score(call, "loss", "l1", arrays / "decoded_bytes.npy", arrays / "target_bytes.npy")
    assert score(call, "loss", "l1", *pair)["per_image"] == pytest.approx(expected["per_image"], rel=1e-5)


def test_the_range_is_converted_to_that_of_the_loss(call: Call, arrays: Path) -> None:
    pair = [arrays / "decoded_signed.npy", arrays / "target_signed.npy"]
    expected = score(call, "loss", "l2", arrays / "decoded.npy", arrays / "target.npy", "--grad")
    found = score(call, "loss", "l2", *pair, "--range", "-1,1", "--grad")
    assert found["per_image"] == pytest.approx(expected["per_image"], rel=1e-5)
    halves = [norm / 2 for norm in expected["grad_norm"]]  # by the images as they were given
    assert found["grad_norm"] == pytest.approx(halves, rel=1e-5)
    unsaid = call("score", "loss", "l2", *pair)
    assert "values from -1 to 1, outside of 0 to 1, the range of --range" in unsaid.stderr


def test_a_metric_sees_rounded_images(call: Call, arrays: Path) -> None:
    noise = np.load(arrays / "target.npy") + 0.4 / 255 * np.where(np.arange(16) % 2, 1, -1)
    np.save(arrays / "nearly.npy", noise.clip(0, 1))
    found = score(call, "metric", "psnr", arrays / "nearly.npy", arrays / "target.npy")
    exact = 10 * np.log10(255**2 * np.load(arrays / "target.npy")[0].size)  # of equal images
    assert found["per_image"] == pytest.approx([exact] * 4)
    assert found["grad_norm"] is None


def test_a_metric_of_the_whole_set(call: Call, arrays: Path) -> None:
    pair = arrays / "decoded.npy", arrays / "target.npy"
    found = score(call, "metric", "mean_error", *pair, "--plugin", TINY)
    assert found["per_image"] is None
    assert math.isfinite(found["mean"])


@pytest.mark.parametrize("variance", [2, 4])
@pytest.mark.parametrize("C", [0.005, 0.025, 0.1])
def test_wiener_gives_the_golden_values(
    call: Call,
    golden: dict[str, Any],
    tmp_path: Path,
    variance: int,
    C: float,
) -> None:
    np.save(tmp_path / "decoded.npy", golden["pred"])
    np.save(tmp_path / "target.npy", golden["target"])
    options = ["-p", "kernel=gaussian", "-p", f"variance={variance}", "-p", f"C={C}", "--dtype", "float64"]
    found = score(call, "loss", "wiener", tmp_path / "decoded.npy", tmp_path / "target.npy", *options)
    assert found["per_image"] == pytest.approx(
        [0.5 * value for value in golden[f"wiener_var{variance}_C{C}"]["weighted_sq_error"]], rel=1e-9
    )
    assert found["params"]["variance"] == variance


def test_psnr_gives_the_golden_values(call: Call, golden: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "decoded.npy", golden["pred"])
    np.save(tmp_path / "target.npy", golden["target"])
    found = score(call, "metric", "psnr", tmp_path / "decoded.npy", tmp_path / "target.npy", "--dtype", "float64")
    assert found["per_image"] == pytest.approx(golden["psnr_8bit"]["values"], rel=1e-12)


def test_an_epoch_is_what_the_loss_is_told(call: Call, arrays: Path) -> None:
    """In its warm-up wiener is l2; without an epoch the warm-up is over."""
    pair = arrays / "decoded.npy", arrays / "target.npy"
    options = "-p", "kernel=gaussian"
    l2 = score(call, "loss", "l2", *pair)["per_image"]
    assert score(call, "loss", "wiener", *pair, *options, "--epoch", 10)["per_image"] == pytest.approx(l2)
    assert score(call, "loss", "wiener", *pair, *options)["per_image"] != pytest.approx(l2)


@pytest.mark.slow
def test_in_a_process_of_its_own(recbench: Recbench, arrays: Path) -> None:
    done = recbench("score", "loss", "l2", arrays / "decoded", arrays / "target")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_text_has_a_line_for_each_image(call: Call, arrays: Path) -> None:
    done = call("score", "loss", "l1", arrays / "decoded.npy", arrays / "target.npy", "--grad")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "mean"]
    assert all("gradient" in line for line in lines[:4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("loss", "charbonier", "decoded.npy", "target.npy"),
            "there is no loss 'charbonier'; did you mean 'charbonnier'?",
        ),
        (("loss", "l2", "decoded.npy", "target.npy", "-p", "x=1"), "-p x=1: l2 has no parameter 'x'"),
        (("loss", "wiener", "decoded.npy", "target.npy", "-p", "C=0"), "-p C=0: 0.0 is not above 0"),
        (("loss", "wiener", "decoded.npy", "target.npy", "-p", "C"), "-p C: expected KEY=VALUE"),
        (("loss", "wiener", "decoded.npy", "target.npy"), "needs the latent z; for given images use kernel=gaussian"),
        (("loss", "wiener", "decoded.npy", "target.npy", "-p", "kernel_size=17"), "needs a kernel_size of at most"),
        (("loss", "l2", "decoded.npy", "nothing.npy"), "nothing.npy' does not exist"),
        (("loss", "l2", "decoded.npy", "text.npy"), "text.npy cannot be read as an .npy array"),
        (("loss", "l2", "decoded.npy", "objects.npy"), "objects.npy cannot be read as an .npy array"),
        (("loss", "l2", "decoded.npy", "flat.npy"), "shape (4, 768); expected (N, C, H, W) of floats or uint8"),
        (("loss", "l2", "decoded.npy", "nan.npy"), "nan.npy holds NaN or infinity"),
        (("loss", "l2", "decoded.npy", "fewer.npy"), "is 4x3x16x16, "),
        (
            ("loss", "l2", "decoded.npy", "target.npy", "--range", "1,0"),
            "--range 1,0: the first number must be",
        ),
        (("loss", "l2", "decoded.npy", "target.npy", "--range", "1"), "--range 1: expected two numbers"),
        (("loss", "l2", "decoded_bytes.npy", "target_bytes.npy", "--range", "0,1"), "leave out --range"),
        (("loss", "l2", "decoded", "renamed"), "hold different files: 0.png, other.png in one of them only"),
        (("loss", "l2", "decoded", "empty"), "holds no images"),
        (("loss", "l2", "decoded", "broken"), "1 files cannot be read as images: 0.png"),
        (("loss", "l2", "decoded", "sizes"), "holds images of 2 sizes: 8x8, 16x16"),
        (("loss", "l2", "deep", "deep"), "3 files have transparency or more than 8 bits a channel"),
        (("metric", "psnr", "decoded.npy", "target.npy", "--grad"), "--grad and --epoch are for losses"),
    ],
)
def test_what_is_refused(call: Call, arrays: Path, arguments: tuple[str, ...], message: str) -> None:
    make_bad_input(arrays)
    paths = [arrays / argument if index in (2, 3) else argument for index, argument in enumerate(arguments)]
    done = call("score", *paths)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", "").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def make_bad_input(arrays: Path) -> None:
    if (arrays / "fewer.npy").exists():
        return
    target = np.load(arrays / "target.npy")
    (arrays / "text.npy").write_text("no array")
    np.save(arrays / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(arrays / "flat.npy", target.reshape(4, -1))
    np.save(arrays / "nan.npy", np.where(np.arange(16) == 3, np.nan, target))
    np.save(arrays / "fewer.npy", target[:2])
    for name in ("renamed", "empty", "broken", "sizes"):
        (arrays / name).mkdir()
    image = Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8))
    for index in range(1, 4):
        for name in ("renamed", "broken", "sizes"):
            image.save(arrays / name / f"{index}.png")
    image.save(arrays / "renamed" / "other.png")
    (arrays / "deep").mkdir()
    Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(arrays / "deep" / "0.png")
    Image.fromarray(np.full((16, 16, 4), 100, dtype=np.uint8)).save(arrays / "deep" / "1.png")
    image.save(arrays / "deep" / "2.gif", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])
    (arrays / "broken" / "0.png").write_bytes(b"\x89PNG nothing")
    image.resize((8, 8)).save(arrays / "sizes" / "0.png")


def test_a_folder_is_read_as_people_see_it(call: Call, tmp_path: Path) -> None:
    """Turned as its EXIF tag says."""
    upright = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("lying", "upright"):
        (tmp_path / name).mkdir()
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned right
    Image.fromarray(np.rot90(upright)).save(tmp_path / "lying" / "0.png", exif=tags)
    Image.fromarray(upright).save(tmp_path / "upright" / "0.png")
    assert score(call, "loss", "l2", tmp_path / "lying", tmp_path / "upright")["per_image"] == [0.0]


def test_a_loss_that_couples_images_sees_all_of_them(call: Call, tmp_path: Path) -> None:
    """More than a batch of them; against the authors' package."""
    from focal_frequency_loss import FocalFrequencyLoss

    rng = np.random.default_rng(0)
    target, decoded = rng.random((2, 70, 1, 16, 16)) * np.linspace(0.2, 1, 70)[:, None, None, None]
    np.save(tmp_path / "decoded.npy", decoded)
    np.save(tmp_path / "target.npy", target)
    options = ["-p", "batch_matrix=true", "--dtype", "float64"]
    found = score(call, "loss", "ffl", tmp_path / "decoded.npy", tmp_path / "target.npy", *options)
    package = FocalFrequencyLoss(batch_matrix=True)
    assert found["mean"] == pytest.approx(float(package(torch.from_numpy(decoded), torch.from_numpy(target))), rel=1e-9)


@pytest.mark.parametrize(
    "shape", ["(9223372036854775807, 3, 4, 4)", "(99999999999999999999999, 3, 4, 4)", "(True, 3, 4, 4)"]
)
def test_an_array_that_claims_what_it_has_not(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    file = tmp_path / "a.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100))
    with pytest.raises(UserError, match=r"a\.npy cannot be read as an \.npy array: "):
        read_pair(file, file, None, torch.float32)
