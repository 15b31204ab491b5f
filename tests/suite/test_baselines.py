"""The section baselines: which jobs it adds, which stay what they were, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recbench.errors import SuiteError
from recbench.plan.merge import join_plans
from recbench.plan.plan import Plan
from recbench.plan.search import grow
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import load_suite
from tests.conftest import TINY

SUITE = """\
name: tiny
datasets: [{name: blobs, params: {size: 16}}, {name: blobs, label: others, params: {size: 16, salt: 1}}]
architectures:
  - {name: linear, params: {latent_size: {grid: [4, 6]}}}
losses: [{name: l2, kl_weight: 0.1}, {name: l1, kl_weight: 0.1}]
%s
seeds: [0, 1]
training: {epochs: {grid: [1, 2]}, batch_size: 8}
metrics: [psnr]
"""
Load = Callable[..., Plan]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(line: str = "", text: str = SUITE) -> Plan:
        file = tmp_path / "tiny.yaml"
        file.write_text(text % line)
        return load_suite(file, Registry(load_plugins((str(TINY),)))).plan

    return loaded


def test_the_other_jobs_stay_what_they_are(load: Load) -> None:
    without, with_both = load(), load("baselines: [pca, downsample]")
    assert with_both.jobs[: len(without.jobs)] == without.jobs
    assert with_both.settings[: len(without.settings)] == without.settings
    assert without.baselines == () and len(without.jobs) == 2 * 2 * 2 * 2 * 2


def test_boards_share_what_differs_in_nothing(load: Load) -> None:
    """Two data sets and two latent sizes make four fits of each; training is no part of them."""
    plan = load("baselines: [pca, {name: downsample, label: small, params: {latent_size: 12}}]")
    fits = {plan.jobs[-1 - place].id for place in range(6)}
    assert len(fits) == len(plan.fitted) == 4 + 2
    assert len(plan.baselines) == 8 * 2
    for one in plan.baselines:
        board, fitted = plan.settings[one.setting], plan.settings[one.fitted]
        assert board.dataset == fitted.dataset
        size = 12 if one.label == "small" else board.architecture.params["latent_size"]
        assert fitted.architecture.params == {"latent_size": size}
    assert len({setting.label for setting in plan.settings}) == len(plan.settings)


def test_a_tuned_suite_has_them_from_the_start(load: Load) -> None:
    text = SUITE.replace("kl_weight: 0.1", "scale: 1").replace("epochs: {grid: [1, 2]}", "epochs: 1")
    text += "tuning: {budget: 2, kl_weight: {low: 0.1, high: 1}, select: {metric: psnr}}\n"
    plan, without = load("baselines: [pca]", text), load("", text)
    assert len(plan.jobs) == len(plan.fitted) == 4 and without.jobs == ()
    assert plan.searches == without.searches
    assert plan.counts == (without.counts[0], without.counts[1] + 4)
    later = grow(plan, {})
    assert [job for job in later.jobs if job.setting in plan.fitted] == [
        job.model_copy(update={"method": later.methods.index(plan.methods[job.method])}) for job in plan.jobs
    ]
    assert {job.id for job in later.jobs} - {job.id for job in plan.jobs} == {job.id for job in grow(without, {}).jobs}
    assert Plan.model_validate_json(later.model_dump_json()) == later == grow(later, {})


def test_plans_are_joined_with_their_baselines(load: Load) -> None:
    first, second = load("baselines: [pca]"), load("baselines: [pca, downsample]")
    joined, problems = join_plans([("a", first), ("b", second)])
    assert joined is not None and not problems
    named = {(joined.settings[b.setting].label, b.label, joined.settings[b.fitted].label) for b in joined.baselines}
    assert named == {
        (second.settings[b.setting].label, b.label, second.settings[b.fitted].label) for b in second.baselines
    }
    assert {job.id for job in joined.jobs} == {job.id for job in second.jobs}


def test_a_resolved_suite_has_the_same_jobs(load: Load, tmp_path: Path) -> None:
    registry = Registry(load_plugins((str(TINY),)))
    file = tmp_path / "tiny.yaml"
    file.write_text(SUITE % "baselines: [{name: pca, params: {latent_size: 3}}]")
    suite = load_suite(file, registry)
    file.write_text(suite.resolved)
    assert load_suite(file, registry).plan.jobs == suite.plan.jobs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[linear]", "linear is trained, and a baseline is fitted without training, as pca and downsample are"),
        ("[pac]", "baselines[0].name"),
        ("[{name: pca, params: {latent: 3}}]", "pca has no such parameter; did you mean 'latent_size'?"),
        ("[{name: pca, params: {latent_size: many}}]", "latent_size"),
        ("[{name: pca, params: {latent_size: 1000}}]", "at most as many components as an image has values, 768"),
        ("[pca, pca]", "the label 'pca' is also that of another baseline"),
        ("[{name: pca, label: a/b}]", "the label 'a/b' is not valid"),
        ("[{name: pca, kl_weight: 1}]", "unknown key"),
        ("[3]", "is not a name, or a mapping with one"),
        ("pca", "'pca' is not a list"),
    ],
)
def test_what_is_wrong_is_said(load: Load, line: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(f"baselines: {line}")
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)
    assert "baselines" in str(caught.value)
