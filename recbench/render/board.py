"""The tables of a board as rows of text, with the legends that explain them; every text format shows these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recbench.analysis.board import Board
from recbench.analysis.tuning import chosen as tuned_values
from recbench.analysis.tuning import trials
from recbench.render.columns import (
    IN_FAMILY,
    UNWELL,
    BoardColumn,
    TableEntry,
    any_in_family,
    interval,
    is_ranked,
    ranks,
    short_letters,
)
from recbench.render.text import head, number


def table(board: Board, columns: Sequence[BoardColumn]) -> list[list[TableEntry]]:
    """Return the head and the rows of a table with these columns."""
    rows = [[column.entry(row) for column in columns] for row in (*board.rows, *board.baselines)]
    return [[TableEntry(column.head) for column in columns], *rows]


def narrowed(
    rows: Sequence[Sequence[TableEntry]], columns: Sequence[BoardColumn]
) -> tuple[list[list[TableEntry]], list[BoardColumn]]:
    """Return a table with tiers below rank intervals, and seeds below methods, and the columns that are left."""
    left, columns = [list(row) for row in rows], list(columns)
    for upper, lower in (("rank", "tier"), ("method", "seeds")):
        names = [column.name for column in columns]
        if upper in names and lower in names:
            above, below = names.index(upper), names.index(lower)
            for row in left:
                mark = row[above].mark or row[below].mark
                row[above] = replace(row[above], under=row[below].text, mark=mark)
                del row[below]
            del columns[below]
    return left, columns


def front(columns: Sequence[BoardColumn]) -> int:
    """Return how many columns stand before the numbers, the method last; 0 if the method is not among them."""
    names = [column.name for column in columns]
    return names.index("method") + 1 if "method" in names else 0


def legend(board: Board, columns: Sequence[BoardColumn] | None = None) -> str:
    """Return the explanation of :func:`table`, in one line; without columns, of the whole table."""
    names = {column.name for column in columns} if columns is not None else None
    metrics = {column.name for column in board.columns}
    shown = {name.removesuffix(".spread").removesuffix(".rank") for name in names or metrics} & metrics
    spreads = names is None or any(name.endswith(".spread") for name in names)
    means = names is not None and bool(names & metrics)
    images = f"{board.test_images} test images" if board.test_images else "the test images"
    by = ", ".join(board.ranking)
    parts = []
    tested = board.confidence is not None and bool(board.ranking)
    if tested and (names is None or "rank" in names):
        parts.append(f"rank: interval of ranks that significant differences by {by} leave open ({_percent(board)})")
    if tested and (names is None or "tier" in names):
        parts.append("tier: methods that share a letter do not differ significantly")
    if means:
        parts.append(
            f"mean [{_percent(board)} confidence interval] {_scopes(board, sorted(shown & set(board.verdicts)))}"
        )
    if spreads:
        parts.append(f"mean ± std over {images} (std over seeds)")
        parts += _conventions(board)
    if not board.ranking:
        parts.append("no metric ranks all methods")
    elif names is None or "mean_rank" in names:
        parts.append(f"mean rank: over {by}")
    if any_in_family(board) and (means or spreads):
        fair = "; out-of-family rank: mean rank without these" if names is None or "out_of_family_rank" in names else ""
        parts.append(f"{IN_FAMILY} in-family metric of the loss{fair}")
    if board.confidence is not None and (means or spreads) and sum(map(is_ranked, board.rows)) > 1:
        parts.append("bold: significantly better than all others")
    if "kl" in (names or ()) and "kl" not in metrics:
        parts.append("KL: nats per image")
    unrounded = [column.name for column in board.columns if not column.rounded and column.name in shown]
    but = f" (except for {', '.join(unrounded)})" if unrounded else ""
    if board.baselines:
        parts.append("baselines below the methods are fitted without steps, and not ranked")
    return "; ".join([*parts, f"{images}, rounded to 8 bits{but}" if not spreads else f"images rounded to 8 bits{but}"])


def _conventions(board: Board) -> list[str]:
    """Return what distances between sets of images compared, each convention with its metrics."""
    named = {"test": "test images", "validation": "validation images", "train": "training images", "given": "targets"}
    found: dict[str, list[str]] = {}
    for name, several in board.compared.items():
        texts = [
            f"{one.images:,} images against {one.references:,} {named[one.reference]}, resized {one.resize}"
            for one in several
        ]
        found.setdefault(", or in some jobs ".join(texts), []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in found.items()]


def _scopes(board: Board, metrics: Sequence[str]) -> str:
    """Return what the intervals of these metrics speak about."""
    about = {
        "seeds and images": "over all trainings and images",
        "images": "over all images, for these trainings only (one seed each)",
        "seeds": "over all trainings, for these images only",
    }
    names: dict[str, list[str]] = {}
    for name in metrics:
        names.setdefault(board.verdicts[name].basis, []).append(name)
    several = len(names) > 1
    found = [
        text + (f" ({', '.join(names[basis])})" if several else "") for basis, text in about.items() if basis in names
    ]
    return ", ".join(found)


def details_legend(board: Board) -> str:
    """Return the explanation of :func:`details`, in one line."""
    scopes = _scopes(board, list(board.verdicts))
    parts = [f"[{_percent(board)} confidence interval of the mean] {scopes}"] if scopes else []
    parts.append("rank interval and tier by each metric alone")
    unpaired = [n for n, verdict in board.verdicts.items() if not verdict.by_image and "images" in verdict.basis]
    if unpaired:
        parts.append(f"not compared image by image: {', '.join(unpaired)}")
    return "; ".join(
        [*parts, "Borda: points by rank; Pareto: no other method is as good by all metrics and better by one"]
    )


def _percent(board: Board) -> str:
    return f"{100 * (board.confidence or 0):.4g} %"


def warnings(board: Board) -> list[str]:
    """Return a line for each health warning of the board."""
    found = []
    for row in board.rows:
        for warned in row.health:
            which = (
                f" (seed{'s' * (len(warned.seeds) > 1)} {', '.join(map(str, warned.seeds))})" if warned.seeds else ""
            )
            found.append(f"{UNWELL} {row.label}{which}: {warned.sentence}")
    return found


def details(board: Board) -> list[list[TableEntry]]:
    """Return the head and the rows of the statistics of each ranked method by each metric; empty without statistics."""
    ranked = [row for row in board.rows if row.status == "ranked"]
    if board.confidence is None or not ranked:
        return []
    columns = [column for column in board.columns if column.name in board.verdicts]
    heads = ["method", *(f"{column.name}: interval, rank interval, tier" for column in columns), "Borda", "Pareto"]
    rows = [[TableEntry(text) for text in heads]]
    for row in ranked:
        line = [TableEntry(row.label)]
        for column in columns:
            cell = row.cells[column.name]
            ends = interval(cell, column.digits) or "–"
            places = f"· {ranks(cell.rank_interval)} · {short_letters(cell.tier)}"
            line.append(TableEntry(f"[{ends}]", under=places, brackets=False))
        rows.append([*line, TableEntry(number(row.borda, 1)), TableEntry("yes" if row.pareto else "no")])
    return rows


def tuning(board: Board) -> list[list[TableEntry]]:
    """Return the head and the rows of tuning: the chosen values of each method, and its best-of-k curve at 1, 2, 4, …
    and all candidates; empty in a suite without tuning."""
    tuned = [(row.label, row.tuned) for row in board.rows if row.tuned is not None]
    if not tuned:
        return []
    first = tuned[0][1]
    column = next(column for column in board.columns if column.name == first.metric)
    sizes = [2**power for power in range(first.budget.bit_length()) if 2**power < first.budget] + [first.budget]
    of = "best" if column.target is None else f"distance to {column.target:g}, best"
    heads = ["method", "chosen", "scale", "trials", f"{head(column)} (validation)", *(f"{of} of {k}" for k in sizes)]
    rows = [[TableEntry(text) for text in heads]]
    for label, found in tuned:
        curve = [found.best_of[k - 1] if k <= len(found.best_of) else None for k in sizes]
        scale = "–" if found.scale is None else f"{found.scale:g}"
        line = [label, tuned_values(found), scale, trials(found)]
        rows.append([TableEntry(text) for text in (*line, *(number(v, column.digits) for v in (found.score, *curve)))])
    return rows


def tuning_legend(board: Board) -> str:
    """Return the explanation of :func:`tuning`, in one line."""
    tuned = next(row.tuned for row in board.rows if row.tuned is not None)
    how = "of the first k" if tuned.strategy == "optuna" else "expected over all draws of k candidates"
    edge = ", (edge) at the end of their range" if any(row.tuned and row.tuned.edge for row in board.rows) else ""
    return (
        f"tuning ({tuned.strategy}): values chosen by {tuned.metric} on the validation images{edge}; scale: factor of "
        f"the ladder of KL weights; best of k: {how}"
    )
