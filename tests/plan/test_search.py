"""Tuning: every method has the same budget, only validation records choose, and a plan grows as its records say."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from recbench import Parameter, Tunable
from recbench.analysis.ranking import rank
from recbench.errors import SuiteError, UserError
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.search import grow, with_scales
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import Failure, Record, Score
from recbench.suite.suite import Suite, load_suite
from tests.conftest import ROOT, TINY
from tests.made_up import make_record, make_trouble

SUITE = """\
name: tuned
datasets: [blobs]
architectures: [linear]
losses:
  - {name: l2, scale: 1}
  - {name: l1, scale: 2}
  - {name: mix, scale: 0.01}
seeds: [0, 1]
training: {epochs: 1}
metrics: [psnr, ssim]
tuning:
  budget: 4
  kl_weight: {low: 1e-3, high: 1}
  params: {}
  seeds: [7]
  select: {metric: ssim}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(load_plugins([TINY]))


Load = Callable[..., Suite]


@pytest.fixture
def load(registry: Registry, tmp_path: Path) -> Load:
    def call(*overrides: str, text: str = SUITE, maximum_jobs: int = 10_000) -> Suite:
        (tmp_path / "s.yaml").write_text(text)
        return load_suite(tmp_path / "s.yaml", registry, overrides, maximum_jobs=maximum_jobs)

    return call


@pytest.fixture
def refuse(load: Load) -> Callable[..., str]:
    def call(*overrides: str, **keys: Any) -> str:
        with pytest.raises(SuiteError) as caught:
            load(*overrides, **keys)
        return "\n".join(f"{problem.key}: {problem.message}" for problem in caught.value.problems)

    return call


def scored(plan: Plan, planned: PlannedJob, value: float) -> Record:
    return make_record(plan, planned, {name: Score(mean=value, std=0.1, n=8) for name in plan.metrics})


def run_all(plan: Plan, score: Callable[[Plan, PlannedJob], float | str]) -> tuple[Plan, dict[str, Record], int]:
    """A sweep without training: in rounds, everything that is planned gets a record."""
    records: dict[str, Record] = {}
    for rounds in itertools.count():
        plan = grow(plan, records)
        missing = [planned for planned in plan.jobs if planned.id not in records]
        if not missing:
            return plan, records, rounds
        for planned in missing:
            found = score(plan, planned)
            record = make_trouble(plan, planned, found) if isinstance(found, str) else scored(plan, planned, found)
            records[planned.id] = record
    raise AssertionError


# What may be tuned


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Tunable(1, 1),
        lambda: Tunable(0, 1, log=True),
        lambda: Tunable(0, math.inf),
        lambda: Tunable("0", 1),  # type: ignore[arg-type]
        lambda: Parameter("a", str, "x", "", tunable=Tunable(0, 1)),
        lambda: Parameter("a", float, 1.0, "", minimum=0.5, tunable=Tunable(0, 1)),
        lambda: Parameter("a", int, 1, "", tunable=Tunable(0.5, 2)),
    ],
)
def test_a_range_that_cannot_be_tuned_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"range|int or a float"):
        wrong()


def test_only_losses_declare_what_may_be_tuned(registry: Registry) -> None:
    declared = {
        (kind, name, parameter.name)
        for kind in ("losses", "architectures", "datasets", "metrics")
        for name in registry.names(kind)
        for parameter in registry.get(kind, name).entry.parameters
        if parameter.tunable
    }
    assert {kind for kind, _, _ in declared} == {"losses"}
    assert {("losses", "wiener", "C"), ("losses", "charbonnier", "epsilon")} <= declared


# Strategies


def test_optuna_asks_for_what_its_own_optimize_asks_for(load: Load) -> None:
    optuna = pytest.importorskip("optuna")
    suite = load("tuning.strategy=optuna", "tuning.budget=14", "losses=[{name: charbonnier, scale: 1}]",
                 "tuning.params={charbonnier: [epsilon]}")  # fmt: skip

    def value(kl_weight: float, epsilon: float) -> float:
        return -((math.log10(kl_weight) + 1.3) ** 2) - (math.log10(epsilon) + 2) ** 2

    def score(plan: Plan, planned: PlannedJob) -> float:
        method = plan.methods[planned.method]
        return value(method.kl_weight, method.loss.params["epsilon"])

    plan, _, rounds = run_all(suite.plan, score)
    ours = [tuple(trial.values.values()) for trial in plan.searches[0].trials]

    def objective(trial: Any) -> float:
        kl_weight = trial.suggest_float("kl_weight", 1e-3, 1.0, log=True)
        epsilon = trial.suggest_float("epsilon", 1e-4, 0.1, log=True)
        return value(float(f"{kl_weight:.6g}"), float(f"{epsilon:.6g}"))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=14)
    theirs = [(trial.params["kl_weight"], trial.params["epsilon"]) for trial in study.trials]
    assert [values for pair in ours for values in pair] == pytest.approx(list(itertools.chain(*theirs)), rel=1e-5)
    assert plan.searches[0].chosen == study.best_trial.number
    assert rounds == 14 + 1  # one after the other, and then the chosen one


