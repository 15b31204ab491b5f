"""The report as files: its choice of images, its pages, figures and tables, and its handling of hostile input."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import kendalltau

from recbench.analysis.interesting import interesting
from recbench.cli import cli
from recbench.cli.report import gathered
from recbench.errors import UserError
from recbench.files import lock
from recbench.plan.model import Column
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.render.columns import ranks
from recbench.render.spreadsheet import csv_text
from recbench.render.verdict import verdict
from recbench.report import charts, choosing, figures, series, sheets, spectra, standings, tables
from recbench.report.content import Content, gather, slugs
from recbench.report.sections import Sources, training
from recbench.report.write import write
from recbench.store.store import Store
from tests.report_store import HOSTILE, METRICS, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Nine methods with hostile labels, two settings; one method failed, one diverged, one is incomplete."""
    root = tmp_path_factory.mktemp("results") / "made-up"
    write_store(root, 9, (0, 1), size=16, labels=HOSTILE, settings=("a · vae", "b · <i>vae</i>"), test_images=40)
    return Store(root)


@pytest.fixture(scope="module")
def content(store: Store) -> Content:
    return gathered(store)


@pytest.fixture(scope="module")
def report(store: Store, content: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = Sources(store, Registry(load_plugins()), tmp_path_factory.mktemp("cache"))
    return write(content, sources).parent


# Choosing images


def test_methods_that_rank_images_alike_do_not_disagree() -> None:
    generator = np.random.default_rng(0)
    image = generator.normal(size=30)
    alike = np.stack([image, 5 * image - 100, np.exp(image)])
    assert choosing.disagreement([alike]) == pytest.approx(np.zeros(30))


def test_disagreement_finds_the_images_that_two_methods_swap() -> None:
    scores = np.tile(np.arange(20.0), (2, 1))
    scores[1, [3, 15]] = scores[1, [15, 3]]
    assert kendalltau(*scores).statistic < 1
    assert set(choosing.choose([scores], [True], 2, 20)["disagreement"]) == {3, 15}


def test_best_and_worst_go_by_the_direction_of_each_metric() -> None:
    psnr = np.arange(10.0)[None] + np.array([[0.0], [50.0]])
    chosen = choosing.choose([psnr, -psnr], [True, False], 3, 10)
    assert chosen["best"] == [9, 8, 7]
    assert chosen["worst"] == [0, 1, 2]


def test_infinite_scores_are_the_best_and_spoil_nothing() -> None:
    psnr = np.array([[1.0, np.inf, 3.0, 2.0], [1.0, np.inf, 2.0, 3.0]])
    chosen = choosing.choose([psnr], [True], 1, 4)
    assert chosen["best"] == [1]
    assert chosen["worst"] == [0]
    assert chosen["disagreement"][0] in (2, 3)


def test_random_images_are_the_same_in_every_report_and_need_no_scores() -> None:
    first, second = (choosing.choose([], [], 4, 100) for _ in range(2))
    assert first == second
    assert list(first) == ["random"]
    assert len(set(first["random"])) == 4
    assert max(choosing.choose([], [], 8, 5)["random"]) == 4


def test_only_available_images_are_chosen() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 100))
    chosen = choosing.choose([scores], [True], 8, 16)
    assert all(index < 16 for own in chosen.values() for index in own)


def test_far_pairs_begin_with_the_two_that_differ_most() -> None:
    images = np.array([0, 255, 10, 120, 130], dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    assert choosing.far_pairs(images, 2) == [(0, 1), (2, 4)]
    assert choosing.far_pairs(images[:1], 2) == []


# Spectra, compared with the metric's own implementation in torch


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 15, 15), (3, 12, 20)])
def test_spectra_are_those_of_the_metric(shape: tuple[int, int, int]) -> None:
    torch = pytest.importorskip("torch")
    from recbench_metrics import spectrum as metric

    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    mine = spectra.mean_log_spectrum(images)
    half = metric.log_spectrum(torch.from_numpy(images).double() / 255).mean(0)
    assert mine == pytest.approx(metric.full_spectrum(half, shape[2]).numpy(), abs=1e-9)
    frequencies, profile = spectra.radial_profile(mine)
    expected = metric.radial_profile(torch.from_numpy(mine))
    assert frequencies == pytest.approx(expected[0].numpy())
    assert profile == pytest.approx(expected[1].numpy())


# Numbers of plots


