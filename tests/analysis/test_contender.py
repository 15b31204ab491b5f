"""What keeps a loss from being compared with a board, and where it stands on one."""

from __future__ import annotations

import math

import pytest

from recbench.analysis.board import Board, MetricCell, OverallVerdict, Row, Verdict
from recbench.analysis.contender import hindrances, joined, standing
from recbench.plan.model import NUMERICS, Training
from tests.made_up import COLUMNS, make_plan

LABELS = ("a", "mine", "b", "c")


def board() -> Board:
    """Return a board on which mine is better than c, worse than a by psnr, and not told from b."""
    rows = tuple(
        Row(
            place=number, label=label, loss=label, family="", params={}, kl_weight=1, status="ranked", seeds_done=2,
            seeds=2, mean_rank=number, kl=1, cells={"psnr": MetricCell(mean=20 - number, std_images=1, std_seeds=1)},
        )
        for number, label in enumerate(LABELS)
    )  # fmt: skip
    failed = rows[0].model_copy(update={"label": "broken", "status": "failed", "place": None})
    #        a-mine a-b  a-c  mine-b mine-c b-c
    p = (0.01, 0.5, 0.5, 0.2, 0.05, 0.5)
    return Board(
        setting="s", shape=(3, 8, 8), protocol=None, test_images=9, columns=COLUMNS[:1], ranking=("psnr",),
        rows=(*rows, failed), confidence=0.95,
        verdicts={"psnr": Verdict(basis="images", by_image=True, p=p, groups=())},
        overall=OverallVerdict(better=(False, False, False, False, True, False), groups=()),
    )  # fmt: skip


def test_a_method_stands_between_those_it_is_better_and_worse_than() -> None:
    found = standing(board(), "mine")
    assert found is not None
    assert found.of == 4
    assert found.overall is not None
    assert (found.overall.better, found.overall.worse, found.overall.open) == (("c",), (), ("a", "b"))
    psnr = found.by_metric["psnr"]
    assert (psnr.better, psnr.worse, psnr.open) == (("c",), ("a",), ("b",))


def test_a_method_that_failed_has_no_verdicts() -> None:
    found = standing(board(), "broken")
    assert found is not None
    assert found.overall is None
    assert standing(board(), "nobody") is None


def test_equal_plans_have_no_hindrance_and_each_difference_is_one() -> None:
    plan = make_plan(methods=("l2", "l1"))
    assert list(hindrances(plan, plan, NUMERICS, {0: ("same", "same")})) == []
    setting = plan.settings[0]
    changes = {
        "version": (plan, NUMERICS + 1, {}),
        "fingerprint": (plan, NUMERICS, {0: ("one", "other")}),
    }
    for word, (other, numerics, prints) in changes.items():
        (line,) = hindrances(plan, other, numerics, prints)
        assert word in line
    parts = {
        "training differs": {"training": Training(epochs=77)},
        "the code of the data set": {"dataset": setting.dataset.model_copy(update={"code": "new"})},
        "the code of the architecture": {"architecture": setting.architecture.model_copy(update={"code": "new"})},
        "size": {"dataset": setting.dataset.model_copy(update={"params": {"size": math.pi}})},
    }
    for word, update in parts.items():
        other = plan.model_copy(update={"settings": (setting.model_copy(update=update), *plan.settings[1:])})
        (line,) = hindrances(plan, other, NUMERICS, {})
        assert word in line
    metrics = {**plan.metrics, "psnr": plan.metrics["psnr"].model_copy(update={"code": "new"})}
    (line,) = hindrances(plan, plan.model_copy(update={"metrics": metrics}), NUMERICS, {})
    assert line == "the metric psnr is not that of the board"


def test_elsewhere_is_no_difference() -> None:
    plan = make_plan()
    moved = plan.settings[0].dataset.model_copy(update={"locations": {"root": "/elsewhere"}})
    other = plan.model_copy(update={"settings": (plan.settings[0].model_copy(update={"dataset": moved}),)})
    assert list(hindrances(plan, other, NUMERICS, {})) == []


@pytest.mark.parametrize("mine", [("cauchy",), ("cauchy", "huber")])
def test_a_joined_plan_has_the_jobs_of_both_under_their_own_methods(mine: tuple[str, ...]) -> None:
    first, second = make_plan(methods=("l2", "l1")), make_plan(methods=mine, params={"scale": 2})
    both = joined(first, second)
    labels = [both.methods[job.method].label for job in both.jobs]
    assert set(labels) == {"l2", "l1", *mine}
    assert all(both.id_of(job) == job.id for job in both.jobs)
