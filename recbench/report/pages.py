"""HTML pages from templates. All text from suites, labels and tracebacks is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recbench import __version__
from recbench.contracts.entries import Entry
from recbench.plugin.registry import Registry
from recbench.render import published
from recbench.render.board import legend
from recbench.render.text import head, number
from recbench.report import sections, series, standings
from recbench.report.content import BoardView, Content, JobView, MethodView
from recbench.report.lettering import visible
from recbench.report.sections import Section
from recbench.report.sheets import Sheet

TILE = 72
"""The minimum size of a tile in pixels; larger images are initially shown at up to twice that size."""


class Pages:
    """Renders the pages of one report."""

    def __init__(self, content: Content, registry: Registry | None, resolved: str) -> None:
        self.content = content
        self.registry = registry
        self.resolved = resolved
        self.environment = Environment(
            loader=PackageLoader("recbench.report"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalized,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # No NaN in JSON; the filter itself escapes < and &, so that no text can close its script element.
        self.environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}

    def board(
        self,
        view: BoardView,
        found: Sequence[Section],
        strips: Mapping[str, Sequence[str]],
        prints: Mapping[str, str],
        per_image: Mapping[str, str],
    ) -> str:
        """Return the page of a board.

        Args:
            view: the board.
            found: its sections.
            strips: files of each sheet's rows, by the sheet's name.
            prints: the file of each chart's static figure, by the chart's name.
            per_image: files with the scores of all images, by metric.
        """
        shown = [
            {**vars(section), "files": [f"data/{name}" for name, _ in section.files], "sheets": section.sheets}
            for section in found
        ]
        return self._render(
            "board.html",
            "",
            view=view,
            sections=shown,
            summary=standings.summary(view),
            heads=standings.heads(view.board),
            lines=standings.lines(view),
            families=sorted({family for row in view.board.rows for family in row.families}),
            legend=_sentence(_without_values(legend(view.board))),
            captions=standings.captions(view.board),
            titles=self._protocols(),
            per_image=per_image,
            strips=strips,
            prints=prints,
            panels=[_panel(method, "objective", method.label) for method in view.methods],
            printed=[
                {
                    "title": published.title(table),
                    "summary": published.summary(table),
                    "remarks": list(published.remarks(table)),
                    "rows": [published.cells(table, compared) for compared in table.compared],
                    "orderings": list(published.orderings(table)),
                }
                for table in view.published
            ],
            printed_heads=published.HEADS,
            number=number,
            head=head,
            troubles=sections.troubles(self.content, view),
            provenance=provenance(view),
            resolved=self.resolved,
        )

    def method(self, index: int, strips: Mapping[int, Sequence[tuple[str, str]]]) -> str:
        """Return the page of a method.

        Args:
            index: the index of the method in the plan.
            strips: for each board by number, names and files of rows of images.
        """
        boards = [(view, own) for view in self.content.boards for own in view.methods if own.index == index]
        view, own = boards[0]
        here = [method.index for method in view.methods].index(index)
        registered = self.registry.find("losses", own.method.loss.name) if self.registry else None
        entry = registered.entry if registered else None
        panels = {
            each.number: [
                _panel(mine, name, title) for name, title in series.quantities(each).items() if name != "learning_rate"
            ]
            for each, mine in boards
        }
        return self._render(
            "method.html",
            "../",
            label=own.label,
            method=own.method,
            boards=boards,
            before=view.methods[here - 1] if here else None,
            after=view.methods[here + 1] if here + 1 < len(view.methods) else None,
            entry=entry,
            plugin=registered.plugin.provider if registered else "",
            docs=_docs(entry),
            strips=strips,
            panels={number: [panel for panel in own if panel["lines"]] for number, own in panels.items()},
            jobs={each.number: self._jobs(each, mine) for each, mine in boards},
            standing=_standing,
            facts=_facts,
            head=head,
            number=number,
        )

    def _jobs(self, view: BoardView, method: MethodView) -> list[JobView]:
        """Return the method's jobs on a board, and those of its tuning."""
        mine = {job.planned.id for job in method.jobs}
        own = [job for job in self.content.jobs if job.planned.method == method.index and job.planned.id not in mine]
        return [*method.jobs, *(job for job in own if job.planned.setting == view.setting)]

    def _protocols(self) -> dict[int, str]:
        """Return the protocols of boards that share their setting with another board, by number."""
        settings = [view.board.setting for view in self.content.boards]
        return {
            view.number: f"protocol {view.board.protocol}" if settings.count(view.board.setting) > 1 else ""
            for view in self.content.boards
        }

    def _render(self, template: str, root: str, **variables: Any) -> str:
        helpers: dict[str, Callable[..., object]] = {
            "tile_size": tile_size,
            "measures": lambda sheet: list(dict.fromkeys(name for row in sheet.rows for name in row.scores)),
            "sheet_width": lambda sheet: max(len(group.columns) for group in sheet.groups),
            "sheet_data": sheet_data,
            "reason": _reason,
        }
        page = self.environment.get_template(template)
        # Imported templates see the globals, but not the variables passed to render.
        page.globals.update(helpers, root=root)
        return page.render(content=self.content, version=__version__, root=root, **helpers, **variables) + "\n"


def _finalized(value: object) -> object:
    """Return a value as a template shows it; logs and messages may hold what colours a terminal."""
    return visible(value) if type(value) is str else value


def tile_size(sheet: Sheet) -> int:
    """Return the initial size of a tile on the page in pixels."""
    return max(TILE, min(sheet.shape[1], 2 * TILE))