def test_the_page_says_of_ranks_and_bold_what_the_terminal_says(content: Content) -> None:
    view = content.boards[0]
    ranked = [line for line in standings.lines(view) if line.method.row.status == "ranked"]
    for line in ranked:
        row, metrics = line.method.row, line.cells[3 : 3 + len(view.board.columns)]
        assert line.cells[0].text == ranks(row.rank_interval)
        for column, cell in zip(view.board.columns, metrics, strict=True):
            assert ("best" in cell.classes.split()) == (row.cells[column.name].rank_interval == (1, 1))
    assert standings.summary(view).startswith(f"{verdict(view.board)}. Best means: ")


def test_what_can_be_compared_is_promised_only_where_every_job_has_it(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "The plot shows what can be compared"
    view = content.boards[0]
    section = training(view)
    assert section is not None and any(said in text for text in section.texts)
    some = dict(sorted(series.quantities(view).items(), key=lambda item: item[0].startswith("validation")))
    monkeypatch.setattr(series, "quantities", lambda _: some)  # as where jobs of an older version lack it
    section = training(view)
    assert section is not None and not any(said in text for text in section.texts)


def test_the_pareto_front_is_what_no_point_dominates(content: Content) -> None:
    method = content.boards[0].methods[0]
    generator = np.random.default_rng(3)
    found = [series.PlotPoint(method, *map(float, xy)) for xy in generator.integers(0, 8, (40, 2))]
    front = series.front(found, Column(name="psnr", direction="higher"))
    undominated = {
        (p.x, p.y) for p in found if not any((q.x <= p.x and q.y > p.y) or (q.x < p.x and q.y >= p.y) for q in found)
    }
    assert {(p.x, p.y) for p in front} == undominated
    assert [p.x for p in front] == sorted(p.x for p in front)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [(float(x), float(-x)) for x in range(1, 1001)]
    thin = series.thinned(points, 240)
    assert len(thin) == 240
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert series.thinned(points[:240], 240) == points[:240]


def test_epochs_of_kernels_are_spread_over_the_training() -> None:
    assert sheets.spread(100, 10)[0] == 0
    assert sheets.spread(100, 10)[-1] == 99
    assert sheets.spread(3, 10) == [0, 1, 2]


def test_kernels_stand_beside_their_images(content: Content) -> None:
    view = content.boards[0]
    sheet = sheets.kernels(view)
    assert sheet is not None
    assert sheet.heads[:2] == ("image", "epoch 1")
    traced = sheets.traced_kernels(view)
    assert len(sheet.rows) == 4 * len(traced) > 0
    for place, row in enumerate(sheet.rows):
        _, job, _ = traced[place // 4]
        assert np.array_equal(row.images[0], job.pictures["target"][place % 4])
        kernel = row.images[-1][0].astype(int)
        middle = kernel.shape[0] // 2
        assert kernel.max() == 255 == kernel[middle - 1 : middle + 2, middle - 1 : middle + 2].max()
        assert len(row.captions) == len(sheet.heads) == len(row.images)
        assert "centre off by 0.00" in row.captions[-1]


def test_kernels_larger_than_their_images_make_larger_tiles(content: Content) -> None:
    view = content.boards[0]
    method, job, values = sheets.traced_kernels(view)[0]
    large = np.pad(values, ((0, 0), (0, 0), (30, 30), (30, 30)))
    job.__dict__["traces"] = {"kernels": large}
    try:
        sheet = sheets.kernels(view)
    finally:
        job.__dict__["traces"] = {"kernels": values}
    assert sheet is not None
    assert sheet.shape == large.shape[2:]
    (row,) = [row for row in sheet.rows if row.label == f"#0 · {method.label}"]
    height = job.pictures["target"].shape[2]
    top = (sheet.shape[0] - height) // 2
    assert np.array_equal(row.images[0][:, top : top + height, top : top + height], job.pictures["target"][0])


def test_widths_of_kernels_are_drawn_and_tabled_by_epoch_and_image(content: Content) -> None:
    view = content.boards[0]
    curves = series.kernels(view, "width")
    assert {curve.image for curve in curves} == {0, 1, 2, 3}
    assert [curve.values[0] for curve in curves] == pytest.approx([0.6] * len(curves), abs=0.02)
    assert all(curve.values[-1] > 1 for curve in curves)
    chart = charts.kernels(view)
    assert chart is not None
    assert len(chart.views) == len(series.KERNEL_SHAPES)
    assert [len(view["data"]) for view in chart.views.values()] == [len(curves)] * 3
    head, first, *_ = csv.reader(io.StringIO(tables.kernels(view).decode()))
    assert head[:9] == ["method", "seed", "epoch", "image", "width", "pixels", "offset", "row", "column 0"]
    assert float(first[4]) == pytest.approx(curves[0].values[0], rel=1e-6)


# Names of files


def test_slugs_cannot_leave_their_folder_and_never_clash() -> None:
    labels = [*HOSTILE, "", "ß", "日本", "a" * 500, "same", "Same", "same!", "../../x", "C:\\x", "con", "."]
    found = slugs(labels)
    assert len(set(found)) == len(labels)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) and len(slug) < 60 for slug in found)


