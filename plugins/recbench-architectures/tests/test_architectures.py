"""Requirements of every architecture with a vector z, at any size and number of channels that it takes."""

from importlib import import_module

import pytest
import torch

from recbench.contracts.architecture import Architecture, Deterministic
from recbench.contracts.entries import ArchitectureEntry, ImageShape
from recbench_architectures import recbench_architectures

ENTRIES = {
    entry.name: entry for entry in recbench_architectures() if entry.trainable and entry.parameter("latent_size")
}
NARROW = {"widths": [4, 6], "latent_size": 5, "hidden": 12, "mapping_widths": [3, 4], "cutoff": 2.0, "blocks": 2}

pytestmark = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


def create(entry: ArchitectureEntry, shape: ImageShape, **params: object) -> Architecture:
    complete = entry.complete(params)
    assert not entry.refusals(shape, complete)
    torch.manual_seed(0)
    module, name = str(entry.factory).split(":")
    model = getattr(import_module(module), name)(shape, **complete)
    assert isinstance(model, Architecture)
    return model


def narrow(entry: ArchitectureEntry, shape: ImageShape, **params: object) -> Architecture:
    """One small enough to run in a blink: the family's parameters that it has."""
    few = {key: value for key, value in NARROW.items() if entry.parameter(key)}
    return create(entry, shape, **{**few, **params})


def made_up_images(entry: ArchitectureEntry, shape: ImageShape, count: int = 3) -> torch.Tensor:
    low, high = entry.value_range
    generator = torch.Generator().manual_seed(1)
    return low + (high - low) * torch.rand(count, shape.channels, shape.height, shape.width, generator=generator)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("sides", [(32, 32), (64, 64), (96, 96), (32, 64), (20, 36)])
def test_images_come_back_in_their_shape_and_range(entry, sides, channels):
    shape = ImageShape(channels, *sides)
    model, images = narrow(entry, shape), made_up_images(entry, shape)
    posterior = model.encode(images)
    assert posterior.mean.shape == posterior.sample().shape == (3, model.latent_size) == (3, 5)
    decoded = model.decode(posterior.sample())
    assert decoded.shape == images.shape
    low, high = entry.value_range
    assert low <= decoded.min() <= decoded.max() <= high


@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_the_published_widths_fit_the_published_sizes(entry, side):
    with torch.device("meta"):  # shapes without data: no memory and no time, whatever the size
        shape = ImageShape(3, side, side)
        model = create(entry, shape).eval()
        mean = model.encode(torch.empty(1, 3, side, side)).mean
        assert mean.shape == (1, 256)
        assert model.decode(mean).shape == (1, 3, side, side)


def test_every_parameter_is_trained(entry):
    """No layer is left out of the way from the image to the reconstruction."""
    shape = ImageShape(3, 32, 32)
    model = narrow(entry, shape)
    posterior = model.encode(made_up_images(entry, shape))
    weight = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    ((model.decode(posterior.sample()) * weight).sum() + posterior.kl().sum()).backward()
    untrained = [
        name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert not untrained


def test_evaluation_is_deterministic_and_of_each_image_alone(entry):
    shape = ImageShape(3, 32, 32)
    model, images = narrow(entry, shape).eval(), made_up_images(entry, shape)
    with torch.no_grad():
        first, again = (model.decode(model.encode(images).mean) for _ in range(2))
        alone = model.decode(model.encode(images[1:2]).mean)
    assert torch.equal(first, again)
    torch.testing.assert_close(alone, first[1:2], atol=1e-5, rtol=1e-5)


def test_a_step_repeats_itself_where_algorithms_must_be_deterministic(entry):
    shape = ImageShape(3, 32, 32)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            model, images = narrow(entry, shape), made_up_images(entry, shape)
            model.decode(model.encode(images).mean).square().sum().backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(before)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_channels_last_changes_nothing(entry):
    shape = ImageShape(3, 32, 32)
    model, images = narrow(entry, shape).double().eval(), made_up_images(entry, shape).double()
    with torch.no_grad():
        expected = model.decode(model.encode(images).mean)
        model.to(memory_format=torch.channels_last)
        decoded = model.decode(model.encode(images.to(memory_format=torch.channels_last)).mean)
    torch.testing.assert_close(decoded, expected)


def test_it_trains_in_bf16(entry):
    shape = ImageShape(3, 32, 32)
    model, images = narrow(entry, shape), made_up_images(entry, shape)
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.encode(images)
    posterior = posterior.float()
    with torch.autocast("cpu", torch.bfloat16):
        decoded = model.decode(posterior.sample())
    (decoded.float().square().sum() + posterior.kl().sum()).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


def test_images_can_be_differentiated(entry):
    shape = ImageShape(3, 32, 32)
    model, images = narrow(entry, shape), made_up_images(entry, shape)
    images[0] = 0.25  # without details
    images.requires_grad_()
    model.decode(model.encode(images).mean).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_a_code_without_noise_has_no_divergence(entry):
    shape = ImageShape(3, 32, 32)
    posterior = narrow(entry, shape).encode(made_up_images(entry, shape))
    deterministic = entry.name in ("standard_ae", "freq_latent_ae")
    assert isinstance(posterior, Deterministic) == deterministic
    assert torch.equal(posterior.kl(), torch.zeros(3)) == deterministic


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (ImageShape(3, 8, 8), "at least 16 pixels"),
        (ImageShape(3, 512, 512), "at most 256 pixels"),
        (ImageShape(3, 48, 42), "sides must be multiples of"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(entry, shape, reason):
    (refusal,) = entry.refusals(shape, entry.complete({}))
    assert reason in refusal


def test_sizes_have_bounds(entry):
    for parameter in entry.parameters:
        if parameter.type in (int, list[int]):
            for value in (-1, 10**7):
                with pytest.raises(ValueError, match=r"minimum|maximum"):
                    parameter.coerce([value] if parameter.type == list[int] else value)


def test_it_says_where_it_is_from_and_what_is_ours(entry):
    assert entry.citation
    assert entry.notes
