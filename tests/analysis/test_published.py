"""PublishedScore against measured: verdicts over orderings with known truth, and the texts made of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from recbench.analysis.published import PublishedTable, compare_published
from recbench.analysis.ranking import rank
from recbench.plan.model import Column, PublishedScore
from recbench.plan.plan import Plan
from recbench.render.leaderboard import to_json as leaderboard_json
from recbench.render.published import added, summary, to_csv, to_markdown, to_text
from recbench.store.record import Result, Score
from tests.made_up import COLUMNS, make_plan, make_record, make_trouble

PSNR, MSE = COLUMNS
FID = Column(name="fid", direction="lower", digits=1)


def printed(plan: Plan, numbers: Mapping[str, Mapping[str, tuple[float, float | None]]], source: str = "paper") -> Plan:
    labels = [method.label for method in plan.methods]
    found = [
        PublishedScore(source=source, setting=0, method=labels.index(label), metric=metric, mean=mean, std=std)
        for label, metrics in numbers.items()
        for metric, (mean, std) in metrics.items()
    ]
    return plan.model_copy(update={"published": (*plan.published, *found)})


def board(
    means: Mapping[str, Sequence[float]],
    published: Mapping[str, tuple[float, float | None]],
    column: Column = FID,
    std: float | None = None,
    trouble: Mapping[str, str] | None = None,
) -> tuple[Plan, dict[str, Result]]:
    """A plan with one metric, printed numbers for it, and records with these means of each seed."""
    seeds = len(next(iter(means.values())))
    plan = make_plan(list(means), seeds=range(seeds), columns=(column,))
    plan = printed(plan, {label: {column.name: value} for label, value in published.items()})
    records: dict[str, Result] = {}
    for planned in plan.jobs:
        label = plan.methods[planned.method].label
        if trouble and label in trouble:
            records[planned.id] = make_trouble(plan, planned, trouble[label])
        else:
            score = Score(mean=means[label][planned.seed], std=std, n=8 if std is not None else 0)
            records[planned.id] = make_record(plan, planned, {column.name: score})
    return plan, records


def tables(plan: Plan, records: Mapping[str, Result]) -> tuple[PublishedTable, ...]:
    return compare_published(plan, rank(plan, records))


def verdicts(table: PublishedTable) -> dict[tuple[str, str], tuple[str, str]]:
    return {(claim.better, claim.worse): (claim.verdict, claim.why) for claim in table.claims}


def test_orderings_hold_fail_or_stay_open() -> None:
    plan, records = board(
        {
            "best": [10.0, 10.1, 9.9],
            "second": [20.0, 20.1, 19.9],
            "twin": [20.05, 19.95, 20.0],
            "worst": [30.0, 30.1, 29.9],
            "broken": [0.0, 0.0, 0.0],
        },
        {"best": (1, None), "second": (3, None), "twin": (2, None), "worst": (2.5, None), "broken": (9, None)},
        trouble={"broken": "diverged"},
    )
    (table,) = tables(plan, records)
    assert verdicts(table) == {
        ("best", "twin"): ("holds", ""),
        ("best", "worst"): ("holds", ""),
        ("best", "second"): ("holds", ""),
        ("twin", "worst"): ("holds", ""),
        ("twin", "second"): ("undecided", "no significant difference"),
        ("worst", "second"): ("contradicted", ""),
        **{(label, "broken"): ("undecided", "broken is diverged") for label in ("best", "twin", "second", "worst")},
    }
    assert [table.count(verdict) for verdict in ("holds", "contradicted", "undecided")] == [4, 1, 5]
    assert "of 10 printed orderings, 4 hold in our runs, 1 do not, and 5 cannot be decided" in summary(table)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([10.0, 11.0, 12.0], [12.5, 13.0, 14.0]),
        ([10.0, 11.0, 12.0], [11.5, 12.0, 13.0]),
        ([1.0, 3.0], [2.9, 3.1]),
        ([1.0, 1.1, 0.9, 1.0], [1.2, 1.3, 1.1, 1.2]),
    ],
)
def test_two_methods_are_decided_by_welchs_test_of_scipy(first: list[float], second: list[float]) -> None:
    plan, records = board({"a": first, "b": second}, {"a": (1, None), "b": (2, None)})
    (claim,) = tables(plan, records)[0].claims
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert claim.p == pytest.approx(expected, abs=6e-5)  # boards keep four digits
    assert claim.verdict == ("holds" if expected <= 0.05 else "undecided")


def test_a_higher_score_is_better_where_the_metric_says_so() -> None:
    plan, records = board({"a": [10, 10.1], "b": [20, 20.1]}, {"a": (30, 1), "b": (20, 1)}, PSNR, std=0.01)
    assert verdicts(tables(plan, records)[0]) == {("a", "b"): ("contradicted", "")}
    plan, records = board({"a": [10, 10.1], "b": [20, 20.1]}, {"a": (30, 1), "b": (20, 1)}, MSE, std=0.01)
    assert verdicts(tables(plan, records)[0]) == {("b", "a"): ("contradicted", "")}


def test_a_printed_tie_claims_nothing() -> None:
    plan, records = board({"a": [10, 11], "b": [20, 21]}, {"a": (5, None), "b": (5, None)})
    (table,) = tables(plan, records)
    assert not table.claims
    assert len(table.compared) == 2


def test_without_measured_values_nothing_is_decided() -> None:
    plan, records = board({"a": [10, 11], "b": [20, 21]}, {"a": (5, None), "b": (6, None)})
    (table,) = tables(plan, {})
    assert [(claim.verdict, claim.why) for claim in table.claims] == [("undecided", "a is incomplete")]
    half = {job.id: records[job.id] for job in plan.jobs if job.seed == 0}
    assert tables(plan, half)[0].claims[0].why == "a is incomplete"


def test_single_seeds_of_a_set_metric_decide_nothing() -> None:
    plan, records = board({"a": [10], "b": [20]}, {"a": (5, None), "b": (6, None)})
    (table,) = tables(plan, records)
    assert table.claims[0].verdict == "undecided"
    assert table.single_seeds
    assert "one seed each" in to_text([table])


def test_differences_are_in_units_of_the_published_std() -> None:
    plan, records = board({"a": [20.0, 22.0], "b": [30.0, 30.0]}, {"a": (24.0, 1.5), "b": (30.0, None)}, PSNR, std=1.0)
    a, b = tables(plan, records)[0].compared
    assert (a.measured, a.difference, a.in_stds) == (21.0, -3.0, -2.0)
    assert a.std_seeds == pytest.approx(np.std([20, 22], ddof=1))
    assert (b.difference, b.in_stds) == (0.0, None)


def test_metrics_that_the_suite_does_not_compute_are_named() -> None:
    plan, records = board({"a": [1, 2], "b": [3, 4]}, {"a": (1, None), "b": (2, None)})
    plan = printed(plan, {"a": {"lpips": (0.1, None)}})
    (table,) = tables(plan, records)
    assert table.not_computed == ("lpips",)
    assert "not computed by this suite: lpips" in to_text([table])
    assert {compared.metric for compared in table.compared} == {"fid"}


def test_claims_stay_within_a_table() -> None:
    plan, records = board({"a": [1, 1.1], "b": [3, 3.1], "c": [5, 5.1]}, {"a": (1, None), "b": (2, None)})
    plan = printed(plan, {"c": {"fid": (0.5, None)}}, source="another paper")
    first, second = tables(plan, records)
    assert (first.source, len(first.claims)) == ("paper", 1)
    assert (second.source, len(second.claims)) == ("another paper", 0)


def test_a_metric_that_some_losses_cannot_have_is_compared_among_the_others() -> None:
    plan = make_plan(("a", "b", "blind"), seeds=(0, 1, 2), columns=(PSNR, FID))
    plan = printed(plan, {"a": {"fid": (1, None)}, "b": {"fid": (2, None)}})
    records: dict[str, Result] = {}
    for planned in plan.jobs:
        psnr = Score(mean=20.0 + planned.seed, std=1.0, n=8)
        fid = Score(mean=10.0 * (planned.method + 1) + 0.1 * planned.seed, std=None, n=0)
        blind = plan.methods[planned.method].label == "blind"
        changes = {"without": ("fid",)} if blind else {}
        records[planned.id] = make_record(plan, planned, {"psnr": psnr, **({} if blind else {"fid": fid})}, **changes)
    (table,) = tables(plan, records)
    (claim,) = table.claims
    assert claim.verdict == "holds"
    assert claim.p == pytest.approx(stats.ttest_ind([10, 10.1, 10.2], [20, 20.1, 20.2], equal_var=False).pvalue)


def test_equal_methods_rarely_confirm_or_contradict_a_paper() -> None:
    """Four methods without any difference: in at least 95% of made-up runs (up to chance) no claim is decided."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        means = {label: generator.normal(10, 1, 3).tolist() for label in "abcd"}
        plan, records = board(means, {label: (place, None) for place, label in enumerate("abcd")})
        (table,) = tables(plan, records)
        wrong += any(claim.verdict != "undecided" for claim in table.claims)
    assert wrong <= stats.binom.ppf(0.999, 200, 0.05)


