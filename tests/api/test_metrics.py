"""``recbench.metric``: the scores of an evaluation, in a loop of one's own."""

from __future__ import annotations

import pytest
import torch

import recbench
from recbench import UserError


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(6, 3, 32, 32, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def test_a_score_for_each_image_of_images_rounded_to_8_bits(pair):
    scores = recbench.metric("mse")(*pair)
    rounded = [images.mul(255).round().div(255) for images in pair]
    torch.testing.assert_close(scores, (rounded[0] - rounded[1]).square().mean((1, 2, 3)))
    pixels = [images.mul(255).round().to(torch.uint8) for images in pair]
    torch.testing.assert_close(recbench.metric("mse", shape=(3, 32, 32))(*pixels), scores)


def test_batches_give_the_mean_of_all_images(pair):
    psnr = recbench.metric("psnr")
    for first in (0, 4):
        psnr.update(*(images[first : first + 4] for images in pair))
    assert psnr.compute() == pytest.approx(float(psnr(*pair).mean()))
    psnr.reset()
    with pytest.raises(UserError, match="psnr: no images yet"):
        psnr.compute()


def test_a_metric_of_sets_sees_all_batches(pair):
    spectrum = recbench.metric("spectrum_recon")
    whole = spectrum(*pair)
    assert isinstance(whole, float)
    for first in (0, 4):
        spectrum.update(*(images[first : first + 4] for images in pair))
    assert spectrum.compute() == pytest.approx(whole)
    assert spectrum.compute() == pytest.approx(whole)  # computing forgets nothing


def test_parameters_are_those_of_the_entry(pair):
    assert recbench.metric("ssim", implementation="reference")(*pair).shape == (6,)
    assert recbench.metric("ssim").entry.direction == "higher"


def test_bad_input_is_one_sentence(pair):
    decoded, target = pair
    with pytest.raises(UserError, match="there is no metric 'psnrr'; did you mean 'psnr'"):
        recbench.metric("psnrr")
    with pytest.raises(UserError, match="ssim cannot take 3x8x8 images"):
        recbench.metric("ssim")(decoded[..., :8, :8], target[..., :8, :8])
    with pytest.raises(UserError, match="psnr has no parameter 'peak'"):
        recbench.metric("psnr", peak=1)
    with pytest.raises(UserError, match="nll_bound scores a model, not images"):
        recbench.metric("nll_bound", shape=(3, 32, 32))
    with pytest.raises(UserError, match="must have one shape and device"):
        recbench.metric("psnr")(decoded, target[:3])
    with pytest.raises(UserError, match="decoded must be floats in 0 to 1 or uint8"):
        recbench.metric("psnr")(decoded.double().long(), target)
    psnr = recbench.metric("psnr")
    psnr.update(decoded, target)
    with pytest.raises(UserError, match="images are 3x32x32 until reset"):
        psnr.update(decoded[..., :16, :16], target[..., :16, :16])
