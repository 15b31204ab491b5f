"""Writing a report: into a temporary folder, which replaces the last report once it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from recbench.errors import UserError
from recbench.files import full_disk_named, lock, read_regular
from recbench.report import figures, sheets, tables
from recbench.report.charts import Chart
from recbench.report.content import BoardView, Content, MethodView
from recbench.report.pages import Pages
from recbench.report.per_image import per_image
from recbench.report.sections import Section, Sources, sections
from recbench.report.sheets import Sheet

FOLDER = "report"
_WORK = ".report"
_MOST_SUITE = 1 << 24


def write(content: Content, sources: Sources, home: Path | None = None) -> Path:
    """Write the report of a suite.

    The old report stays in place until the new one is complete, and is then removed entirely.

    Args:
        content: of the report.
        sources: of pictures.
        home: the folder that the report's folder is put into; by default that of the suite.

    Returns:
        The path of its first page.

    Raises:
        UserError: another process is writing this report, or ``report`` is a file or a link.
        OutOfSpaceError: the file system is full.
    """
    return put(home or sources.folder, lambda folder: Writer(content, sources, folder).write())


def put(home: Path, fill: Callable[[Path], None]) -> Path:
    """Put the report's folder into another one; it gets its name once ``fill`` has written everything into it.

    Errors and the returned path are those of :func:`write`.
    """
    target, work = home / FOLDER, home / _WORK
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target}: expected a folder for the report, got a file or a link; remove or rename it")
    with lock(work) as mine:
        if not mine:
            raise UserError(f"another process is writing the report in {target}")
        for leftover in ("new", "old"):  # from a process that was killed
            _remove(work / leftover)
        with full_disk_named(work):
            try:
                fill(work / "new")
                if target.exists():
                    target.rename(work / "old")
                (work / "new").rename(target)
            finally:
                for leftover in ("new", "old"):
                    _remove(work / leftover)
    return target / "index.html"


def _remove(leftover: Path) -> None:
    if leftover.is_symlink() or leftover.is_file():
        leftover.unlink()
    shutil.rmtree(leftover, ignore_errors=True)


@dataclass(frozen=True)
class Writer:
    """Writes all files of a report into ``folder``."""

    content: Content
    sources: Sources
    folder: Path

    def write(self) -> None:
        self.folder.mkdir(parents=True)
        self.assets()
        tell = self.sources.tell
        tell("writing tables")
        self.save("data/leaderboard.csv", tables.leaderboard(self.content))
        self.save("data/jobs.csv", tables.jobs(self.content))
        self.packed("training-curves.csv", tables.histories(self.content))
        text = ""
        with suppress(OSError):
            text = read_regular(self.sources.folder / "suite.yaml", _MOST_SUITE).decode(errors="replace")
        pages = Pages(self.content, self.sources.registry, text)
        strips: dict[int, dict[int, list[tuple[str, str]]]] = {}
        for view in self.content.boards:
            tell(f"{view.board.setting}: writing images and plots")
            found = [self._with_curves(section) for section in sections(self.content, view, self.sources)]
            files_of = {own.name: self.sheet(view, own) for section in found for own in section.sheets}
            prints = self.charts(view, [own for section in found for own in section.charts])
            for shown in (each for section in found for each in section.sheets if each.name == "images"):
                self.script(f"{view.files}-scores", "recbenchScores", view, per_image(view, shown))
            saved = {file: self.packed(file, content) for section in found for file, content in section.files}
            found = [_renamed(section, saved) for section in found]
            csv = {name: self.packed(file, content) for name, file, content in tables.per_image(view)}
            self.save(view.file, pages.board(view, found, files_of, prints, csv).encode())
            for method in view.methods:
                own = [pair for section in found for s in section.sheets for pair in _strips(s, files_of, method)]
                strips.setdefault(method.index, {})[view.number] = own
        tell("writing the pages of methods")
        for index, slug in enumerate(self.content.slugs):
            if index in strips:
                everywhere = {view.number: strips[index].get(view.number, []) for view in self.content.boards}
                self.save(f"methods/{slug}.html", pages.method(index, everywhere).encode())

    def save(self, name: str, content: bytes) -> str:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        return name

    def packed(self, name: str, content: bytes) -> str:
        name, content = tables.packed(name, content)
        return self.save(f"data/{name}", content)

    def _with_curves(self, section: Section) -> Section:
        """Return the section, with the file that all boards share if it is that of training curves."""
        if section.name != "training":
            return section
        return Section(**{**vars(section), "files": (("training-curves.csv", tables.histories(self.content)),)})

    def assets(self) -> None:
        from plotly.offline import get_plotlyjs

        for asset in (files("recbench.report") / "static").iterdir():
            self.save(f"assets/{asset.name}", asset.read_bytes())
        self.save("assets/plotly.js", get_plotlyjs().encode())

    def sheet(self, view: BoardView, sheet: Sheet) -> list[str]:
        """Write the strips of a sheet and return their files, by row."""
        return [
            self.save(
                f"images/{view.files}-{sheet.name}-{number}{sheet.suffix}",
                sheets.strip(row.images, lossless=sheet.lossless),
            )
            for number, row in enumerate(sheet.rows)
        ]

    def script(self, name: str, variable: str, view: BoardView, data: object) -> None:
        """Write data as a script, which a page from a disk may load, as it may not load JSON."""
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
        script = f"(window.{variable} ??= {{}})[{json.dumps(view.files)}] = {text};\n"
        self.save(f"assets/{name}.js", script.encode())

    def charts(self, view: BoardView, found: Sequence[Chart]) -> dict[str, str]:
        """Write the data and the static figures of a board's plots, and return the files of the figures by name."""
        self.script(view.files, "recbenchCharts", view, {chart.name: chart.data() for chart in found})
        prints = {}
        for chart in found:
            drawing = figures.render(figures.draw(chart.name, view), "svg")
            prints[chart.name] = self.save(f"figures/{view.files}-{chart.name}.svg", drawing)
        return prints


def _renamed(section: Section, saved: Mapping[str, str]) -> Section:
    """Return a section whose files have the names under which they were written, compressed or not."""
    named = tuple((saved[name].removeprefix("data/"), content) for name, content in section.files)
    return Section(**{**vars(section), "files": named})


def _strips(sheet: Sheet, files_of: Mapping[str, Sequence[str]], method: MethodView) -> list[tuple[str, str]]:
    """Return names and files of a method's rows for its own page."""
    found = []
    for row, file in zip(sheet.rows, files_of[sheet.name], strict=True):
        if sheet.name == "images" and not row.method:
            found.append((row.label, file))
        elif row.method == method.label and sheet.name == "epochs":
            found.append((f"after epochs {_spelled(sheet)}, then the image itself", file))
        elif row.method == method.label and sheet.name in ("images", "samples", "kernels"):
            found.append((sheet.noun + "s" if sheet.name != "kernels" else row.label, file))
    return found


def _spelled(sheet: Sheet) -> str:
    """Return the epochs of a sheet of reconstructions over the epochs."""
    return ", ".join(sheet.heads[column].removeprefix("epoch ") for column in sheet.groups[0].columns[:-1])
