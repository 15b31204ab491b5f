"""The conformance test of architectures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.contracts.architecture import Architecture, Decoded, Fitted, Posterior
from recbench.contracts.checked import (
    check_decoded,
    check_epoch_log,
    check_finite,
    check_independent,
    check_latent,
    check_module,
    check_posterior,
    check_unseeded,
    expanded,
    read_only,
    respected,
    set_latent_shape,
)
from recbench.contracts.entries import ArchitectureEntry, ImageShape
from recbench.testing.case import BATCH, EntryCase


@dataclass(frozen=True)
class ArchitectureCase(EntryCase):
    """One check of one architecture, with given parameters and images of one shape."""

    entry: ArchitectureEntry
    shape: ImageShape

    def create(self) -> Architecture:
        """Return the network as the core creates it, with fixed initial weights.

        Raises:
            AssertionError: the factory returns something other than an architecture with a latent size.
        """
        made = self.make(self.shape)
        assert isinstance(made, Architecture), f"expected an Architecture, got {type(made).__name__}"
        set_latent_shape(self.entry.name, made)
        says = f"as its network does, got has_prior={self.entry.has_prior}"
        assert made.has_prior == self.entry.has_prior, f"expected the entry to say has_prior={made.has_prior}, {says}"
        wanted = "no Fitted" if self.entry.trainable else "a Fitted, as trainable=False says"
        assert isinstance(made, Fitted) != self.entry.trainable, f"expected {wanted}, got {type(made).__name__}"
        if isinstance(made, Fitted):
            made.fit(lambda: [self.images()])
        return made

    def images(self) -> Tensor:
        """Return three images in the architecture's value range, float32 (B, C, H, W)."""
        low, high = self.entry.value_range
        return (low + (high - low) * self.pixels()).float()


def the_passes_keep_their_shapes(case: ArchitectureCase) -> None:
    """A batch is encoded to a posterior with samples, means and divergences, and decoded to images of its shape."""
    network, images, name = case.create().train(), case.images(), case.entry.name
    with read_only(name, "encode", images=images):
        posterior = network.encode(images)
    _check(case, network, posterior, len(images))
    z = posterior.sample()
    with read_only(name, "decode", z=z):
        decoded = network.decode(z)
    check_decoded(name, decoded, images)
    _check_finite(name, decoded)
    single = posterior.float()
    assert isinstance(single, Posterior), f"expected float() to return a Posterior, got {type(single).__name__}"
    assert single.mean.dtype == torch.float32, f"expected float() to return float32, got {single.mean.dtype}"
    check_epoch_log(name, network.log())


def _check(case: ArchitectureCase, network: Architecture, posterior: Posterior, count: int) -> None:
    check_posterior(case.entry.name, posterior, count, network.latent_shape)
    check_latent(case.entry.name, posterior.sample(), count, network.latent_shape)
    kl = posterior.kl()
    check_finite(case.entry.name, "the posterior's kl()", kl)
    assert (kl >= -1e-3).all(), f"expected divergences that are not negative, got {kl.tolist()}"
    assert posterior.has_kl or not kl.any(), "expected kl() to be zeros where has_kl is False"
    check_finite(case.entry.name, "the posterior's penalty()", posterior.penalty())
    assert case.entry.has_kl or not posterior.has_kl, "the entry says has_kl=False, but its posterior has a divergence"


def _check_finite(name: str, returned: Tensor | Decoded) -> None:
    output = Decoded.of(returned)
    for values in (output.images, *output.extras.values()):
        check_finite(name, "decode", values)


def _images(network: Architecture, z: Tensor) -> Tensor:
    """Return the decoded images alone, in the precision that they come in."""
    returned = network.decode(z)
    return returned.images if isinstance(returned, Decoded) else returned