def test_optuna_continues_after_failed_trials(load: Load) -> None:
    pytest.importorskip("optuna")
    suite = load("tuning.strategy=optuna", "tuning.budget=5", "losses=[{name: l2, scale: 1}]")
    plan, _, _ = run_all(suite.plan, lambda plan, p: "diverged" if plan.methods[p.method].kl_weight > 0.05 else 1.0)
    statuses = [trial.status for trial in plan.searches[0].trials]
    assert len(statuses) == 5
    assert {"failed", "scored"} == set(statuses)


def test_missing_optuna_is_reported_before_anything_runs(
    refuse: Callable[..., str], load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load("tuning.strategy=optuna").plan
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    monkeypatch.setattr("recbench.suite.tuning.has_optuna", lambda: False)
    assert "pip install 'recbench[optuna]'" in refuse("tuning.strategy=optuna")
    with pytest.raises(UserError, match="pip install"):
        grow(plan, {})


# Growing


def best_at_a_tenth(plan: Plan, planned: PlannedJob) -> float:
    """Better the nearer the KL weight is to 0.1; on the test images the other way round."""
    distance = abs(math.log10(plan.methods[planned.method].kl_weight) + 1)
    return -distance if planned.split == "validation" else distance


def test_every_method_has_the_same_budget_and_then_all_seeds_on_the_test_images(load: Load) -> None:
    suite = load()
    assert suite.plan.counts == (3 * 4, 3 * 2)
    plan, records, rounds = run_all(suite.plan, best_at_a_tenth)
    assert rounds == 2
    assert len(plan.jobs) == sum(plan.counts)
    for search in plan.searches:
        assert len(search.trials) == 4
        assert {trial.status for trial in search.trials} == {"scored"}
        assert search.method is not None
        jobs = [planned for planned in plan.jobs if planned.method == search.method]
        assert [(planned.split, planned.seed) for planned in jobs] == [("test", 0), ("test", 1)]
        method = plan.methods[search.method]
        assert method.label == search.label
        assert method.kl_weight == search.trials[search.chosen].values["kl_weight"]  # type: ignore[index]
    l2, l1, _ = plan.searches
    assert [trial.values["kl_weight"] for trial in l2.trials] == [0.001, 0.01, 0.1, 1.0]
    assert [trial.values["kl_weight"] for trial in l1.trials] == [0.002, 0.02, 0.2, 2.0]
    assert (l2.chosen, l2.edge) == (2, ())
    assert {planned.seed for planned in plan.jobs if planned.split == "validation"} == {7}
    jobs = [plan.job(planned) for planned in plan.jobs]
    assert all(job.id == planned.id for job, planned in zip(jobs, plan.jobs, strict=True))
    assert {job.protocol("x") for job in jobs if job.split == "test"}.isdisjoint(
        job.protocol("x") for job in jobs if job.split == "validation"
    )
    assert grow(plan, records) == plan == Plan.model_validate_json(plan.model_dump_json())


def test_test_records_never_choose(load: Load) -> None:
    """The same candidate is chosen whatever its scores on the test images."""
    suite = load()
    generator = random.Random(0)

    def random_on_test(plan: Plan, planned: PlannedJob) -> float:
        return best_at_a_tenth(plan, planned) if planned.split == "validation" else generator.gauss(0, 100)

    chosen = [search.chosen for search in run_all(suite.plan, best_at_a_tenth)[0].searches]
    for _ in range(3):
        assert [search.chosen for search in run_all(suite.plan, random_on_test)[0].searches] == chosen


def test_nothing_is_chosen_while_a_candidate_is_open(load: Load) -> None:
    suite = load()
    plan, records, _ = run_all(suite.plan, best_at_a_tenth)
    candidate = next(planned for planned in plan.jobs if planned.split == "validation")
    del records[candidate.id]
    smaller = grow(plan, records)
    assert smaller.searches[0].chosen is None
    assert len([planned for planned in smaller.jobs if planned.split == "test"]) == 2 * 2  # of the other two losses


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_failed_trials_count_against_the_budget(load: Load, status: str) -> None:
    def score(plan: Plan, planned: PlannedJob) -> float | str:
        weight = plan.methods[planned.method].kl_weight
        return status if planned.split == "validation" and weight in (0.1, 0.2) else best_at_a_tenth(plan, planned)

    plan, records, _ = run_all(load().plan, score)
    l2 = plan.searches[0]
    assert [trial.status for trial in l2.trials] == ["scored", "scored", "failed", "scored"]
    assert (l2.chosen, l2.trials[1].values["kl_weight"]) == (1, 0.01)
    row = next(row for row in rank(plan, records, confidence=None).boards[0].rows if row.label == "l2")
    assert row.tuned is not None
    assert (row.tuned.trials, row.tuned.failed, row.tuned.budget) == (4, 1, 4)
    assert row.tuned.values == {"kl_weight": 0.01}


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_method_whose_trials_all_failed_is_shown(load: Load, status: str) -> None:
    def score(plan: Plan, planned: PlannedJob) -> float | str:
        return status if plan.methods[planned.method].loss.name == "l1" else best_at_a_tenth(plan, planned)

    plan, records, _ = run_all(load().plan, score)
    board = rank(plan, records, confidence=None).boards[0]
    row = next(row for row in board.rows if row.label == "l1")
    assert (row.place, row.status, row.seeds_done, row.seeds, row.kl_weight) == (None, status, 0, 2, None)
    assert len(row.trouble) == 4
    leaderboard = rank(plan, records, confidence=None)
    assert (leaderboard.done, leaderboard.jobs) == (4, 6)


def test_before_anything_ran_every_method_is_shown_as_incomplete(load: Load) -> None:
    plan = grow(load().plan, {})
    (board,) = rank(plan, {}, confidence=None).boards
    assert [(row.label, row.status) for row in board.rows] == [(n, "incomplete") for n in ("l1", "l2", "mix")]


def test_seeds_of_candidates_are_averaged(load: Load) -> None:
    suite = load("tuning.seeds=[1, 2, 3]")
    plan, _, _ = run_all(suite.plan, lambda plan, planned: planned.seed * plan.methods[planned.method].kl_weight)
    assert [trial.score for trial in plan.searches[0].trials] == pytest.approx([0.002, 0.02, 0.2, 2.0])


@pytest.mark.parametrize("worst", [False, True])
def test_one_image_that_is_infinitely_good_does_not_choose_the_first_candidate(load: Load, worst: bool) -> None:
    """Nor is a candidate chosen that is infinitely bad: it has failed."""
    plan = load("tuning.select={metric: psnr}").plan
    first = grow(plan, {})
    best = first.jobs[2].id
    mean = -math.inf if worst else math.inf
    score = {
        job.id: Score(mean=mean, std=None, n=8, infinite=1, finite=20.0 + 9 * (job.id == best)) for job in first.jobs
    }
    records = {job.id: make_record(first, job, dict.fromkeys(plan.metrics, score[job.id])) for job in first.jobs}
    grown = grow(plan, records)
    if worst:
        assert {trial.status for search in grown.searches for trial in search.trials} == {"failed"}
        return
    (chosen,) = [search for search in grown.searches if search.method is not None and search.chosen != 0]
    assert chosen.trials[chosen.chosen or 0].score == 29
    assert chosen.trials[0].score == 20


def test_without_a_scale_nothing_is_planned_until_one_is_known(load: Load) -> None:
    suite = load(text=SUITE.replace("{name: l2, scale: 1}", "l2").replace("scale: 2", "scale: 3"))
    plan = grow(suite.plan, {})
    assert {plan.methods[planned.method].loss.name for planned in plan.jobs} == {"l1", "mix"}
    filled = grow(with_scales(suite.plan, {(0, "l2"): 10.0, (0, "l1"): 5.0}), {})
    weights = [[trial.values["kl_weight"] for trial in search.trials] for search in filled.searches]
    assert weights[:2] == [[0.01, 0.1, 1.0, 10.0], [0.003, 0.03, 0.3, 3.0]]  # what the suite gives stands


def test_published_numbers_find_what_was_chosen(load: Load) -> None:
    text = SUITE + "published:\n  - {source: a paper, scores: {l1: {psnr: 20}}}\n"
    suite = load(text=text)
    assert suite.plan.published == ()
    plan, _, _ = run_all(suite.plan, best_at_a_tenth)
    (number,) = plan.published
    assert plan.methods[number.method].label == "l1"
    assert number.method == plan.searches[1].method


def test_settings_are_tuned_one_by_one(load: Load) -> None:
    suite = load("architectures=[{name: linear, params: {latent_size: {grid: [2, 4]}}}]")

    def score(plan: Plan, planned: PlannedJob) -> float:
        weight = plan.methods[planned.method].kl_weight
        return weight if planned.setting else -weight

    plan, _, _ = run_all(suite.plan, score)
    chosen = {(search.setting, search.label): search.chosen for search in plan.searches}
    assert chosen[0, "l2"] == 0
    assert chosen[1, "l2"] == 3
    assert plan.counts == (24, 12)


def test_ten_thousand_candidates_are_laid_out_in_seconds(load: Load) -> None:
    suite = load("tuning.budget=3300")
    start = time.perf_counter()
    plan = grow(suite.plan, {})
    seconds = time.perf_counter() - start
    assert len({planned.id for planned in plan.jobs}) == len(plan.jobs) == 9900
    print(f"9,900 candidates in {seconds:.2f} s")


def test_an_optimum_at_the_edge_is_said_of_its_method_on_the_leaderboard(load: Load) -> None:
    plan, records, _ = run_all(load().plan, lambda plan, planned: plan.methods[planned.method].kl_weight)
    found = rank(plan, records, confidence=None)
    warned = [each.check for board in found.boards for row in board.rows for each in row.health]
    assert warned.count("kl_weight_edge") == 3
    notes = found.notes
    assert not any("lies at the edge of" in note for note in notes)
    assert any("candidates were chosen by ssim, a metric of the family of" in note for note in notes)


# The section of a suite


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tuning.strategy=bayes", "'bayes' is not one of grid, random, optuna"),
        ("tuning.budget=0", "tuning.budget"),
        ("tuning={kl_weight: {low: 1, high: 2}}", "tuning.budget: is missing"),
        ("tuning={budget: 3}", "tuning.kl_weight: is missing"),
        ("tuning.kl_weight={low: 1, high: 1}", "expected two finite numbers above 0, the lower first"),
        ("tuning.kl_weight={low: 0, high: 1}", "expected two finite numbers above 0, the lower first"),
        ("tuning.kl_weight={low: 1, hi: 2}", "unknown key; did you mean 'high'?"),
        ("tuning.select.metric=sim", "the suite has no metric 'sim'; did you mean 'ssim'?"),
        ("tuning.select=null", "select is missing"),
        ("tuning.seeds=[1, 1]", "the seed 1 is given twice"),
        ("tuning.seeds=[-1]", "is not between 0 and"),
        ("tuning.params={l3: []}", "the suite has no loss 'l3'"),
        ("tuning.params={l1: [epsilon]}", "l1 has no such tunable parameter; it declares none"),
        ("tuning.params={mix: [beta]}", "mix has no such tunable parameter; it declares alpha"),
        ("tuning.params={mix: {alpha: {low: 0.5, high: 0.99}}}", "expected a range within 0.1 to 0.95"),
        ("tuning.params={mix: {alpha: 3}}", "expected a range, as in"),
        ("tuning.params={mix: 3}", "expected a list of names or a mapping"),
        ("losses.l2.kl_weight=1", "tuning chooses the KL weights; the key scale"),
        ("training.kl_weight=1", "tuning chooses the KL weights; remove this key"),
        ("losses.l2.scale=0", "is not a finite number above 0"),
        ("losses.l2.scale={grid: [1, 2]}", "is not a finite number above 0"),
        ("tuning=null", "scale is used by tuning only"),
        ("tuning=3", "is not a mapping"),
    ],
)
def test_problems_of_the_section_are_reported(refuse: Callable[..., str], override: str, words: str) -> None:
    assert words in refuse(override)


