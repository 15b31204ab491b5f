"""The autoencoders of Kim & Jo."""

import pytest
import torch

from recbench.contracts.entries import ImageShape
from recbench_architectures import recbench_architectures
from recbench_architectures.kim_jo import FreqLatentAE, FrequencyDetails, StandardAE

ENTRIES = {entry.name: entry for entry in recbench_architectures()}
PLAIN, FREQUENCY = ENTRIES["standard_ae"], ENTRIES["freq_latent_ae"]
NARROW = {"widths": [4, 8], "latent_size": 5, "blocks": 2}


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def convolutions(inputs: int, widths: list[int], side: int) -> int:
    """Parameters of convolutions with batch norm, one after the other."""
    return sum(a * b * side**2 + b + 2 * b for a, b in zip([inputs, *widths], widths, strict=False))


def test_sizes_at_256_pixels_by_hand():
    widths, code = [64, 128, 256, 512, 512, 512], 512 * 4 * 4
    encoder = convolutions(3, widths, 3) + code * 256 + 256
    decoder = 256 * code + code + convolutions(512, [512, 512, 256, 128, 64, 64], 4) + 64 * 3 * 9 + 3
    mapping = convolutions(6, widths, 3) + code * 256 + 256
    shape = ImageShape(3, 256, 256)
    with torch.device("meta"):
        assert count(StandardAE(shape, **PLAIN.complete({}))) == encoder + decoder
        assert count(FreqLatentAE(shape, **FREQUENCY.complete({}))) == encoder + decoder + mapping


def test_the_code_of_the_details_is_added_to_the_latent_vector():
    torch.manual_seed(0)
    shape = ImageShape(3, 32, 32)
    model = FreqLatentAE(shape, **FREQUENCY.complete({**NARROW, "mapping_widths": [3]})).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        code = model.encode(images).code
        plain = model.autoencoder.encode(images).code
        torch.testing.assert_close(code, plain + model.mapping(model.details(images)))
        torch.testing.assert_close(model.decode(code), model.autoencoder.decode(code))
        for parameter in model.mapping[-1].parameters():
            parameter.zero_()
        torch.testing.assert_close(model.encode(images).code, plain)


def test_details_are_phase_over_pi_then_the_high_passed_image():
    shape = ImageShape(2, 32, 48)
    details = FrequencyDetails(shape, 3.0)
    images = torch.rand(2, 2, 32, 48, dtype=torch.float64)
    phase, high = details(images).chunk(2, dim=1)
    expected = torch.angle(torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1)))
    torch.testing.assert_close(torch.cos(phase * torch.pi), torch.cos(expected))
    assert phase.abs().max() <= 1
    torch.testing.assert_close(high.mean((2, 3)), torch.zeros(2, 2, dtype=torch.float64))  # the mean is removed
    assert high.std() > 0.2


def test_details_are_in_float32_under_bf16():
    details = FrequencyDetails(ImageShape(3, 32, 32), 3.0)
    images = torch.rand(2, 3, 32, 32)
    expected = details(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = details(images)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert details(images.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "params", "reason"),
    [
        (ImageShape(3, 32, 32), {"cutoff": 22.7}, "would leave nothing: the spectrum's corner is 22.6 pixels"),
        (ImageShape(3, 64, 64), {"cutoff": float("inf")}, "would leave nothing"),
        (ImageShape(3, 64, 64), {"mapping_widths": [8] * 7}, "halves its input 7 times"),
        (ImageShape(3, 64, 64), {"widths": [8] * 7}, "halves its input 7 times"),
    ],
)
def test_what_cannot_work_is_refused(shape, params, reason):
    (refusal,) = FREQUENCY.refusals(shape, FREQUENCY.complete(params))
    assert reason in refusal


def test_the_high_pass_at_the_refused_cutoff_is_empty_and_below_it_is_not():
    shape = ImageShape(3, 32, 32)
    assert not FrequencyDetails(shape, 22.7).high_pass.any()
    assert FrequencyDetails(shape, 22.6).high_pass.any()
