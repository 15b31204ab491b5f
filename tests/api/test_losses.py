"""``recbench.loss``: the value and gradient of a suite, in a training loop of one's own."""

from __future__ import annotations

import copy

import pytest
import torch

import recbench
from recbench import Context, Setting, UserError
from recbench.contracts.entries import ImageShape
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.conftest import ROOT


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 3, 32, 32, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def test_three_lines_train(pair):
    decoded, target = pair[0].requires_grad_(), pair[1]
    loss = recbench.loss("wiener", shape=(3, 32, 32), kernel="gaussian")
    value = loss(decoded, target)
    value.mean().backward()
    assert value.shape == (4,)
    assert decoded.grad is not None and decoded.grad.abs().sum() > 0


def test_values_are_those_of_the_plugin_whatever_the_range(pair):
    decoded, target = pair
    entry = Registry(load_plugins()).get("losses", "charbonnier")
    plain = entry.create({}, Setting(ImageShape(3, 32, 32), 8))(decoded, target, Context())
    assert torch.equal(recbench.loss("charbonnier", shape=(3, 32, 32))(decoded, target), plain)
    shifted = recbench.loss("charbonnier", shape=(3, 32, 32), value_range=(-1, 1))
    torch.testing.assert_close(shifted(2 * decoded - 1, 2 * target - 1), plain)
    assert shifted(2 * decoded.bfloat16() - 1, 2 * target.bfloat16() - 1).dtype == torch.float32


def test_the_auxiliary_objective_is_stepped_as_in_a_suite(pair):
    """Two steps of a model: the generator's weights equal those of the alternation that the core does."""
    decoded, target = pair
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    loss = recbench.loss("wiener", shape=(3, 32, 32), kernel_size=5, hidden=16)
    assert list(loss.parameters()) == []
    values = [loss(decoded.clone().requires_grad_(), target, z=z) for _ in range(1)]
    twin = copy.deepcopy(loss.loss)
    values[0].sum().backward()
    auxiliary = twin.auxiliary()
    assert auxiliary is not None
    optimizer = torch.optim.Adam(auxiliary.parameters, lr=auxiliary.learning_rate)
    for _ in range(2):
        optimizer.zero_grad()
        auxiliary.objective(decoded, target, Context(z=z)).mean().backward()
        optimizer.step()
    loss(decoded.clone().requires_grad_(), target, z=z).sum().backward()
    loss(decoded, target, z=z)
    own = dict(loss.loss.state_dict())
    assert own.keys() == dict(twin.state_dict()).keys()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(own[name], value)
    assert set(loss.state_dict()) == {f"loss.{name}" for name in own}


def test_a_value_without_a_gradient_steps_nothing(pair):
    z = torch.randn(4, 8)
    loss = recbench.loss("wiener", shape=(3, 32, 32), latent_size=8, kernel_size=5, hidden=16)
    before = copy.deepcopy(loss.state_dict())
    for _ in range(3):
        loss(*pair, z=z)
    loss.eval()
    loss(pair[0].clone().requires_grad_(), pair[1], z=z).sum().backward()
    loss(*pair, z=z)
    assert all(torch.equal(before[name], value) for name, value in loss.state_dict().items())


def test_two_values_may_share_one_backward_pass(pair):
    z = torch.randn(4, 8)
    loss = recbench.loss("wiener", shape=(3, 32, 32), kernel_size=5, hidden=16)
    decoded = pair[0].requires_grad_()
    for _ in range(2):
        (loss(decoded, pair[1], z=z) + loss(decoded, pair[1], z=z)).sum().backward()


def test_a_spatial_latent_is_taken_as_a_vector(pair):
    z = torch.randn(4, 2, 2, 3)
    flat, spatial, late = (
        recbench.loss("wiener", shape=(3, 32, 32), kernel_size=5, hidden=16, warmup_epochs=0, **known)
        for known in ({"latent_size": 12}, {"latent_size": 12}, {})
    )
    expected = flat(*pair, z=z.flatten(1))
    assert torch.equal(spatial(*pair, z=z), expected)
    assert torch.equal(late(*pair, z=z), expected)
    assert late.setting.latent_shape == (2, 2, 3)


