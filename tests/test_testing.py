"""The conformance test itself: it finds every known way of breaking the contract, and nothing else."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.entries import LossEntry, Parameter, Requirements, Weights
from recbench.contracts.loss import Auxiliary, Context, Likelihood, Loss, Setting
from recbench.testing import CHECKS, imports_no_torch, loss_cases

PER_IMAGE = (1, 2, 3)
Value = Callable[[Tensor, Tensor], Tensor]


class Written(Loss):
    """A loss from one expression."""

    def __init__(self, setting: Setting, *, value: Value) -> None:
        super().__init__()
        self.value = value

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return self.value(decoded, target)


def entry(value: Value) -> LossEntry:
    return LossEntry(name="written", factory=partial(Written, value=value), summary="")


def squares(decoded: Tensor, target: Tensor) -> Tensor:
    return (decoded - target).square().sum(PER_IMAGE)


def failing(*entries: LossEntry) -> set[str]:
    """Names of the checks that find something wrong."""
    found = set()
    for case in loss_cases(entries):
        try:
            case.run()
        except unittest.SkipTest:
            continue
        except AssertionError:
            found.add(case.check.__name__)
    return found


def test_a_sound_loss_passes() -> None:
    assert not failing(entry(squares))


class _TripledBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, difference: Tensor) -> Tensor:
        ctx.save_for_backward(difference)
        return difference.square().sum(PER_IMAGE)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (difference,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 3 * difference * gradient[:, None, None, None]


class _ConstantBackward(torch.autograd.Function):
    """A correct first derivative, which is a constant for the second."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, difference: Tensor) -> Tensor:
        ctx.save_for_backward((2 * difference).detach())
        return difference.square().sum(PER_IMAGE)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return slope.detach() * gradient[:, None, None, None]


def _in_place(decoded: Tensor, target: Tensor) -> Tensor:
    value = squares(decoded, target)
    target.clamp_(max=0.5)
    return value


def _contiguous_only(decoded: Tensor, target: Tensor) -> Tensor:
    """Ignores the strides of its argument."""
    size = decoded.shape
    return squares(decoded.as_strided(size, torch.empty(size).stride()), target.contiguous())


@pytest.mark.parametrize(
    ("value", "check"),
    [
        (lambda d, t: squares(d, t).mean(), "one_value_for_each_image"),
        (lambda d, t: squares(d, t).double(), "one_value_for_each_image"),
        (_in_place, "one_value_for_each_image"),
        (lambda d, t: squares(d, t) / squares(d, t).mean().clamp(min=1e-9), "images_are_independent"),
        (lambda d, t: squares(d, t) + 0 * d.std(0).sum(), "images_are_independent"),
        (lambda d, t: _TripledBackward.apply(d - t), "gradient_is_the_slope"),
        (lambda d, t: squares(d, t).sqrt(), "gradients_are_finite"),
        (lambda d, t: squares(d, t) / d.var(PER_IMAGE), "gradients_are_finite"),
        (lambda d, t: squares(d + 0.01, t), "the_minimum_is_at_identity"),
        (lambda d, t: (5 * squares(d, t)).clamp(max=0.5), "grows_with_noise"),
        (lambda d, t: -(d - t).abs().sum(PER_IMAGE), "grows_with_noise"),
        (lambda d, t: (d.mean(PER_IMAGE) - t.mean(PER_IMAGE)).square(), "grows_with_blur"),
        (lambda d, t: (squares(d, t) + 1e7) - 1e7, "float32_is_close_to_float64"),
        (lambda d, t: squares(d, t) * (1 + 1e-3 * next(DRIFT)), "same_seed_gives_same_result"),
        (_contiguous_only, "memory_layout_does_not_matter"),
        (lambda d, t: _ConstantBackward.apply(d - t), "differentiable_twice_or_refused"),
    ],
)
def test_what_is_wrong_is_found(value: Value, check: str) -> None:
    assert check in failing(entry(value))


DRIFT = iter(range(10**9))


class Pair(Likelihood):
    """A likelihood with an auxiliary objective, correct or broken."""

    def __init__(self, setting: Setting, *, broken: str) -> None:
        super().__init__()
        self.broken = broken
        self.used = nn.Parameter(torch.ones(()))
        self.unused = nn.Parameter(torch.ones(()))

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return squares(decoded, target)

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        value = -squares(decoded, target)
        return {"sign": -value, "log": value.abs().log(), "mean": value.mean()}.get(self.broken, value)

    def auxiliary(self) -> Auxiliary:
        parameters = (self.used, self.unused) if self.broken == "unused" else (self.used,)
        return Auxiliary(parameters, 1e-3, self.objective)

    def objective(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        value = self.used * squares(decoded, target)
        return value.mean() if self.broken == "objective" else value


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ("", None),
        ("sign", "a_likelihood_is_finite_and_best_at_identity"),
        ("log", "a_likelihood_is_finite_and_best_at_identity"),
        ("mean", "a_likelihood_is_finite_and_best_at_identity"),
        ("unused", "auxiliary_objective_trains_its_parameters"),
        ("objective", "auxiliary_objective_trains_its_parameters"),
    ],
)
def test_likelihoods_and_auxiliary_objectives(broken: str, check: str | None) -> None:
    entry = LossEntry(name="pair", factory=partial(Pair, broken=broken), summary="")
    assert failing(entry) == ({check} if check else set())


def test_couples_batch_is_taken_at_its_word() -> None:
    def coupled(decoded: Tensor, target: Tensor) -> Tensor:
        return squares(decoded, target) * (1 + target.mean())

    told = LossEntry(name="coupled", factory=partial(Written, value=coupled), summary="", couples_batch=True)
    assert failing(entry(coupled)) == {"images_are_independent"}
    assert not failing(told)


def test_cases_are_of_shapes_that_the_loss_takes() -> None:
    def check(shape, params):
        if shape.height < params["least"]:
            yield "is too small"

    parameters = (Parameter("least", int, 8, ""),)
    some = LossEntry(
        name="some",
        factory=Written,
        summary="",
        parameters=parameters,
        requirements=Requirements(channels=(1,)),
        check=check,
    )
    shapes = {str(case.shape) for case in loss_cases([some], {"some": [{}, {"least": 33}]})}
    assert shapes == {"1x16x16", "1x64x64"}
    assert len(loss_cases([some])) == len(CHECKS)
    with pytest.raises(ValueError, match="accepts no square images"):
        loss_cases([some], {"some": [{"least": 1000}]})
    with pytest.raises(ValueError, match="the plugin has no other"):
        loss_cases([some], {"other": [{}]})


def test_missing_weights_skip_a_case() -> None:
    file = Weights(file="nowhere.pth", address="https://example.org/x", sha256="0" * 64, size=1, licence="MIT")
    needy = LossEntry(name="needy", factory=partial(Written, value=squares), summary="", weights=(file,))
    with pytest.raises(unittest.SkipTest, match=r"nowhere\.pth"):
        loss_cases([needy])[0].run()


def test_a_factory_that_returns_something_else() -> None:
    entry = LossEntry(name="identity", factory=lambda setting: nn.Identity(), summary="")
    with pytest.raises(AssertionError, match="to return a Loss, got Identity"):
        loss_cases([entry])[0].run()


@pytest.mark.slow
def test_a_plugin_that_imports_torch_is_found() -> None:
    import recbench.contracts.entries
    import recbench.testing

    imports_no_torch(recbench.contracts.entries)
    with pytest.raises(AssertionError, match=r"importing recbench\.testing imports torch"):
        imports_no_torch(recbench.testing)