def test_a_parameter_that_the_suite_sets_is_not_tuned(load: Load, refuse: Callable[..., str]) -> None:
    given = "losses=[{name: mix, scale: 1, params: {alpha: 0.5}}]"
    assert "mix also sets it under params" in refuse(given, "tuning.params={mix: [alpha]}")
    text = SUITE.replace("  params: {}\n", "")
    (search,) = load(given, text=text).plan.searches
    assert [axis.name for axis in search.axes] == ["kl_weight"]
    free = load("losses=[{name: mix, scale: 1}]", text=text).plan.searches[0]
    assert [axis.name for axis in free.axes] == ["kl_weight", "alpha"]  # all that the loss declares
    assert len(grow(load("losses=[{name: mix, scale: 1}]", text=text).plan, {}).jobs) == 4


def test_budgets_that_make_no_grid_name_the_loss(refuse: Callable[..., str]) -> None:
    told = refuse("tuning.budget=5", "tuning.params={mix: [alpha]}")
    assert "mix: no grid of 5 points" in told
    assert "l1" not in told


def test_the_size_limit_is_computed_before_anything_is_expanded(refuse: Callable[..., str], load: Load) -> None:
    start = time.perf_counter()
    told = refuse("tuning.budget=1000000000")
    assert time.perf_counter() - start < 60
    assert "spans 3,000,000,006 jobs, more than 10,000" in told
    assert "spans 18 jobs, more than 17" in refuse(maximum_jobs=17)
    assert load(maximum_jobs=18).plan.counts == (12, 6)