def test_extras_of_a_decoder_are_passed_on(pair):
    file = ROOT / "docs" / "examples" / "learned_variance.py"
    loss = recbench.loss("learned_variance", shape=(3, 32, 32), value_range=(-1, 1), plugins=[file])
    log_variance = torch.randn(4, 3, 32, 32)
    normal = torch.distributions.Normal(pair[0], (0.5 * log_variance).exp())
    expected = normal.log_prob(pair[1]).sum((1, 2, 3))
    extras = {"log_variance": log_variance}
    torch.testing.assert_close(loss(*pair, extras=extras), -expected)
    torch.testing.assert_close(loss.log_prob(*pair, extras=extras), expected)


def test_creating_a_loss_leaves_random_states_alone_and_is_repeatable():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (recbench.loss("wiener", shape=(3, 32, 32), latent_size=8, hidden=4) for _ in range(2))
    other = recbench.loss("wiener", shape=(3, 32, 32), latent_size=8, hidden=4, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    same, differ = ([torch.equal(a, b) for a, b in zip(first.state_dict().values(), each.state_dict().values(),
                    strict=True)] for each in (second, other))  # fmt: skip
    assert all(same) and not all(differ)


def test_trained_parameters_are_given_to_the_optimizer():
    loss = recbench.loss("barron", shape=(3, 32, 32), representation="pixel")
    assert len(list(loss.parameters())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "wienr"}, "there is no loss 'wienr'; did you mean 'wiener'?"),
        ({"variances": 2.0}, "wiener has no parameter 'variances'; did you mean 'variance'?"),
        ({"variance": "wide"}, "wiener: "),
        ({"shape": (64, 64)}, "shape must be (channels, height, width), such as (3, 64, 64), got (64, 64)"),
        ({"shape": (3, 8, 8)}, "wiener cannot take 3x8x8 images: it needs a kernel_size of at most"),
        ({"value_range": (1, 0)}, "value_range must be (lowest, highest), such as (-1, 1), got (1, 0)"),
        ({"latent_size": 0}, "latent_size must be a whole number from 1, got 0"),
        ({"plugins": "mine.py"}, "plugins must be a list of files, such as plugins=['mine.py']"),
        ({"plugins": ["nowhere.py"]}, "nowhere.py"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(UserError) as error:
        recbench.loss(**{"name": "wiener", "shape": (3, 32, 32), **arguments})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_bad_images_are_one_sentence(pair):
    decoded, target = pair
    loss = recbench.loss("wiener", shape=(3, 32, 32))
    for arguments, extra, message in [
        ((decoded[:, :1], target), {}, "wiener: decoded must have the shape (B, 3, 32, 32), got (4, 1, 32, 32)"),
        ((decoded, target[:2]), {}, "wiener: target must have the shape (4, 3, 32, 32), got (2, 3, 32, 32)"),
        ((decoded, target.byte()), {}, "target must be a floating-point tensor (B, C, H, W), got torch.uint8"),
        ((decoded, None), {}, "got NoneType"),
        ((decoded, target), {}, "needs the latent z"),
        ((decoded, target), {"z": torch.zeros(2, 8)}, "z must be a tensor (4, latent_size), got (2, 8)"),
    ]:
        with pytest.raises(UserError) as error:
            loss(*arguments, **extra)
        assert message in str(error.value)
    loss(decoded, target, z=torch.zeros(4, 8))
    with pytest.raises(UserError, match="z has 9 elements, but the loss was created with 8"):
        loss(decoded, target, z=torch.zeros(4, 9))
    with pytest.raises(UserError, match="charbonnier is not a likelihood"):
        recbench.loss("charbonnier", shape=(3, 32, 32)).log_prob(decoded, target)
