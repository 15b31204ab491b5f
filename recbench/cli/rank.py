"""``recbench rank``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recbench.cli.completion import complete_names
from recbench.cli.options import confidence_option, load, output_option, plugin_options
from recbench.cli.text import echo
from recbench.errors import UserError
from recbench.files import write_output
from recbench.plugin.registry import Registry

if TYPE_CHECKING:
    from pandas import DataFrame

    from recbench.contracts.direction import Direction


@click.command("rank")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    default="",
    metavar="NAME",
    shell_complete=complete_names("metrics"),
    help="Metric of recbench that the scores are of: its direction and range.",
)
@click.option(
    "--direction",
    metavar="higher|lower|NUMBER",
    help="Which scores are better, or the one that is best.  [default: the metric's, else higher]",
)
@click.option("--range", "score_range", metavar="LOW,HIGH", help="Lowest and highest possible score.")
@confidence_option
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True, help="Format."
)
@output_option
@plugin_options
def rank_command(
    file: Path,
    metric: str,
    direction: str | None,
    score_range: str | None,
    confidence: float,
    form: str,
    output: Path | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Rank the methods in FILE, a CSV table of scores from anywhere, with intervals, rank intervals and tiers.

    FILE has the columns method, seed, image and score, and a row for each of them. The statistics are those of a board:
    methods are compared image by image and over seeds.
    """
    from recbench.api.ranking import column_of, ranked

    plugins = load(plugin_files, blocked, strict)
    score = Registry(plugins).score(metric) if metric else None
    found = ranked(file, column_of(score, _direction(direction), _range(score_range)), confidence)
    text = {"text": _text, "csv": _csv, "json": _json}[form](found, confidence)
    if output is None:
        echo(text, nl=False)
    else:
        write_output(output, text.encode())


def _direction(text: str | None) -> Direction | None:
    if text is None or text in ("higher", "lower"):
        return text  # type: ignore[return-value]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--direction {text}: expected higher, lower or the score that is best")
    return number


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(end) for end in text.split(","))
    except ValueError:
        low = high = math.nan
    if not low < high:
        raise UserError(f"--range {text}: expected LOW,HIGH, such as 0,1 (or -inf,1)")
    return low, high


def _csv(found: DataFrame, confidence: float) -> str:
    text: str = found.to_csv(index=False)
    return text


def _json(found: DataFrame, confidence: float) -> str:
    facts = {
        "metric": found.attrs["metric"],
        "direction": found.attrs["direction"],
        "confidence": confidence,
        "methods": [{key: _finite(value) for key, value in row.items()} for row in found.to_dict("records")],
        "p": {one: dict(row) for one, row in found.attrs["p"].to_dict().items()},
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    """Return a number that JSON has: None for NaN, text for infinity."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _text(found: DataFrame, confidence: float) -> str:
    level = f"{100 * confidence:.4g} %"
    heads = (
        "#",
        "rank interval",
        "method",
        f"{found.attrs['metric']}",
        f"interval ({level})",
        "tier",
        "seeds",
        "images",
    )
    rows = [heads, *(_row(row) for row in found.to_dict("records"))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if i == 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    direction = found.attrs["direction"]
    better = f"{direction} is better" if isinstance(direction, str) else f"the nearer to {direction:g}, the better"
    return "\n".join([*lines, "", f"{better}; --direction and --metric say otherwise"]) + "\n"


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    interval = "–" if math.isnan(row["low"]) else f"{row['low']:.5g} to {row['high']:.5g}"
    ranks = row["rank_interval"].replace(" to ", "–")
    ends = ranks.split("–")
    ranks = ends[0] if ends[0] == ends[1] else ranks
    numbers = (str(row["tier"]), str(row["seeds"]), str(row["images"]))
    return str(row["place"]), ranks, row["method"], f"{row['mean']:.5g}", interval, *numbers
