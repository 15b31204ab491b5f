"""Looking at a model after its epochs changes nothing, survives a resumed training, and gives the scores of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from recbench.job.epochs import MEASURED_IMAGES, PICTURED_EPOCHS, PICTURED_IMAGES, EpochWatch, likeness, pictured_epochs
from recbench.job.training import Interrupted, decoded_unit, train
from recbench.store.artifacts import EPOCHS
from recbench.store.epochs import read_epochs
from tests.job.test_training import CONFIG, IMAGES, NONE, PIXELS, history, make, state, watch

WATCHED = replace(IMAGES, validation=PIXELS.flip(3))


def pictures(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_the_model_is_the_same_with_and_without_being_looked_at(tmp_path: Path) -> None:
    ends = []
    for name, images in (("plain", IMAGES), ("watched", WATCHED)):
        model = make(auxiliary=True)
        train(model, images, CONFIG, 0, tmp_path / name, watch())
        ends.append({**state(model), "random": torch.get_rng_state()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    lines = [history(tmp_path / name) for name in ("plain", "watched")]
    assert [{**one, "validation_psnr": two["validation_psnr"]} for one, two in zip(*lines, strict=True)] == lines[1]
    assert not (tmp_path / "plain" / EPOCHS).exists()


def test_what_is_shown_last_is_what_the_trained_model_reconstructs(tmp_path: Path) -> None:
    model = make()
    train(model, WATCHED, CONFIG, 0, tmp_path, watch())
    kept = read_epochs(tmp_path, shape=(1, 8, 8))
    assert kept.epochs == (1, 2, 3)
    assert np.array_equal(kept.target, WATCHED.validation[:PICTURED_IMAGES].numpy())
    model.architecture.eval()
    with torch.no_grad():
        decoded = decoded_unit(model, WATCHED.validation, "float32").clamp(0, 1)
    rounded = (decoded * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(kept.decoded[-1], rounded[:PICTURED_IMAGES])
    assert len({epoch.tobytes() for epoch in kept.decoded}) == 3
    target = WATCHED.validation.numpy()
    psnr = [peak_signal_noise_ratio(one, other) for one, other in zip(target, rounded, strict=True)]
    assert history(tmp_path)[-1]["validation_psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)


def test_a_resumed_training_shows_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    train(make(), WATCHED, CONFIG, 0, tmp_path / "whole", watch())
    stops = count()
    for _ in range(2):  # in the middle of an epoch, and after the last step
        with pytest.raises(Interrupted):
            train(make(), WATCHED, CONFIG, 0, tmp_path / "parts", watch(lambda: next(stops) % 3 == 2))
    train(make(), WATCHED, CONFIG, 0, tmp_path / "parts", watch())
    assert (tmp_path / "parts" / EPOCHS).read_bytes() == (tmp_path / "whole" / EPOCHS).read_bytes()
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_without_validation_images_other_ones_are_shown_and_nothing_is_scored(tmp_path: Path) -> None:
    train(make(), replace(IMAGES, traced=PIXELS[:2]), CONFIG, 0, tmp_path, watch())
    assert read_epochs(tmp_path).decoded.shape == (3, 2, 1, 8, 8)
    assert not any("validation_psnr" in line for line in history(tmp_path))


@pytest.mark.parametrize(("size", "has_ssim"), [(10, False), (11, True), (32, True)])
def test_scores_are_those_of_scikit_image(size: int, has_ssim: bool) -> None:
    target = pictures(5, size)
    decoded = (0.7 * target + 0.3 * pictures(6, size)[:5]).round().to(torch.uint8)
    found = likeness(decoded, target)
    pairs = list(zip(target.numpy(), decoded.numpy(), strict=True))
    assert found["validation_psnr"] == pytest.approx(np.mean([peak_signal_noise_ratio(*pair) for pair in pairs]))
    assert ("validation_ssim" in found) == has_ssim
    if size == 32:  # where only whole windows count, as in pytorch-msssim
        settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        maps = [structural_similarity(*pair, channel_axis=0, full=True, **settings)[1] for pair in pairs]
        inner = np.mean([each[:, 5:-5, 5:-5] for each in maps])
        assert found["validation_ssim"] == pytest.approx(inner, abs=1e-4)


def test_equal_images_have_no_psnr_that_a_history_could_hold() -> None:
    same = pictures(2, 16)
    assert likeness(same, same) == {"validation_ssim": pytest.approx(1)}


def never(images: Tensor) -> Tensor:
    raise AssertionError("it was not to be looked at")


def broken(images: Tensor) -> Tensor:
    return torch.full(images.shape, torch.nan)


@pytest.mark.parametrize(("validation", "other", "reconstruct"), [(PIXELS, NONE, broken), (NONE, NONE, never)])
def test_nothing_is_said_where_nothing_can_be(
    validation: Tensor, other: Tensor, reconstruct: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    seen = EpochWatch(validation, other, 1, 8, {})
    assert seen.look(1, reconstruct) == {}
    seen.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_few_images_are_looked_at_in_batches_of_the_training() -> None:
    sizes: list[int] = []

    def reconstruct(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images.float() / 255

    EpochWatch(pictures(100, 4), NONE, 100, 24, {}).look(50, reconstruct)
    assert sizes == [24, 24, MEASURED_IMAGES - 48]


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 30, 100, 1000, 12345])
def test_epochs_are_few_and_spread_with_both_ends(epochs: int) -> None:
    found = pictured_epochs(epochs)
    assert (found[0], found[-1]) == (1, epochs)
    assert list(found) == sorted(set(found))
    assert min(epochs, 7) <= len(found) <= PICTURED_EPOCHS
