"""What every loss must do, put to all losses that this plugin yields. Keep this file when you copy the folder."""

import importlib
import subprocess
import sys

import pytest
import torch

import recbench_losses_pixel as plugin
from recbench.contracts.loss import Context, Loss, Setting
from recbench.entries import ImageShape

ENTRIES = {entry.name: entry for entry in plugin.recbench_losses()}
BATCH, LATENT = 3, 8


def create(entry):
    """The loss with its default parameters, as recbench makes it, for the smallest images from 16 pixels on."""
    channels = entry.requirements.channels[0] if entry.requirements.channels else 3
    step = entry.requirements.multiple_of
    size = -(-max(16, entry.requirements.minimum_size) // step) * step
    module, _, name = entry.factory.partition(":")
    torch.manual_seed(0)
    shape = ImageShape(channels, size, size)
    loss = getattr(importlib.import_module(module), name)(Setting(shape, LATENT), **entry.complete({}))
    return loss, (channels, size, size)


def pair(entry, shape, dtype=torch.float64):
    """Decoded and target images inside the entry's value range, and the context of a step."""
    generator = torch.Generator().manual_seed(1)
    low, high = entry.value_range
    decoded, target = low + (high - low) * (0.05 + 0.9 * torch.rand(2, BATCH, *shape, generator=generator, dtype=dtype))
    return decoded, target, Context(z=torch.randn(BATCH, LATENT, generator=generator, dtype=dtype), training=True)


@pytest.fixture(params=sorted(ENTRIES))
def entry(request):
    return ENTRIES[request.param]


def test_is_a_loss(entry):
    assert isinstance(create(entry)[0], Loss)


def test_gives_one_float32_value_for_each_image(entry):
    loss, shape = create(entry)
    value = loss(*pair(entry, shape, torch.float32))
    assert value.shape == (BATCH,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()


def test_an_image_is_judged_alone(entry):
    """The value of an image does not depend on the others of its batch: nothing is averaged or normalised over it."""
    loss, shape = create(entry)
    loss = loss.double()
    decoded, target, context = pair(entry, shape)
    whole = loss(decoded, target, context)
    for index in range(BATCH):
        one = slice(index, index + 1)
        alone = loss(decoded[one], target[one], Context(z=context.z[one], training=True))
        torch.testing.assert_close(whole[one], alone)


def test_gradient_is_the_slope(entry):
    loss, shape = create(entry)
    loss = loss.double()
    decoded, target, context = pair(entry, shape)
    decoded.requires_grad_()
    loss(decoded, target, context).sum().backward()
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(decoded.shape, generator=generator, dtype=decoded.dtype)
    with torch.no_grad():
        step = 1e-6 * direction
        slope = (loss(decoded + step, target, context) - loss(decoded - step, target, context)).sum() / 2e-6
    torch.testing.assert_close((decoded.grad * direction).sum(), slope, rtol=1e-5, atol=1e-6)


def test_gradient_is_finite_where_nothing_is_wrong(entry):
    """Square roots and norms have no gradient at zero, which is where training wants to go."""
    loss, shape = create(entry)
    _, target, context = pair(entry, shape, torch.float32)
    decoded = target.clone().requires_grad_()
    loss(decoded, target, context).sum().backward()
    assert decoded.grad.isfinite().all()


def test_the_target_itself_is_better_than_a_copy_with_noise(entry):
    loss, shape = create(entry)
    loss = loss.double()
    decoded, target, context = pair(entry, shape)
    noisy = target + 0.2 * (decoded - target)
    assert (loss(target, target, context) < loss(noisy, target, context)).all()


def test_listing_the_losses_imports_no_torch():
    code = f"import sys, {plugin.__name__}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
