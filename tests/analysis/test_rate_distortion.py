"""Rate and distortion against closed forms: lines and powers in log KL, and areas computed by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from recbench.analysis.curves import NotComparable, average_difference, frontier, interpolate
from recbench.analysis.rate_distortion import RateCurve, RatePoint, matched, rate_distortion
from recbench.plan.model import Column, ComponentSpec, Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.store.record import Evaluated, Record, Score
from tests.made_up import COLUMNS, make_plan, make_record

PSNR, MSE = COLUMNS


def line(rates: Sequence[float], slope: float, offset: float) -> list[float]:
    return [slope * math.log(rate) + offset for rate in rates]


# Curves as numbers


def test_parallel_lines_differ_by_their_distance() -> None:
    ours, theirs = [1, 2, 5, 40], [2, 3, 30, 100]
    found = average_difference(ours, line(ours, 2.5, 7), theirs, line(theirs, 2.5, 4.75))
    assert found == pytest.approx(2.25)


def test_the_average_is_over_the_shared_range_of_log_kl() -> None:
    """Lines of slopes 2 and 1 differ by log r on average over [log 2, log 32]: the middle of that interval."""
    ours, theirs = [1, 2, 8, 32], [2, 8, 32, 64]
    found = average_difference(ours, line(ours, 2, 0), theirs, line(theirs, 1, 0))
    assert found == pytest.approx((math.log(2) + math.log(32)) / 2)
    back = average_difference(theirs, line(theirs, 1, 0), ours, line(ours, 2, 0))
    assert back == pytest.approx(-found)


def test_two_points_make_a_trapezium() -> None:
    """By hand: from (1 nat, 10) to (e, 20) and from (1, 10) to (e, 14): areas 15 and 12."""
    assert average_difference([1, math.e], [10, 20], [1, math.e], [10, 14]) == pytest.approx(3)


def test_the_integral_is_that_of_the_interpolated_curve() -> None:
    rates, scores = [1.0, 3.0, 4.0, 11.0, 50.0], [10.0, 14.0, 19.0, 20.0, 20.5]
    others = [1.5, 6.0, 20.0, 60.0]
    values = [9.0, 15.0, 17.0, 17.1]
    low, high = math.log(1.5), math.log(50)

    def distance(x: float) -> float:
        return interpolate(rates, scores, math.exp(x)) - interpolate(others, values, math.exp(x))

    area, _ = quad(distance, low, high - 1e-12, limit=200)
    assert average_difference(rates, scores, others, values) == pytest.approx(area / (high - low), rel=1e-6)


def test_where_curves_are_smooth_it_agrees_with_cubic_splines() -> None:
    """Bjøntegaard's own interpolation is a cubic, too; on a smooth curve that is sampled densely all agree."""
    rates = list(np.geomspace(1, 100, 40))
    smooth = [30 - 20 / (1 + math.log(rate)) for rate in rates]
    flat = [10 + math.log(rate) for rate in rates]
    x = np.log(rates)
    splines = CubicSpline(x, smooth).integrate(x[0], x[-1]) - CubicSpline(x, flat).integrate(x[0], x[-1])
    assert average_difference(rates, smooth, rates, flat) == pytest.approx(splines / (x[-1] - x[0]), rel=1e-4)


def test_a_plateau_is_not_overshot() -> None:
    rates, scores = [1.0, 2.0, 4.0, 8.0], [0.0, 1.0, 1.0, 1.0]
    assert max(interpolate(rates, scores, rate) for rate in np.linspace(1, 8, 50)) <= 1


@pytest.mark.parametrize("others", [[200.0, 300.0], [40.0, 1000.0], [64.0, 100.0]])
def test_curves_that_hardly_overlap_are_not_compared(others: list[float]) -> None:
    ours = [1.0, 8.0, 64.0]
    with pytest.raises(NotComparable, match="hardly overlap: 1 to 64 and"):
        average_difference(ours, line(ours, 1, 0), others, line(others, 1, 0))


def test_a_curve_within_another_is_compared() -> None:
    long, short = [1.0, 1e6], [10.0, 20.0]
    assert average_difference(long, line(long, 1, 0), short, line(short, 1, 1)) == pytest.approx(-1)