@pytest.mark.parametrize("overrides", [(), ("tuning.params={mix: {alpha: {low: 0.2}}}", "tuning.strategy=random")])
def test_the_resolved_suite_gives_the_same_jobs(load: Load, overrides: tuple[str, ...]) -> None:
    suite = load(*overrides)
    again = load(text=suite.resolved)
    assert again.plan == suite.plan
    assert again.resolved == suite.resolved


LARGE = ("datasets=[{name: photos, params: {size: 64}}]",)


def test_the_rule_of_the_paper_is_the_default_where_its_metric_is(load: Load) -> None:
    suite = load("tuning.select=null", "metrics=[psnr, {name: st_lpips, label: judge}]", *LARGE)
    assert suite.plan.tuning is not None
    assert (suite.plan.tuning.metric, suite.plan.tuning.direction) == ("judge", "lower")
    both = load("tuning.select=null", "metrics=[{name: st_lpips, label: judge}, fid_gen, psnr]", *LARGE)
    assert both.plan.tuning is not None
    assert both.plan.tuning.metric == "fid_gen"


def test_data_without_validation_images_are_refused(refuse: Callable[..., str], load: Load) -> None:
    told = refuse("datasets=[{name: photos, params: {size: 32, validation: 0}}]")
    assert told.startswith(
        "datasets[0]: tuning selects on the validation images, but the data set has none; many data sets have"
    )
    untuned = "losses=[ce]", "tuning=null", "datasets=[{name: photos, params: {size: 32, validation: 0}}]"
    assert load(*untuned).plan.searches == ()


