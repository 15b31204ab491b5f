"""The vector-quantized autoencoder: against the equations of its paper, written out, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from recbench.contracts.entries import ImageShape
from recbench_architectures import recbench_architectures
from recbench_architectures.vq import SMOOTHING, VQ, Codebook

ENTRY = next(entry for entry in recbench_architectures() if entry.name == "vq")
SHAPE = ImageShape(3, 16, 24)


@pytest.fixture
def network() -> VQ:
    torch.manual_seed(0)
    return VQ(SHAPE, **ENTRY.complete({"width": 8, "codes": 7, "dim": 4}))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_z_are_the_nearest_codes(network: VQ, images: torch.Tensor) -> None:
    network.eval()
    with torch.no_grad():
        z, maps = network.encode(images).mean, network.encoder(images)
    assert z.shape == (3, *network.latent_shape) == (3, 4, 4, 6)
    rows = [each.permute(0, 2, 3, 1).reshape(-1, 4).double().numpy() for each in (maps, z)]
    nearest = network.codebook.codes.double().numpy()[cdist(rows[0], network.codebook.codes).argmin(1)]
    np.testing.assert_allclose(rows[1], nearest, atol=1e-6)


def test_the_gradient_is_passed_on_and_the_commitment_pulls_at_the_encoder_alone(
    network: VQ, images: torch.Tensor
) -> None:
    network.eval()
    maps = network.encoder(images)
    posterior = network.encode(images)
    assert (posterior.has_kl, network.has_prior) == (False, False)
    assert torch.equal(posterior.kl(), torch.zeros(3))
    distance = (maps - posterior.mean).square().sum((1, 2, 3))
    torch.testing.assert_close(posterior.penalty(), 0.25 * distance)
    weight = torch.randn(3, 4, 4, 6)
    bias = network.encoder[-1].bias
    (passed,) = torch.autograd.grad((posterior.sample() * weight).sum(), bias, retain_graph=True)
    torch.testing.assert_close(passed, weight.sum((0, 2, 3)))
    (pulled,) = torch.autograd.grad(posterior.penalty().sum(), bias)
    torch.testing.assert_close(pulled, 0.5 * (maps - posterior.mean).sum((0, 2, 3)))
    assert all(not buffer.requires_grad for buffer in network.buffers())


def test_the_codebook_is_the_moving_average_of_appendix_a_1() -> None:
    torch.manual_seed(0)
    book = Codebook(4, 3, decay=0.9)
    counts, sums, codes = np.ones(4), book.codes.double().numpy().copy(), book.codes.double().numpy().copy()
    for step in range(5):
        vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(step))
        found = book(vectors)
        nearest = cdist(vectors, codes).argmin(1)
        np.testing.assert_allclose(found, codes[nearest], atol=1e-5)
        for k in range(4):
            own = vectors.double().numpy()[nearest == k]
            counts[k] = 0.9 * counts[k] + 0.1 * len(own)
            sums[k] = 0.9 * sums[k] + 0.1 * own.sum(0)
        smooth = (counts + SMOOTHING) / (counts.sum() + 4 * SMOOTHING) * counts.sum()
        codes = sums / smooth[:, None]
        np.testing.assert_allclose(book.codes, codes, rtol=1e-4, atol=1e-5)


def test_an_unused_code_never_becomes_nan() -> None:
    book = Codebook(3, 2, decay=0.5)
    for _ in range(300):
        book(torch.full((4, 2), 5.0))
    assert book.codes.isfinite().all()


def test_usage_and_perplexity_are_of_the_choices_of_an_epoch() -> None:
    book = Codebook(4, 1, decay=0.999999)
    book.codes.copy_(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    book.counts.fill_(1e6)  # so that codes stay where they are
    book.sums.copy_(1e6 * book.codes)
    book(torch.tensor([[0.1], [-0.1], [1.1], [0.0]]))
    book(torch.tensor([[3.1], [0.2], [1.0], [0.0]]))
    found = book.log()
    assert found == {"usage": 0.75, "perplexity": pytest.approx(np.exp(stats.entropy([5, 2, 1])))}
    assert book.log() == {"usage": 0.0, "perplexity": 1.0}, "the next epoch begins anew"


def test_it_learns_in_training_alone(network: VQ, images: torch.Tensor) -> None:
    before = network.codebook.codes.clone()
    network.eval()
    network.encode(images)
    assert torch.equal(network.codebook.codes, before)
    network.train()
    network.encode(images)
    assert not torch.equal(network.codebook.codes, before)


def test_codes_are_compared_in_float32_under_autocast(network: VQ, images: torch.Tensor) -> None:
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        posterior = network.encode(images)
    assert posterior.mean.dtype == posterior.penalty().dtype == network.codebook.codes.dtype == torch.float32


def test_every_parameter_is_trained(network: VQ, images: torch.Tensor) -> None:
    posterior = network.encode(images)
    (network.decode(posterior.sample()).square().sum() + posterior.penalty().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