def test_nothing_is_extrapolated() -> None:
    assert interpolate([1, 10], [0, 1], 10) == pytest.approx(1)
    assert interpolate([1, 10], [0, 1], math.sqrt(10)) == pytest.approx(0.5)
    with pytest.raises(NotComparable, match="spans 1 to 10 nats, not 11"):
        interpolate([1, 10], [0, 1], 11)


def test_the_frontier_is_what_no_cheaper_point_beats() -> None:
    rates, scores = [4, 1, 2, 3, 2], [9, 5, 7, 6, 4]
    assert frontier(rates, scores, "higher") == ([1, 2, 4], [5, 7, 9])
    assert frontier(rates, scores, "lower") == ([1, 2], [5, 4])


# Curves of a suite


def untuned(weights: Mapping[str, Sequence[float]]) -> Plan:
    """A plan with a method for each loss and KL weight, as a grid over ``kl_weight`` makes them."""
    plan = make_plan(methods=[f"{name} {w}" for name in weights for w in weights[name]], seeds=(0, 1))
    methods = [
        Method(label=f"{name} kl_weight={w:g}", loss=ComponentSpec(name=name), kl_weight=w)
        for name in weights
        for w in weights[name]
    ]
    plan = plan.model_copy(update={"methods": tuple(methods)})
    jobs = tuple(job.model_copy(update={"id": plan.job(job).id}) for job in plan.jobs)
    return plan.model_copy(update={"jobs": jobs})


def record(plan: Plan, planned: PlannedJob, rate: float, score: float, **changes: Any) -> Record:
    scores = {"psnr": Score(mean=score, std=0.1, n=8), "mse": Score(mean=-score, std=0.1, n=8)}
    evaluated = Evaluated(n=8, kl=rate, seconds=0.1)
    return make_record(plan, planned, scores, evaluated=evaluated, **changes)


def records(plan: Plan, offset: Mapping[str, float]) -> dict[str, Record]:
    """Rate 1 / weight, give or take a nat from seed to seed; PSNR is the log rate and the loss's offset."""
    found = {}
    for planned in plan.jobs:
        method = plan.methods[planned.method]
        rate = 1 / method.kl_weight + (1 if planned.seed else -1)
        found[planned.id] = record(plan, planned, rate, math.log(1 / method.kl_weight) + offset[method.loss.name])
    return found


WEIGHTS = {"l2": (0.01, 0.02, 0.05, 0.1), "l1": (0.01, 0.02, 0.05, 0.1), "ssim": (0.5, 0.25)}


def test_methods_that_differ_in_their_kl_weight_make_a_curve() -> None:
    plan = untuned(WEIGHTS)
    (found,) = rate_distortion(plan, records(plan, {"l2": 0, "l1": 0.5, "ssim": 0}))
    assert (found.split, found.reference) == ("test", "l2")
    assert [curve.label for curve in found.curves] == ["l2", "l1", "ssim"]
    l2, l1, ssim = found.curves
    assert [point.rate for point in l2.points] == pytest.approx([10, 20, 50, 100])
    assert [point.kl_weight for point in l2.points] == [0.1, 0.05, 0.02, 0.01]
    assert [point.seeds for point in l2.points] == [2] * 4
    assert l2.differences == {}
    assert l1.differences["psnr"].value == pytest.approx(0.5)
    assert l1.differences["mse"].value == pytest.approx(-0.5)
    assert ssim.differences["psnr"].value is None
    assert "hardly overlap" in ssim.differences["psnr"].why_not


def test_at_matched_kl_the_offset_ranks_and_not_the_weight() -> None:
    plan = untuned(WEIGHTS)
    data = records(plan, {"l2": 0, "l1": 0.5, "ssim": 0})
    (found,) = rate_distortion(plan, data, rate=30)
    assert found.matched is not None
    assert [(row.place, row.label) for row in found.matched.rows] == [(1, "l1"), (2, "l2")]
    assert found.matched.rows[0].scores["psnr"] == pytest.approx(math.log(30) + 0.5)
    assert found.matched.rows[0].mean_rank == 1
    assert "spans 2 to 4 nats, not 30" in found.matched.absent["ssim"]
    (middle,) = rate_distortion(plan, data)
    assert middle.matched is not None
    assert middle.matched.rate == pytest.approx(math.sqrt(10 * 100))  # what two of three span
    (outside,) = rate_distortion(plan, data, rate=1e6)
    assert outside.matched is not None
    assert outside.matched.rows == ()
    assert len(outside.matched.absent) == 3