def both_halves_learn(case: ArchitectureCase) -> None:
    """A gradient reaches trained parameters through the encoder and through the decoder; not of what is fitted."""
    if not case.entry.trainable:
        return
    network, images = case.create().train(), case.images()
    posterior = network.encode(images)
    z = posterior.sample()
    (slope,) = torch.autograd.grad(_images(network, z).square().sum(), z, retain_graph=True)
    assert slope.isfinite().all() and slope.abs().sum() > 0, "no gradient reaches the latent samples from the decoder"
    _images(network, z).square().sum().backward()  # type: ignore[no-untyped-call]
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learning), "no parameter gets a gradient"


def images_are_independent_in_evaluation(case: ArchitectureCase) -> None:
    """In evaluation, other images of a batch have no influence; a batch may be a single image."""
    network, images = case.create().eval(), case.images()

    def passes(batch: Tensor, _: Tensor) -> Tensor:
        mean = network.encode(batch).float().mean
        output = Decoded.of(network.decode(mean))
        return torch.cat([each.flatten(1) for each in (mean, output.images, *output.extras.values())], dim=1)

    with torch.no_grad():
        check_independent(case.entry.name, "encode and decode in evaluation", passes, images, images, "")
        check_decoded(case.entry.name, network.decode(network.encode(images[:1]).mean), images[:1])


def same_seed_gives_same_passes(case: ArchitectureCase) -> None:
    """Two networks made and used with one seed give bitwise equal images, with deterministic algorithms only."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        ends = []
        for _ in range(2):
            network = case.create().train()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                ends.append(_images(network, network.encode(case.images()).sample()))
    finally:
        torch.set_deterministic_debug_mode(before)
    assert torch.equal(*ends), "two runs with the same seed give different images"


def its_global_state_and_its_own(case: ArchitectureCase) -> None:
    """Global state is left alone, and parameters and buffers can be stored and filled into a second network."""
    name, images = case.entry.name, case.images()
    with respected(name, "its constructor"):
        network = case.create()
    with respected(name, "encode and decode"):
        network.decode(network.encode(images).sample())
    check_unseeded(name, "encode and decode", lambda: network.decode(network.encode(images).sample()))
    check_module(name, network)
    shared = expanded(network)
    assert not shared, f"expected buffers with memory of their own, but {', '.join(shared)} is expanded: .clone() it"
    case.create().load_state_dict(network.state_dict())


def it_runs_in_bf16(case: ArchitectureCase) -> None:
    """Under bf16 autocast, as ``precision: bf16`` runs it, the passes keep their shapes and stay finite."""
    network, images = case.create().train(), case.images()
    with torch.autocast("cpu", torch.bfloat16):
        posterior = network.encode(images)
    _check(case, network, posterior.float(), BATCH)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = network.decode(posterior.float().sample())
    check_decoded(case.entry.name, decoded, images)
    _check_finite(case.entry.name, decoded)


def evaluation_changes_nothing(case: ArchitectureCase) -> None:
    """In evaluation, parameters and buffers stay as they are: a codebook learns in training alone."""
    network = case.create().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network.decode(network.encode(case.images()).sample())
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert not changed, f"expected evaluation to leave buffers as they are, but {', '.join(changed)} changes"


def the_prior_is_drawn_from(case: ArchitectureCase) -> None:
    """Draws from the prior have the shape of z, come from the given generator alone, and can be decoded."""
    network, name = case.create().eval(), case.entry.name
    if not network.has_prior:
        return
    before = torch.get_rng_state()
    draws = [network.sample(count, torch.Generator().manual_seed(3)) for count in (BATCH, BATCH - 1)]
    assert torch.equal(before, torch.get_rng_state()), "expected sample() to draw from its generator, not torch's own"
    check_latent(name, draws[0], BATCH, network.latent_shape, "sample(n, generator)")
    assert torch.equal(draws[0][:-1], draws[1]), "expected the first draws of sample() whatever their number"
    with torch.no_grad():
        check_decoded(name, network.decode(draws[0]), case.images())


ARCHITECTURE_CHECKS = (
    the_passes_keep_their_shapes,
    both_halves_learn,
    images_are_independent_in_evaluation,
    same_seed_gives_same_passes,
    its_global_state_and_its_own,
    it_runs_in_bf16,
    evaluation_changes_nothing,
    the_prior_is_drawn_from,
)
