"""The words of ``recbench try``: where a loss stands on a board, at equal KL too, and what a quick try can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbench.analysis.board import Board, Leaderboard
from recbench.analysis.contender import Standing, standing
from recbench.analysis.rate_distortion import RateDistortion, rate_distortion
from recbench.cli.forecast import Forecast
from recbench.cli.text import say
from recbench.plan.plan import Plan
from recbench.plan.tuning import REFERENCE
from recbench.render.text import number, percent
from recbench.store.record import Result


def print_standings(
    leaderboard: Leaderboard,
    plan: Plan,
    records: Mapping[str, Result],
    losses: Sequence[str],
    expected: Forecast,
    *,
    board: str,
) -> None:
    """Print where each loss stands on each board: by all metrics, by each, at equal KL, and its cost."""
    from recbench.cli.curves import print_matched

    curves = rate_distortion(plan, records)
    for found in curves:
        if found.matched is not None:
            say("")
            print_matched(found, found.matched)
    for each in leaderboard.boards:
        for label in losses:
            where = standing(each, label)
            if where is not None:
                say("")
                _print_standing(each, where, label, board)
                for found in curves:
                    if found.setting == each.setting:
                        _print_matched(found, label)
                _print_cost(each, where, label, expected)


def _print_standing(board: Board, found: Standing, label: str, name: str) -> None:
    row = found.row
    if row.status != "ranked" or row.rank_interval is None or found.overall is None:
        why = "; ".join(row.trouble) or f"{row.seeds_done} of {row.seeds} seeds are done"
        say(f"{label} is not ranked on the board of {name} ({row.status}): {why}")
        return
    low, high = row.rank_interval
    span = f"{low}–{high}" if low != high else f"{low}"
    say(
        f"{label} on the board of {name} ({board.setting}): place {row.place} of {found.of}, tier {row.tier}, rank "
        f"interval {span} ({percent(board.confidence or 0.95)}), mean rank {number(row.mean_rank, 2)} over "
        f"{', '.join(board.ranking)}"
    )
    say(f"  significantly better than: {_listed(found.overall.better)}")
    say(f"  significantly worse than:  {_listed(found.overall.worse)}")
    say(f"  undecided against:         {_listed(found.overall.open)}")
    say("  by single metrics:")
    for metric, against in found.by_metric.items():
        mark = " (⌂ of its own family)" if row.cells[metric].in_family else ""
        say(f"    {metric}{mark}: better than {_listed(against.better)}; worse than {_listed(against.worse)}")


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "none"


def _print_matched(found: RateDistortion, label: str) -> None:
    matched = found.matched
    if matched is None:
        return
    if label in matched.absent:
        say(f"  at equal KL ({matched.rate:.4g} nats): left out, since it {matched.absent[label]}")
        return
    row = next((row for row in matched.rows if row.label == label), None)
    if row is None:
        say("  at equal KL: it has no curve, which needs trials with at least two KL weights")
        return
    say(
        f"  at equal KL ({matched.rate:.4g} nats per image, interpolated on the {found.split} images, not tested): "
        f"place {row.place} of {len(matched.rows)}, mean rank {row.mean_rank:.2f}"
    )
    curve = next(curve for curve in found.curves if curve.label == label)
    told = [
        f"{column.name} {difference.value:+.{column.digits}f}"
        for column in found.columns
        if (difference := curve.differences.get(column.name)) is not None and difference.value is not None
    ]
    if told:
        say(f"  against {found.reference}, on average over the KL that both span: {', '.join(told)}")


def _print_cost(board: Board, found: Standing, label: str, expected: Forecast) -> None:
    seconds, cost = expected.steps.get(label), found.row.cost
    if seconds is None:
        return
    memory = "" if cost is None else f"; training took {cost.peak_memory_bytes / 2**20:,.0f} MiB at most"
    whole = "" if found.row.training_seconds is None else f", {found.row.training_seconds:.0f} s of training a seed"
    say(
        f"  cost: {1000 * seconds:.1f} ms a step, {seconds / expected.reference:.2f} × {REFERENCE} on this machine"
        f"{whole}{memory}"
    )
    base = next((row for row in board.rows if row.loss == REFERENCE and row.cost is not None), None)
    if cost is not None and base is not None and base.cost is not None and base.cost.step_milliseconds:
        mine, its = cost.step_milliseconds, base.cost.step_milliseconds
        say(f"  by the records, perhaps of two machines: {mine:.1f} ms a step against {its:.1f} ms of {REFERENCE}")


def quick_words(plan: Plan, board: Plan, losses: Sequence[str], expected: Forecast) -> None:
    """Print what a quick try tells, and what it does not."""
    names, epochs = ", ".join(losses), plan.settings[0].training.epochs
    of, seeds = board.settings[0].training.epochs, len({job.seed for job in board.jobs if job.split == "test"})
    say("")
    for label in losses:
        seconds = expected.steps.get(label)
        if seconds is not None:
            say(f"cost of {label}: {1000 * seconds:.1f} ms a step, {seconds / expected.reference:.2f} × {REFERENCE}")
    say(
        f"This tells that {names} can be trained here, what a step costs, and how it compares with {REFERENCE} after "
        f"{epochs} of {of} epochs with one seed, both at the KL weight that suits the board's losses relative to their "
        "scale. Its tests speak about other test images, not about other trainings."
    )
    say(
        f"It cannot tell the place of {names} among the board's methods, which were tuned and trained over {of} epochs "
        f"with {seeds} seed{'s' * (seeds != 1)}; nor whether another KL weight suits it. Without --quick, it can."
    )