def sheet_data(sheet: Sheet) -> dict[str, Any]:
    """Return the data with which the page switches between groups of columns and enlarges tiles."""
    return {
        "noun": sheet.noun,
        "heads": sheet.heads,
        "against": sheet.against,
        "name": sheet.name,
        "groups": [{"name": group.name, "why": group.why, "columns": group.columns} for group in sheet.groups],
        "rows": [
            {"label": row.label, "captions": row.captions, "slug": row.slug, "scores": row.scores} for row in sheet.rows
        ],
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _without_values(text: str) -> str:
    """Return a legend without what it says of means and spreads, which depends on the reader's choice of values."""
    return "; ".join(part for part in text.split("; ") if not part.startswith("mean ±"))


def _docs(entry: Entry | None) -> dict[str, str]:
    return {parameter.name: parameter.doc for parameter in entry.parameters} if entry else {}


def _standing(view: BoardView, method: MethodView) -> str:
    row = method.row
    if row.place is None:
        return f"Not ranked: {row.seeds_done} of {row.seeds} seeds are completed" + (
            f"; {row.status}." if row.trouble else "."
        )
    ranked = sum(other.place is not None for other in view.board.rows)
    return f"Rank {row.place} of {ranked} by mean rank ({number(row.mean_rank, 2)}), with {row.seeds} seeds."


def _reason(job: JobView) -> str:
    """Return in one line why a job has no scores."""
    if job.record is not None and job.record.failure is not None:
        message = job.record.failure.message.strip().partition("\n")[0]
        return f"{job.record.failure.type}: {message}"[:300]
    return job.why or "not run, or not finished yet"


def _facts(job: JobView, view: BoardView) -> list[tuple[str, str]]:
    """Return names and values of the facts on a job's card."""
    record = job.record
    if record is None:
        return []
    facts = [
        (column.name, number(record.scores[column.name].mean, column.digits))
        for column in view.board.columns
        if column.name in record.scores
    ]
    if record.evaluated is not None and record.evaluated.kl is not None:
        facts.append(("KL", f"{record.evaluated.kl:.1f} nats"))
    if record.trained is not None:
        facts += [("training", _duration(record.trained.seconds)), ("steps", f"{record.trained.steps:,}")]
    if record.cost is not None:
        facts.append(("speed", f"{record.cost.images_per_second:.0f} images/s"))
        facts.append(("peak memory", f"{record.cost.peak_memory_bytes / 2**30:.2f} GiB"))
    facts += [("device", record.provenance.device), ("finished", record.provenance.finished)]
    return facts


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _panel(method: MethodView, quantity: str, label: str) -> dict[str, Any]:
    """Return one small curve per seed, on a common scale, in a box of 160 by 56."""
    runs = []
    for job in method.jobs:
        points = [(line["epoch"], line[quantity]) for line in job.history if quantity in line]
        if points:
            runs.append((job.status in ("failed", "diverged"), series.thinned(points, 60)))
    every = [point for _, points in runs for point in points]
    facts: dict[str, Any] = {"label": label, "page": method.page, "lines": [], "first": "", "last": "", "alt": ""}
    if not every:
        return {**facts, "alt": f"{label}: nothing recorded", "first": "nothing recorded"}
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    place = partial(_place, left=left, right=right, low=low, high=high)
    facts["lines"] = [{"points": " ".join(map(place, points)), "broken": broken} for broken, points in runs]
    start, end = runs[0][1][0][1], runs[0][1][-1][1]
    facts["first"], facts["last"] = f"{start:.4g}", f"{end:.4g}"
    facts["alt"] = f"{label}: {quantity} from {start:.4g} to {end:.4g} in epoch {right:g}"
    return facts


def _place(point: tuple[float, float], *, left: float, right: float, low: float, high: float) -> str:
    x = (point[0] - left) / (right - left) if right > left else 0.5
    y = (point[1] - low) / (high - low) if high > low else 0.5
    return f"{2 + 156 * x:.1f},{53 - 50 * y:.1f}"


def provenance(view: BoardView) -> dict[str, list[str]]:
    """Return where the board's jobs ran, and with which versions: each fact with its distinct values."""
    records = [job.record for job in view.jobs if job.record is not None]
    facts: dict[str, list[str]] = {}

    def add(name: str, value: object) -> None:
        text = "" if value is None else str(value)
        if text and text not in facts.setdefault(name, []):
            facts[name].append(text)

    for record in records:
        where = record.provenance
        add("recbench", where.recbench)
        add("commit", where.git)
        add("Python", where.python)
        for package, version in where.packages.items():
            add(package, version)
        plugins: dict[str, list[str]] = {}
        for plugin, version in where.plugins.items():
            plugins.setdefault(version, []).append(plugin)
        for version, names in plugins.items():
            add("plugins", f"{', '.join(names)}: {version}")
        add("platform", where.platform)
        add("processor", where.processor)
        add("device", where.device)
        add("threads", where.threads)
        add("protocol", record.protocol)
        if record.data is not None:
            add("images", f"{record.data.train} training, {record.data.validation} validation, {record.data.test} test")
            add("fingerprint of the images", record.data.fingerprint)
    if records:
        facts["first job started"] = [min(record.provenance.started for record in records)]
        facts["last job finished"] = [max(record.provenance.finished for record in records)]
        seconds = math.fsum(record.trained.seconds for record in records if record.trained)
        facts["total training time"] = [_duration(seconds)]
    return facts
