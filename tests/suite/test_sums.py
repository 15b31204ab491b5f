"""Weighted sums of losses in suite files: parameters, grids, tuning, problems, identity, resolved text."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbench.errors import SuiteError
from recbench.plan.model import Method
from recbench.plan.tuning import Axis
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import Suite, load_suite

REGISTRY = Registry(load_plugins())
HEAD = """\
name: sums
datasets: [{name: shapes, params: {size: 32, train: 8, test: 4, validation: 4}}]
architectures: [vae_bredell_small]
metrics: [psnr, ssim]
seeds: [0]
training: {epochs: 1}
"""
TUNED = HEAD + "tuning: {budget: 2, strategy: random, kl_weight: {low: 0.1, high: 1}, select: {metric: psnr}"


def load(tmp_path: Path, losses: str, head: str = HEAD) -> Suite:
    file = tmp_path / "suite.yaml"
    file.write_text(f"{head}losses:\n{losses}")
    return load_suite(file, REGISTRY)


def problems(tmp_path: Path, losses: str, head: str = HEAD) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, losses, head)
    return [str(problem).partition("suite.yaml:")[2] for problem in caught.value.problems]


def test_a_sum_spans_a_grid_and_has_the_parameters_of_its_parts(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        "  - sum: [l1, {name: charbonnier, weight: {grid: [0.1, 1]}, params: {epsilon: 0.01}}]\n    kl_weight: 0.5\n",
    ).plan
    assert [m.label for m in plan.methods] == ["l1+charbonnier charbonnier.weight=" + w for w in ("0.1", "1")]
    assert plan.methods[0].loss.name == "sum:l1+charbonnier"
    assert plan.methods[0].loss.params == {"l1.weight": 1.0, "charbonnier.weight": 0.1, "charbonnier.epsilon": 0.01}
    assert {m.kl_weight for m in plan.methods} == {0.5}


def test_a_loss_may_stand_in_a_sum_twice(tmp_path: Path) -> None:
    (method,) = load(tmp_path, "  - {sum: [ssim, {name: ssim, params: {window: 5}}], label: two}\n").plan.methods
    assert method.label == "two"
    assert (method.loss.params["ssim.window"], method.loss.params["ssim#2.window"]) == (11, 5)


def test_a_sum_is_of_the_families_of_its_parts(tmp_path: Path) -> None:
    one, both = load(tmp_path, "  - l1\n  - sum: [l1, ssim]\n").plan.methods
    assert one.families == ("pixel",)
    assert both.families == ("pixel", "ssim")


def test_plans_from_before_sums_can_be_read() -> None:
    old = {"label": "l1", "loss": {"name": "l1"}, "kl_weight": 1.0, "family": "pixel"}
    assert Method.model_validate(old).families == ("pixel",)
    assert Method.model_validate({**old, "family": ""}).families == ()


def test_the_resolved_text_gives_the_same_jobs(tmp_path: Path) -> None:
    suite = load(tmp_path, "  - sum: [{name: ssim, weight: 2}, {name: l2, weight: {grid: [0, 1]}}]\n  - sum: [l1]\n")
    again = tmp_path / "again.yaml"
    again.write_text(suite.resolved)
    assert load_suite(again, REGISTRY).plan.jobs == suite.plan.jobs


def test_other_weights_parts_or_orders_are_other_jobs_and_the_long_name_is_the_same_one(tmp_path: Path) -> None:
    def job(losses: str) -> str:
        return load(tmp_path, losses).plan.jobs[0].id

    first = job("  - sum: [l1, ssim]\n")
    assert first == job("  - {name: 'sum:l1+ssim', label: other}\n")
    assert first == job("  - {sum: [{name: l1, weight: 1}, {name: ssim}]}\n")
    others = ["  - sum: [ssim, l1]\n", "  - sum: [l1, {name: ssim, weight: 2}]\n", "  - sum: [l1]\n", "  - l1\n"]
    assert len({first, *map(job, others)}) == 5


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ("  - sum: [l1,\n      {name: simm}]\n", "9: losses[0].sum[1].name: there is no loss 'simm'"),
        ("  - sum: [l1,\n      simm]\n", "9: losses[0].sum[1].name: there is no loss 'simm'"),
        (
            "  - sum:\n      - {name: ssim, wieght: 2}\n",
            "9: losses[0].sum[0].wieght: unknown key; did you mean 'weight'?",
        ),
        ("  - sum:\n      - {name: ssim, weight: -1}\n", "9: losses[0].sum[0].weight: -1.0 is below the minimum 0"),
        ("  - sum:\n      - {name: ssim, weight: .inf}\n", "9: losses[0].sum[0].weight: Infinity is above"),
        ("  - sum:\n      - {name: ssim, weight: {grid: [1, a]}}\n", "9: losses[0].sum[0].weight.grid[1]: 'a' is not"),
        ("  - sum:\n      - {name: ssim, params: {windo: 2}}\n", "9: losses[0].sum[0].params.windo: ssim has no such"),
        ("  - sum:\n      - {weight: 2}\n", "9: losses[0].sum[0].name: is missing"),
        (
            "  - sum:\n      - {name: l1, weight: 0}\n",
            "8: losses[0]: l1 cannot take the 3x32x32 images of shapes: it has no",
        ),
        ("  - sum: []\n", "8: losses[0].sum: is empty"),
        ("  - sum: l1\n", "8: losses[0].sum: 'l1' is not a list"),
        ("  - sum\n", "8: losses[0].name: a sum names its losses"),
        ("  - sum: [sum]\n", "8: losses[0].sum[0].name: a part of a sum is a single loss"),
        ("  - {name: l2, sum: [l1]}\n", "8: losses[0].name: an item is either a loss"),
        ("  - {sum: [l1], params: {C: 1}}\n", "8: losses[0].params: the parameters of a sum stand with its parts"),
        ("  - l1\n  - sum: [l1]\n", "9: losses[1]: the label 'l1' is also that of losses[0]"),
    ],
)
def test_problems_are_named_with_line_and_key(tmp_path: Path, losses: str, expected: str) -> None:
    found = problems(tmp_path, losses)
    head = HEAD.count("\n") - 6  # lines are counted from a head of six
    assert head == 0
    assert any(problem.startswith(expected) for problem in found), found


def test_requirements_of_parts_are_those_of_the_sum(tmp_path: Path) -> None:
    small = HEAD.replace("size: 32", "size: 8").replace(
        "vae_bredell_small", "{name: vae_bredell, params: {widths: [4]}}"
    )
    found = problems(tmp_path, "  - sum: [l1, ssim]\n", small)
    assert any(
        "losses[0]: l1+ssim cannot take the 3x8x8 images of shapes: it has the part ssim, which" in p for p in found
    )


def axes(tmp_path: Path, params: str, losses: str) -> tuple[Axis, ...]:
    return load(tmp_path, losses, TUNED + params + "}\n").plan.searches[0].axes[1:]


def test_tuning_chooses_weights_only_where_they_are_named(tmp_path: Path) -> None:
    losses = "  - {sum: [l2, {name: wiener}], label: both}\n"
    assert [axis.name for axis in axes(tmp_path, "", losses)] == ["wiener.C"]
    (axis,) = axes(tmp_path, ", params: {both: [wiener.weight]}", losses)
    assert axis == Axis(name="wiener.weight", low=0.01, high=100.0, log=True)
    (axis,) = axes(tmp_path, ", params: {both: {wiener.weight: {low: 1e-6, high: 1e6}}}", losses)
    assert (axis.low, axis.high) == (1e-6, 1e6)


def test_a_weight_that_is_set_or_may_be_0_is_not_tuned(tmp_path: Path) -> None:
    losses = "  - {sum: [l2, {name: wiener, weight: 2}], label: both}\n"
    (set_,) = problems(tmp_path, losses, TUNED + ", params: {both: [wiener.weight]}}\n")
    assert "tuning.params.both.wiener.weight: both also sets it in its sum; remove one of the two" in set_
    (zero,) = problems(tmp_path, losses, TUNED + ", params: {both: {l2.weight: {low: 0, high: 1}}}}\n")
    assert "expected two finite numbers above 0, the lower first, got 0 and 1" in zero