def test_equal_losses_share_a_place() -> None:
    plan = untuned({"l2": (0.01, 0.1), "l1": (0.01, 0.1)})
    (found,) = rate_distortion(plan, records(plan, {"l2": 0, "l1": 0}))
    assert found.matched is not None
    assert [(row.place, row.mean_rank) for row in found.matched.rows] == [(1, 1.5), (1, 1.5)]


def test_points_whose_jobs_are_not_done_are_left_out_with_a_note() -> None:
    plan = untuned({"l2": (0.01, 0.02, 0.1), "l1": (0.01, 0.1)})
    data = records(plan, {"l2": 0, "l1": 0})
    del data[plan.jobs[0].id]
    (found,) = rate_distortion(plan, data)
    assert len(found.curves[0].points) == 2
    assert found.curves[0].notes == ("1 of 3 points are missing: their jobs are not all done",)


def test_other_protocols_make_no_curve() -> None:
    plan = untuned({"l2": (0.01, 0.1)})
    data = records(plan, {"l2": 0})
    first = plan.jobs[0].id
    data[first] = data[first].model_copy(update={"protocol": "0123456789abcdef"})
    assert rate_distortion(plan, data) == ()


def test_an_unknown_reference_is_an_error() -> None:
    plan = untuned({"l2": (0.01, 0.1), "l1": (0.01, 0.1)})
    data = records(plan, {"l2": 0, "l1": 0})
    (found,) = rate_distortion(plan, data, reference="l1")
    assert found.reference == "l1"
    with pytest.raises(ValueError, match="label l3; available: l2, l1"):
        rate_distortion(plan, data, reference="l3")


def test_suites_with_one_weight_each_have_no_curves() -> None:
    plan = untuned({"l2": (0.01,), "l1": (0.02,)})
    assert rate_distortion(plan, records(plan, {"l2": 0, "l1": 0})) == ()


def curve(label: str, rates: Sequence[float], scores: Sequence[float], **changes: Any) -> RateCurve:
    points = tuple(
        RatePoint(label=f"{label} {rate}", kl_weight=1, values={}, seeds=1, rate=rate, scores={"psnr": score})
        for rate, score in zip(rates, scores, strict=True)
    )
    return RateCurve(**{"label": label, "family": "pixel", "points": points, **changes})


def test_a_collapsed_posterior_and_infinite_scores_are_not_interpolated() -> None:
    rates, scores = curve("a", [0, 1, 2, 3], [9.0, 1.0, math.inf, 3.0]).line(PSNR)
    assert (rates, scores) == ([1, 3], [1.0, 3.0])
    with pytest.raises(NotComparable, match=r"at least two points .*, got 1"):
        curve("a", [0, 1], [1.0, 2.0]).line(PSNR)
    assert matched([curve("a", [0, 1], [1, 2]), curve("b", [0, 0], [1, 2])], [PSNR], ["psnr"]) is None


def test_points_with_one_rate_are_averaged() -> None:
    assert curve("a", [1, 1, 2], [1.0, 3.0, 5.0]).line(PSNR) == ([1, 2], [2.0, 5.0])


def test_where_more_is_tuned_the_frontier_is_interpolated() -> None:
    tuned = curve("a", [1, 2, 3, 4], [1.0, 0.5, 3.0, 2.0], several=True)
    assert tuned.line(PSNR) == ([1, 3], [1.0, 3.0])


@pytest.mark.parametrize("column", [PSNR, MSE], ids=lambda column: column.direction)
def test_ranks_follow_the_direction_of_the_metric(column: Column) -> None:
    one = curve("one", [1, 10], [1, 2])
    two = curve("two", [1, 10], [3, 4])
    name = {"psnr": "psnr", "mse": "psnr"}[column.name]
    found = matched([one, two], [column.model_copy(update={"name": name})], [name])
    assert found is not None
    assert found.rows[0].label == ("two" if column.direction == "higher" else "one")