# The folder


class _Page(HTMLParser):
    """A parsed page: elements with their attributes, text, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.data).append(data)


def pages(report: Path) -> Iterator[tuple[Path, _Page]]:
    for file in sorted(report.rglob("*.html")):
        yield file, _Page(file.read_text(encoding="utf-8"))


def test_every_link_leads_to_a_file_of_the_report(report: Path) -> None:
    checked = 0
    for file, page in pages(report):
        ids = {attributes.get("id") for _, attributes in page.elements}
        links = [a.get(key) or "" for _, a in page.elements for key in ("href", "src", "data-source")]
        for _, attributes in page.elements:
            links += re.findall(r"url\(([^)]*)\)", attributes.get("style") or "")
        for link in filter(None, links):
            path, _, anchor = link.partition("#")
            if link.startswith("data:"):
                continue
            target = (file.parent / path).resolve() if path else file
            assert target.is_relative_to(report.resolve()), link
            assert target.is_file(), f"{file.name}: {link}"
            if anchor and not path:
                assert anchor in ids, link
            checked += 1
    assert checked > 500


def test_texts_of_others_are_shown_and_never_run(report: Path) -> None:
    text = "\n".join("".join(page.data) for _, page in pages(report))
    for hostile in HOSTILE:
        assert hostile in text
    for file, page in pages(report):
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]
        assert all(
            (a.get("src") or "").startswith(("assets/", "../assets/")) or a.get("type") == "application/json"
            for a in scripts
        )
        assert not [tag for tag, _ in page.elements if tag in ("b", "i", "iframe", "object")], file
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")], file
        for script in page.scripts:
            if script.strip():
                json.loads(script)


def test_failed_and_diverged_methods_are_shown_with_their_reasons(report: Path, content: Content) -> None:
    index = (report / "index.html").read_text(encoding="utf-8")
    for method in content.boards[0].methods:
        if method.row.status in ("failed", "diverged"):
            assert f'<span class="status {method.row.status}">' in index
            page = (report / method.page).read_text(encoding="utf-8")
            assert "RuntimeError" in page
            assert "alert(6)" in page  # of the traceback
            assert "at the second line" in page
            assert "alert(4)" in page  # of the log
    assert {m.row.status for m in content.boards[0].methods} == {"ranked", "incomplete", "failed", "diverged"}


def test_every_setting_has_a_page_and_every_method_one_for_all(report: Path, content: Content) -> None:
    assert {file.name for file in report.glob("*.html")} == {"index.html", "board-2.html"}
    assert len(list((report / "methods").iterdir())) == len(content.plan.methods)


def test_pages_are_labelled_for_those_who_do_not_see_them(report: Path) -> None:
    for file, page in pages(report):
        tags = page.elements
        assert sum(tag == "h1" for tag, _ in tags) == 1
        assert all(a.get("alt") for tag, a in tags if tag == "img"), file
        tiles = [a for tag, a in tags if tag == "button" and a.get("class") == "tile"]
        assert all(a.get("aria-label") for a in tiles)
        assert all(a.get("aria-label") for tag, a in tags if tag == "svg" and a.get("role") == "img")
        assert all(a.get("scope") for tag, a in tags if tag == "th"), file


def test_tables_hold_every_number(report: Path, content: Content, store: Store) -> None:
    with (report / "data" / "jobs.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["job"] for row in rows] == [job.planned.id for job in content.jobs]
    for row, job in zip(rows, content.jobs, strict=True):
        assert row["status"] == job.status
        if job.record is not None and job.status == "done":
            assert float(row["psnr"]) == job.record.scores["psnr"].mean
        assert not row["method"].startswith("=")
    method = content.boards[0].methods[0]
    file = next((report / "data").glob("board-1-per-image-1-psnr.csv"))
    with file.open(newline="", encoding="utf-8") as stream:
        values = [float(row[method.label]) for row in csv.DictReader(stream)]
    expected = np.mean([job.per_image["psnr"] for job in method.done], axis=0)
    assert values == pytest.approx(expected, rel=1e-6)


def test_large_tables_are_packed_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    content = csv_text(["a"], [[number] for number in range(1000)]).encode()
    assert tables.packed("x.csv", content) == ("x.csv", content)
    monkeypatch.setattr(tables, "LARGEST", 100)
    name, packed = tables.packed("x.csv", content)
    assert name == "x.csv.gz"
    assert gzip.decompress(packed) == content
    assert tables.packed("x.csv", content) == (name, packed)


@pytest.mark.slow
def test_the_same_records_give_the_same_report_and_nothing_stale_stays(
    report: Path, content: Content, store: Store, tmp_path: Path
) -> None:
    before = {path.relative_to(report): path.read_bytes() for path in report.rglob("*") if path.is_file()}
    (report / "methods" / "gone-99.html").write_text("stale")
    again = write(gathered(store), Sources(store, Registry(load_plugins()), tmp_path)).parent
    assert again == report
    after = {path.relative_to(report): path.read_bytes() for path in report.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert [path.name for path in (store.root / ".report").iterdir()] == ["lock"]


# Damaged input and conflicts


def small(root: Path, **options: Any) -> Store:
    return write_store(root, 3, (0,), size=8, epochs=3, test_images=20, **options)[1]


def test_damaged_artifacts_cost_their_pictures_only(tmp_path: Path) -> None:
    store = small(tmp_path / "made-up")
    first, second, third = (store.folder(planned.id) for planned in store.read_plan().jobs)
    (first / "images.npz").write_bytes(b"PK nonsense")
    (first / "scores.parquet").write_bytes(b"PAR1 nonsense")
    (first / "traces.npz").write_bytes(b"")
    (second / "history.jsonl").write_text('{"epoch": 1, "objective": 2.0, "kl": NaN}\nnot json\n[]\n{"epoch": "x"}\n')
    (third / "log.txt").write_bytes(b"\xff\xfe broken")
    page = write(gathered(store), Sources(store, None, tmp_path, models=False))
    text = page.read_text(encoding="utf-8")
    assert text.count('class="tile"') > 0
    assert "loss00" in text


def test_files_that_are_not_those_of_the_record_are_left_out_and_named(tmp_path: Path) -> None:
    """Each can be read, so that only the checksums in the records tell that something is wrong."""
    store = small(tmp_path / "made-up")
    first, second, third = (store.folder(planned.id) for planned in store.read_plan().jobs)
    shutil.copy(second / "images.npz", first / "images.npz")
    lines = (second / "history.jsonl").read_text().splitlines(keepends=True)
    (second / "history.jsonl").write_text("".join(lines[:-1]))
    table = pd.read_parquet(third / "scores.parquet")
    table["psnr"] = table.psnr[::-1].to_numpy()
    table.to_parquet(third / "scores.parquet", index=False)
    content = gathered(store)
    text = write(content, Sources(store, None, tmp_path, models=False)).read_text(encoding="utf-8")
    wrong = ((first, "images.npz"), (second, "history.jsonl"), (third, "scores.parquet"))
    assert len(content.left_out) == len(wrong)
    for folder, name in wrong:
        line = f"job {folder.name}: {name} is left out: it is not the file that the record describes"
        assert line in content.left_out
        assert line in text
    assert any(third.name in note and "scores.parquet" in note for note in content.leaderboard.notes)


def test_links_where_a_report_is_written_are_not_followed(tmp_path: Path) -> None:
    store = small(tmp_path / "made-up")
    mine = tmp_path / "mine"
    (mine / "new").mkdir(parents=True)
    (mine / "new" / "precious").write_text("x")
    (store.root / ".report").symlink_to(mine)
    with pytest.raises(UserError, match=r"\.report is a link"):
        write(gathered(store), Sources(store, None, tmp_path, models=False))
    (store.root / ".report").unlink()
    (store.root / ".report").mkdir()
    for name in ("new", "old"):
        (store.root / ".report" / name).symlink_to(mine)
    assert write(gathered(store), Sources(store, None, tmp_path, models=False)).is_file()
    assert [path.name for path in mine.rglob("*")] == ["new", "precious"]


def test_a_suite_without_any_done_job_has_a_report(tmp_path: Path) -> None:
    store = small(tmp_path / "made-up")
    shutil.rmtree(store.root / "jobs")
    page = write(gathered(store), Sources(store, Registry(load_plugins()), tmp_path))
    assert "No method is ranked yet" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_report_that_is_being_written_is_left_to_it(tmp_path: Path) -> None:
    import multiprocessing

    store = small(tmp_path / "made-up")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(store.root / ".report", ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UserError, match="another process is writing the report"):
            write(gathered(store), Sources(store, None, tmp_path, models=False))
    finally:
        done.set()
        process.join()


def _hold(folder: Path, ready: Any, done: Any) -> None:
    with lock(folder) as mine:
        assert mine
        ready.set()
        done.wait(60)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    store = small(tmp_path / "made-up")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("mine")
    (store.root / "report").symlink_to(elsewhere)
    with pytest.raises(UserError, match="report: expected a folder"):
        write(gathered(store), Sources(store, None, tmp_path, models=False))
    assert (elsewhere / "kept").read_text() == "mine"


def test_a_failure_while_writing_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = small(tmp_path / "made-up")
    sources = Sources(store, None, tmp_path, models=False)
    page = write(gathered(store), sources)
    before = page.read_bytes()
    monkeypatch.setattr(tables, "jobs", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(gathered(store), sources)
    assert page.read_bytes() == before
    assert [path.name for path in (store.root / ".report").iterdir()] == ["lock"]


def test_unusable_records_are_reported(tmp_path: Path) -> None:
    store = small(tmp_path / "made-up")
    planned = store.read_plan().jobs[0]
    store.record_file(planned.id).write_text("{")
    found = gathered(store)
    assert found.jobs[0].status == "unusable"
    page = write(found, Sources(store, None, tmp_path, models=False))
    assert "truncated or damaged" in page.read_text(encoding="utf-8")


def test_methods_of_another_protocol_are_on_a_board_of_their_own(tmp_path: Path) -> None:
    plan, store = write_store(tmp_path / "made-up", 3, (0,), size=8, epochs=3, test_images=20)
    records = {p.id: store.read(p.id) for p in plan.jobs}
    other = records[plan.jobs[0].id]
    assert other is not None
    records[plan.jobs[0].id] = other.model_copy(update={"protocol": "f" * 16})
    from recbench.analysis.ranking import rank

    board = rank(plan, {i: r for i, r in records.items() if r}, {})
    found = gather(plan, board, {i: r for i, r in records.items() if r}, {}, store)
    assert len(found.boards) == 2


# Figures


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_figures_have_the_same_bytes_every_time_and_no_date(content: Content, form: str) -> None:
    view = content.boards[0]
    first, second = (figures.render(figures.draw("cost", view), form) for _ in range(2))
    assert first == second
    assert b"CreationDate" not in first
    assert b"dc:date" not in first


@pytest.mark.parametrize("name", sorted(set(figures.PLOTS) - {"tuning"}))
def test_every_plot_can_be_drawn(content: Content, name: str) -> None:
    assert figures.render(figures.draw(name, content.boards[0]), "svg").startswith(b"<?xml")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reconstructions", "samples", "kernels"])
def test_figures_of_images_are_drawn_by_the_command(store: Store, tmp_path: Path, name: str) -> None:
    file = tmp_path / "figure.png"
    arguments = ["figure", name, "made-up", "--results", str(store.root.parent), "--output", str(file)]
    done = CliRunner().invoke(cli, [*arguments, "--cache", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    from PIL import Image

    with Image.open(io.BytesIO(file.read_bytes())) as image:
        assert image.width > 500
        assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["figure", "spectrum"], "did you mean 'spectra'"),
        (["figure", "spectra", "--output", "x.docx"], "must end in .pdf, .png or .svg"),
        (["figure", "cost", "made-up", "--board", "7"], "has 2 leaderboards"),
        (["figure", "tuning", "made-up"], "nothing to draw for tuning"),
        (["figure", "interpolations", "made-up"], "no job stored a model"),
        (["report", "unknown"], "no results of the suite 'unknown'"),
    ],
)
def test_errors_of_use_say_what_to_do(store: Store, tmp_path: Path, arguments: list[str], what: str) -> None:
    options = ["--results", str(store.root.parent), "--cache", str(tmp_path)]
    done = CliRunner().invoke(cli, [*arguments, *options])
    assert isinstance(done.exception, UserError)
    assert what in str(done.exception)
    if arguments[1] == "spectrum":
        assert all(f"  {name} " in str(done.exception) for name in figures.PLOTS)


def test_sheets_that_would_be_large_are_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    row = sheets.SheetRow("a", images, ("",) * 4)
    sheet = sheets.Sheet("images", "image", ("1", "2", "3", "4"), (), (row,))
    assert sheet.suffix == ".png"
    from PIL import Image

    with Image.open(io.BytesIO(sheets.strip(images, lossless=True))) as picture:
        pixels = np.asarray(picture)
    assert (pixels == images.transpose(2, 0, 3, 1).reshape(8, 32, 3)).all()
    monkeypatch.setattr(sheets, "LOSSLESS_BYTES", 10)
    assert sheet.suffix == ".webp"
    assert sheets.strip(images, lossless=False)[8:12] == b"WEBP"


def test_the_metrics_of_the_made_up_store_point_both_ways() -> None:
    """Otherwise the tests above could not distinguish the directions."""
    assert {column.direction for column in METRICS} == {"higher", "lower"}


def test_interesting_images_are_chosen_by_texture_not_by_noise() -> None:
    generator = np.random.default_rng(0)
    flat = np.full((3, 32, 32), 120)
    noise = flat + generator.integers(-25, 26, flat.shape)
    down, across = np.mgrid[:32, :32]
    stripes = np.broadcast_to(60 + 120 * ((across // 5) % 2), flat.shape)
    checks = np.broadcast_to(40 + 150 * (((across // 4) + (down // 4)) % 2), flat.shape)
    found = np.stack([flat, noise, stripes, flat + 9, checks, noise[:, ::-1]]).astype(np.uint8)
    assert set(interesting(found, 2)) == {2, 4}
    assert interesting(found[:0], 2) == []


def test_interesting_images_differ_from_each_other() -> None:
    down, across = np.mgrid[:32, :32]
    wall = np.broadcast_to(60 + 120 * ((across // 5) % 2), (3, 32, 32))
    other = np.broadcast_to(60 + 110 * ((down // 5) % 2), (3, 32, 32))
    found = np.stack([wall, wall, wall, other, wall]).astype(np.uint8)
    assert set(interesting(found, 2)) == {0, 3}


def test_failures_are_above_the_leaderboard_and_captions_follow_the_values(report: Path) -> None:
    text = (report / "index.html").read_text()
    assert text.index('<section id="failures"') < text.index('<section id="leaderboard"')
    _, page = next(pages(report))
    shown = [a for tag, a in page.elements if tag == "span" and "data-caption" in a]
    assert {a["data-caption"] for a in shown} >= {"spread", ""}
    assert [a["data-caption"] for a in shown if "hidden" not in a] == [""]  # what is shown without JavaScript
    assert text.count("± std over") == 1  # the legend does not say it again, whatever values are chosen


def test_tiles_have_their_scores(report: Path) -> None:
    index = next(page for file, page in pages(report) if file.name == "index.html")
    sheet = next(json.loads(s) for s in index.scripts if '"reconstruction"' in s)
    assert sheet["groups"][0]["name"] == "interesting"
    for row in sheet["rows"][1:]:
        assert set(row["scores"]) == {column.name for column in METRICS}
        assert all(len(own) == len(sheet["heads"]) for own in row["scores"].values())


# What losses log


def test_what_losses_log_is_drawn_and_tabled(content: Content, report: Path) -> None:
    view = content.boards[0]
    names = ["vqgan.adaptive_weight", "vqgan.l1"]
    assert series.logged(view.jobs) == names
    assert list(series.quantities(view))[-2:] == names
    chart = charts.curves(view)
    assert chart is not None
    assert list(chart.selects[0].options)[-2:] == names
    drawn = chart.views[str(len(chart.selects[0].options) - 1)]["data"]
    assert 0 < len(drawn) < sum(1 for job in view.jobs if job.history)
    assert np.allclose(drawn[0]["y"], [2 / epoch for epoch in range(1, len(drawn[0]["y"]) + 1)], rtol=1e-3)
    table = pd.read_csv(report / "data" / "training-curves.csv")
    assert list(table.columns)[-2:] == names
    logged = table[table["vqgan.l1"].notna()]
    assert set(logged["epoch"]) > set(logged[logged["vqgan.adaptive_weight"].notna()]["epoch"])
    pages = [file.read_text() for file in report.rglob("*.html")]
    assert any("vqgan.l1" in page and "<svg" in page for page in pages)