def test_a_suite_without_printed_numbers_has_no_tables() -> None:
    plan = make_plan()
    assert tables(plan, {}) == ()


def test_texts_hold_all_of_it() -> None:
    plan, records = board(
        {"a|b": [10, 10.1], "=c": [20, 20.1]}, {"a|b": (30.5, 1.0), "=c": (20.0, None)}, PSNR, std=0.1
    )
    plan = printed(plan, {"a|b": {"lpips": (0.1, None)}})
    leaderboard = rank(plan, records)
    found = compare_published(plan, leaderboard)
    text = to_text(found)
    assert "30.50 ± 1.00" in text
    assert "−20.45" in text
    assert "does not hold: a|b > =c" in text
    lines = list(csv.DictReader(io.StringIO(to_csv(plan.suite, found))))
    assert [line["kind"] for line in lines] == ["number", "number", "ordering", "not computed"]
    assert float(lines[0]["in_stds"]) == pytest.approx(-20.45)
    assert lines[1]["method"] == "'=c"
    assert lines[2]["verdict"] == "contradicted"
    rows = [line for line in to_markdown(found).splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") == 7 for line in rows)
    data = json.loads(added("json", leaderboard_json(leaderboard), leaderboard, found))
    assert data["suite"] == plan.suite
    assert PublishedTable.model_validate(data["published"][0]) == found[0]