def test_inconsistent_plans_are_refused(load: Load) -> None:
    plan = grow(load().plan, {})
    data = json.loads(plan.model_dump_json())

    def broken(change: Callable[[dict[str, Any]], object]) -> None:
        copy = json.loads(json.dumps(data))
        change(copy)
        with pytest.raises(ValueError, match=r"inconsistent|does not exist"):
            Plan.model_validate(copy)

    broken(lambda p: p.update(tuning=None))
    broken(lambda p: p.update(searches=[]))
    broken(lambda p: p["tuning"].update(metric="gone"))
    broken(lambda p: p["searches"][0].update(setting=9))
    broken(lambda p: p["searches"][0].update(chosen=9))
    broken(lambda p: p["searches"][0]["trials"][0].update(method=99))


def test_the_suites_that_come_along_are_tuned_without_the_network(registry: Registry) -> None:
    suite = load_suite(ROOT / "suites" / "quickstart-tuned.yaml", registry)
    assert suite.plan.tuning is not None
    assert not suite.lacking


def test_failures_say_why(load: Load) -> None:
    plan = grow(load().plan, {})
    records: Mapping[str, Record] = {
        p.id: make_trouble(plan, p).model_copy(update={"failure": Failure(type="ValueError", message="no\nlines")})
        for p in plan.jobs
    }
    row = rank(grow(plan, records), records, confidence=None).boards[0].rows[0]
    assert row.status == "failed"
    assert row.trouble[0].endswith("failed: no")
