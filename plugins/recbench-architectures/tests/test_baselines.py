"""PCA against numpy's SVD, and downsampling; neither draws anything, and both stand few or equal images."""

import numpy as np
import pytest
import torch

from recbench.contracts.architecture import Fitted
from recbench.contracts.entries import ImageShape
from recbench_architectures import baselines, recbench_architectures
from recbench_architectures.baselines import PCA, Downsample, largest_eigenpairs, small_sides

SHAPE = ImageShape(2, 4, 6)
ENTRIES = {entry.name: entry for entry in recbench_architectures() if not entry.trainable}


def images_of(count, seed=0, shape=SHAPE):
    """Correlated images: few directions with much variance, many with little."""
    generator = np.random.default_rng(seed)
    size = shape.channels * shape.height * shape.width
    mix = generator.normal(size=(size, size)) * np.geomspace(1, 0.01, size)[:, None]
    flat = 0.2 + 0.1 * generator.normal(size=(count, size)) @ mix
    return torch.from_numpy(flat.astype(np.float32)).reshape(count, shape.channels, shape.height, shape.width)


def fitted(images, size, kind=PCA, shape=SHAPE):
    network = kind(shape, latent_size=size)
    network.fit(lambda: images.split(7))
    return network


@pytest.mark.parametrize(("count", "size"), [(200, 5), (200, 48), (20, 5)], ids=["many", "all components", "few"])
def test_reconstructions_are_those_of_the_svd(count, size):
    images, others = images_of(count), images_of(9, seed=1)
    network = fitted(images, size)
    flat = images.flatten(1).double().numpy()
    mean = flat.mean(0)
    _, singular, right = np.linalg.svd(flat - mean, full_matrices=False)
    apart = others.flatten(1).double().numpy() - mean
    expected = mean + apart @ right[:size].T @ right[:size]
    decoded = network.decode(network.encode(others).mean).flatten(1)
    np.testing.assert_allclose(decoded, expected, atol=2e-5)
    np.testing.assert_allclose(network.scale, singular[:size] / np.sqrt(count - 1), rtol=1e-4)


def test_z_of_the_training_images_has_mean_0_and_the_unit_covariance():
    images = images_of(300)
    z = fitted(images, 6).encode(images).mean
    np.testing.assert_allclose(np.cov(z.T), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(z.mean(0), np.zeros(6), atol=1e-3)


def test_it_is_the_least_mean_squared_error_of_its_size():
    images = images_of(300)
    pca, smaller = fitted(images, 12), fitted(images, 12, Downsample)
    errors = [(net.decode(net.encode(images).mean) - images).square().mean() for net in (pca, smaller)]
    assert errors[0] < errors[1]
    assert errors[0] < (fitted(images, 11).decode(fitted(images, 11).encode(images).mean) - images).square().mean()


@pytest.mark.parametrize("images", [images_of(3), images_of(1).repeat(5, 1, 1, 1)], ids=["3 images", "equal images"])
def test_more_components_than_images_or_no_variance(images):
    network = fitted(images, 10)
    decoded = network.decode(network.encode(images).mean)
    torch.testing.assert_close(decoded, images, atol=1e-5, rtol=0)
    assert network.decode(torch.randn(4, 10)).isfinite().all()


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="pca needs at least 2 training images, not 1"):
        fitted(images_of(1), 3)


def test_lapack_and_arpack_agree(monkeypatch):
    covariance = np.cov(images_of(300).flatten(1).numpy().T)
    dense = largest_eigenpairs(covariance, 5)
    monkeypatch.setattr(baselines, "DENSE", 10)
    for one, other in zip(dense, largest_eigenpairs(covariance, 5), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


def test_batches_make_no_difference():
    images = images_of(100)
    whole = PCA(SHAPE, latent_size=4)
    whole.fit(lambda: [images])
    torch.testing.assert_close(whole.components, fitted(images, 4).components, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((3, 32, 32), 128, (6, 6)), ((3, 64, 64), 256, (9, 9)), ((1, 8, 8), 1000, (8, 8)), ((3, 32, 64), 3, (1, 1)),
     ((3, 4, 4), 27, (3, 3))],
)  # fmt: skip
def test_the_smaller_image_has_room(shape, size, expected):
    assert small_sides(ImageShape(*shape), size) == expected
    assert shape[0] * expected[0] * expected[1] <= size


def test_downsampling_keeps_means_of_areas():
    shape = ImageShape(1, 4, 4)
    images = images_of(30, shape=shape)
    network = fitted(images, 5, Downsample, shape)
    z = network.encode(images).mean
    assert z.shape == (30, 5)
    assert not z[:, 4:].any(), "entries beyond the pixels"
    pixels = torch.nn.functional.avg_pool2d(images, 2).flatten(1)
    np.testing.assert_allclose(z[:, :4] * network.scale + network.mean, pixels, atol=1e-6)
    flat = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(network.decode(network.encode(flat).mean), flat.contiguous(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["pca", "downsample"])
def test_entries_say_that_they_are_not_trained_and_what_they_refuse(name):
    entry = ENTRIES[name]
    assert not entry.trainable
    assert not entry.refusals(ImageShape(3, 64, 64), entry.complete({"latent_size": 64}))
    too_few = entry.refusals(ImageShape(3, 4, 4), entry.complete({"latent_size": {"pca": 49, "downsample": 2}[name]}))
    assert len(too_few) == 1
    large = entry.refusals(ImageShape(3, 256, 256), entry.complete({}))
    assert bool(large) == (name == "pca")


@pytest.mark.parametrize("kind", [PCA, Downsample])
def test_what_is_fitted_is_stored_and_filled_into_a_new_network(kind):
    network, images = fitted(images_of(60), 6, kind), images_of(3, seed=2)
    again = kind(SHAPE, latent_size=6)
    again.load_state_dict(network.state_dict())
    assert isinstance(again, Fitted)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(again.decode(again.encode(images).mean), network.decode(network.encode(images).mean))
