from __future__ import annotations

import io
import json
import math
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from recbench.analysis.board import Leaderboard
from recbench.analysis.ranking import rank
from recbench.errors import UserError
from recbench.plan.model import Column
from recbench.render.board import table
from recbench.render.columns import IN_FAMILY, Excerpt, short_letters
from recbench.render.leaderboard import FORMATS, to_csv, to_json, to_latex, to_markdown, write_all
from recbench.render.text import number
from recbench.store.record import Score
from recbench.store.store import Store
from tests.made_up import COLUMNS, make_plan, make_record, make_trouble

WIDE = Excerpt(wide=True)
NASTY = [
    "plain",
    "a|b||c",
    "under_score_d *starred* `code`",
    "100% & #1 $5 \\alpha {x} ~y ^z <b> [text](link) ![x][y]",
    'quoted "text", with commas; and ‘more’',
    "β=½ λ Ω ς ∞ → Å 漢字 e\u0301",
    "x\\",
    "&amp; &lt;",
    "a -- --- ''",
]


def leaderboard_of(labels: list[str], columns: tuple[Column, ...] = COLUMNS) -> Leaderboard:
    """Methods from best to worst, the first two tied; with one more that failed and one without records."""
    plan = make_plan([*labels, "broken", "missing"], columns=columns)
    records = {}
    for planned in plan.jobs:
        label = plan.methods[planned.method].label
        if label == "missing":
            continue
        if label == "broken" and planned.seed == 1:
            records[planned.id] = make_trouble(plan, planned, message="a|b *c* % <d>\nsecond line")
            continue
        worth = -max(planned.method, 1) + planned.seed / 7
        better = {c.name: worth if c.direction == "higher" else -worth for c in columns}
        scores = {name: Score(mean=value, std=abs(value) / 3, n=8) for name, value in better.items()}
        records[planned.id] = make_record(plan, planned, scores)
    return rank(plan, records)


def csv_frame(leaderboard: Leaderboard) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(to_csv(leaderboard)))


# csv and json: every number


def test_csv_read_by_pandas_gives_the_same_numbers() -> None:
    leaderboard = leaderboard_of(["a", "b", "c"])
    frame = csv_frame(leaderboard)
    rows = [row for board in leaderboard.boards for row in board.rows]
    assert len(frame) == len(rows) == 5
    for row, (_, line) in zip(rows, frame.iterrows(), strict=True):
        assert (line["method"], line.status, line.seeds_done, line.seeds) == (
            row.label, row.status, row.seeds_done, row.seeds
        )  # fmt: skip
        assert json.loads(line.params) == row.params
        for value, found in [(row.place, line.place), (row.mean_rank, line.mean_rank), (row.kl, line.kl)]:
            assert pd.isna(found) if value is None else found == pytest.approx(value, rel=1e-14)
        for name in ("psnr", "mse"):
            for part in ("mean", "std_images", "std_seeds", "rank"):
                value = getattr(row.cells[name], part) if name in row.cells else None
                found = line[f"{name}_{part}"]
                assert pd.isna(found) if value is None else found == pytest.approx(value, rel=1e-14), (name, part)


def test_csv_holds_infinities_and_several_boards_with_other_columns() -> None:
    plan = make_plan(["a"], settings=["one", "two"])
    infinite = {"psnr": Score(mean=math.inf, std=None, n=8), "mse": Score(mean=0.0, std=0.0, n=8)}
    frame = csv_frame(rank(plan, {planned.id: make_record(plan, planned, infinite) for planned in plan.jobs}))
    assert list(frame.setting) == ["one", "two"]
    assert list(frame.psnr_mean) == [math.inf, math.inf]
    assert frame.psnr_std_images.isna().all()


def test_json_validates_back_into_the_leaderboard() -> None:
    leaderboard = leaderboard_of(NASTY)
    assert Leaderboard.model_validate_json(to_json(leaderboard)) == leaderboard


def test_csv_keeps_every_label_and_trouble_in_its_cell() -> None:
    frame = csv_frame(leaderboard_of(NASTY))
    assert set(frame["method"]) == {*NASTY, "broken", "missing"}
    assert frame.trouble.dropna().tolist() == ["seed 1 failed: RuntimeError: a|b *c* % <d>"]


@pytest.mark.parametrize("label", ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_csv_text_is_never_a_formula(label: str) -> None:
    """Suites refuse such labels; a results folder of another origin may contain them."""
    frame = csv_frame(leaderboard_of([label]))
    assert f"'{label}" in set(frame["method"])


def test_negative_numbers_stay_numbers_in_csv() -> None:
    assert (csv_frame(leaderboard_of(["a"])).psnr_mean.dropna() < 0).all()


# markdown


def markdown_tables(text: str) -> list[list[list[tuple[str, bool]]]]:
    """The tables of a Markdown text as a parser sees them: the plain text of every cell, and whether it is bold."""
    tables: list[list[list[tuple[str, bool]]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 3:
            parts = token.children or []
            assert {part.type for part in parts} <= {"text", "text_special", "strong_open", "strong_close"}, token
            tables[-1][-1].append(("".join(p.content for p in parts), any(p.type == "strong_open" for p in parts)))
    return tables


def test_markdown_tables_hold_what_the_leaderboard_holds() -> None:
    leaderboard = leaderboard_of(NASTY)
    table, details = markdown_tables(to_markdown(leaderboard, WIDE))
    rows = leaderboard.boards[0].rows
    heads = ["rank", "tier", "method", "psnr [dB] ↑", "mse ↓", "KL", "seeds"]
    (compact,) = markdown_tables(to_markdown(leaderboard))
    assert [text for text, _ in compact[0]] == heads
    assert [text for text, _ in table[0]] == [*heads[:2], "#", *heads[2:6], "mean rank", "seeds"]
    assert len(table) == len(compact) == len(rows) + 1
    assert {len(line) for line in compact} == {7}
    table = [[*line[:2], *line[3:7], line[8]] for line in table]
    ends = [row.cells["psnr"].interval for row in rows if row.place]
    printed = [f"[{number(low, 2)} to {number(high, 2)}]" for low, high in filter(None, ends)]
    assert [line[3][0].partition(" ")[2] for line in compact[1:]][: len(printed)] == printed
    assert [line[2][0] for line in table[1:]] == [row.label for row in rows]
    assert [line[6][0] for line in table[-2:]] == ["1/2 failed", "0/2 incomplete"]
    ranked = [row for row in rows if row.status == "ranked"]
    assert [line[0][0] for line in details[1:]] == [row.label for row in ranked]
    for line, row in zip(details[1:], ranked, strict=True):
        low, high = row.cells["psnr"].interval or (None, None)
        first, last = row.cells["psnr"].rank_interval or (None, None)
        places = f"{first}–{last}" if first != last else str(first)
        tier = short_letters(row.cells["psnr"].tier)
        assert line[1][0] == f"[{number(low, 2)} to {number(high, 2)}] · {places} · {tier}"


def test_without_statistics_there_is_one_table() -> None:
    plan = make_plan(["a"])
    leaderboard = rank(plan, {planned.id: make_record(plan, planned) for planned in plan.jobs}, confidence=None)
    (table,) = markdown_tables(to_markdown(leaderboard))
    assert [text for text, _ in table[0]] == ["#", "method", "psnr [dB] ↑", "mse ↓", "KL", "mean rank"]
    assert to_latex(leaderboard).count("\\toprule") == 1
    assert (row := leaderboard.boards[0].rows[0]).tier is None
    assert row.cells["psnr"].interval is None


def test_metrics_of_a_losss_own_family_are_marked_in_every_format() -> None:
    columns = (Column(name="ssim", direction="higher", family="ssim"), Column(name="mse", direction="lower"))
    plan = make_plan(["ssim", "l2"], columns=columns)
    methods = (plan.methods[0].model_copy(update={"families": ("ssim",)}), plan.methods[1])
    plan = plan.model_copy(update={"methods": methods})
    records = {planned.id: make_record(plan, planned) for planned in plan.jobs}
    leaderboard = rank(plan, records)
    table, _ = markdown_tables(to_markdown(leaderboard, Excerpt(wide=True)))
    assert {line[3][0]: (IN_FAMILY in line[4][0], IN_FAMILY in line[5][0]) for line in table[1:]} == {
        "ssim": (True, False),
        "l2": (False, False),
    }
    assert table[0][-2][0] == "out-of-family rank"
    assert to_latex(leaderboard).count("$^{\\mathrm{h}}$") == 2  # the cell, and the caption
    frame = csv_frame(leaderboard).set_index("method")
    assert frame.ssim_in_family.to_dict() == {"ssim": True, "l2": False}


def test_markdown_lists_troubles_and_notes_as_text() -> None:
    plan = make_plan(["a"], seeds=[0, 1])
    records = {plan.jobs[0].id: make_trouble(plan, plan.jobs[0], message="<script> *a* [b](c)")}
    tokens = (
        MarkdownIt("commonmark").enable("table").parse(to_markdown(rank(plan, records, {plan.jobs[1].id: "*torn*"})))
    )
    inline = [token for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in token.children or []) for token in inline]
    assert "a, seed 0 failed: RuntimeError: <script> *a* [b](c)" in texts
    assert any(text.endswith("cannot be used: *torn*") for text in texts)
    assert {child.type for token in inline for child in token.children or []} <= {"text", "text_special"}


def with_spread(means: dict[str, float]) -> Leaderboard:
    """Methods with these means by both metrics, and three seeds that differ by little."""
    plan = make_plan(list(means), seeds=[0, 1, 2])
    records = {}
    for planned in plan.jobs:
        mean = means[plan.methods[planned.method].label] + 0.01 * planned.seed
        scores = {"psnr": Score(mean=mean, std=0.1, n=8), "mse": Score(mean=-mean, std=0.1, n=8)}
        records[planned.id] = make_record(plan, planned, scores)
    return rank(plan, records)


def bold(leaderboard: Leaderboard) -> dict[str, list[bool]]:
    """For each method, which of its name and its scores are bold in Markdown, and in LaTeX."""
    (table,) = markdown_tables(to_markdown(leaderboard))
    found = {line[2][0]: [line[i][1] for i in (2, 3, 4)] for line in table[1:]}
    rows = re.findall(r"^    \S+ & \S+ & (.*) & (.*) & (.*) & \S+ \\\\$", to_latex(leaderboard), flags=re.M)
    latex = {re.sub(r"\\textbf\{(.*)\}", r"\1", row[0]): [text.startswith("\\textbf") for text in row] for row in rows}
    assert {label: latex[label] for label in found} == found
    assert "underline" not in to_latex(leaderboard)
    return found


def test_bold_is_only_what_is_significantly_better_than_all_others() -> None:
    assert bold(with_spread({"a": 20.0, "b": 10.0, "c": 1.0})) == {"a": [True] * 3, "b": [False] * 3, "c": [False] * 3}
    assert not any(map(any, bold(with_spread({"a": 20.001, "b": 20.0, "c": 1.0})).values())), "the best two are equal"
    assert not any(map(any, bold(with_spread({"a": 20.0})).values())), "better than nobody"
    unsure = rank(plan := make_plan(["a", "b"]), {p.id: make_record(plan, p) for p in plan.jobs}, confidence=None)
    assert "**" not in to_markdown(unsure)


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_columns_can_be_chosen(form: str) -> None:
    leaderboard = leaderboard_of(["a", "b"])
    render = FORMATS[form][1]
    text = render(leaderboard, Excerpt(names=("method", "mse", "psnr.spread", "psnr.rank", "borda")))
    heads = next(line for line in text.splitlines() if re.match(r"(\| | +)method ", line))
    cut = [part.strip(" |\\") for part in heads.replace("|", "&").split("&") if part.strip(" |\\")]
    arrows = ("$\\downarrow$", "$\\uparrow$") if form == "latex" else ("↓", "↑")
    assert cut == ["method", f"mse {arrows[0]}", f"psnr [dB] {arrows[1]}", "psnr: rank, tier", "Borda"]
    with pytest.raises(UserError, match="--columns borders: no such column; did you mean 'borda'"):
        render(leaderboard, Excerpt(names=("borders",)))


# LaTeX


def test_latex_escapes_every_special_character() -> None:
    text = to_latex(leaderboard_of(NASTY), WIDE)
    rows = re.findall(r"^    (?!\\(?:top|mid|bottom)rule)(.*) \\\\$", text, flags=re.M)
    assert len(rows) == (len(NASTY) + 3) + (len(NASTY) + 1)
    for index, row in enumerate(rows):
        assert len(re.findall(r"(?<!\\)&", row)) == (8 if index < len(NASTY) + 3 else 4), row
        bare = re.sub(r"\\[&%#_{}$]", "", row)
        assert not re.search(r"[%#_~^]", bare), row
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
    assert r"100\% \& \#1 \$5 \textbackslash{}alpha \{x\} \textasciitilde{}y \textasciicircum{}z" in text
    assert r"$\beta$=$\frac{1}{2}$ $\lambda$ $\Omega$ $\varsigma$ $\infty$ $\rightarrow$ \r{A} " in text
    assert "second line" not in text


LETTERS = "".join(chr(code) for block in ((0xA1, 0x17F), (0x391, 0x3C9)) for code in range(block[0], block[1] + 1))
"""Of Latin-1, Latin Extended-A and Greek."""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pdflatex", "lualatex", "xelatex", "tectonic"])
def test_latex_compiles(tmp_path: Path, engine: str) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed")
    body = to_latex(
        leaderboard_of([*NASTY, *re.findall(".{1,16}", LETTERS), "\U0001f600 \x07 \u202e"]),
        Excerpt(wide=True, cost=True),
    )
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + body + "\\end{document}\n"
    (tmp_path / "board.tex").write_text(document)
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "board.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "board.pdf").stat().st_size > 1000


# All of them


@pytest.mark.parametrize("render", [render for _, render in FORMATS.values()], ids=list(FORMATS))
def test_every_format_shows_every_method_failures_too(render: Callable[[Leaderboard], str]) -> None:
    text = render(leaderboard_of(["first", "second"]))
    assert all(label in text for label in ("first", "second", "broken", "missing", "failed", "incomplete"))
    assert text.endswith("\n")


def test_all_formats_are_written_side_by_side(tmp_path: Path) -> None:
    leaderboard = leaderboard_of(NASTY)
    write_all(leaderboard, tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        name: render(leaderboard) for name, render in FORMATS.values()
    }


def test_numbers() -> None:
    assert [number(value, 2) for value in (None, 1.005, -0.5, math.inf, -math.inf)] == ["–", "1.00", "-0.50", "∞", "−∞"]


# The terminal

MANY = tuple(Column(name=f"metric_{i}", direction="higher", unit="dB", digits=4) for i in range(12))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder of a suite with long labels and many metrics."""
    plan = make_plan(["short", "a label that is as long as labels ever get " + "x" * 37, "漢字" * 10], columns=MANY)
    store = Store(tmp_path / "results" / plan.suite)
    store.write_plan(plan, "")
    for planned in plan.jobs[:-1]:
        scores = {column.name: Score(mean=1234.5678, std=0.5, n=8) for column in MANY}
        store.add(make_record(plan, planned, scores))
    store.add(make_trouble(plan, plan.jobs[-1], message="much to say " * 30))
    return tmp_path / "results"


def command(results: Path) -> list[str]:
    return [sys.executable, "-m", "recbench", "leaderboard", "made-up", "--results", str(results)]


CELL = "1234.5678 [1234."


def test_a_pipe_gets_whole_lines(results: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command(results), env={**environment, "COLUMNS": "40"}, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    header = next(line for line in lines if "  method" in line)
    assert all(f"{column.name} [dB] ↑" in header for column in MANY)
    assert sum(line.count(CELL) == len(MANY) for line in lines) == 2
    assert f"a label that is as long as labels ever get {'x' * 37}" in done.stdout
    assert "much to say " * 29 in done.stdout
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("width", [40, 80, 100, 140, 200])
def test_a_narrow_terminal_loses_nothing_and_breaks_no_word(
    results: Path, environment: dict[str, str], width: int
) -> None:
    shown = on_a_terminal(command(results), {**environment, "COLUMNS": str(width)}, width)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    words = plain.split()
    assert all(words.count(column.name) >= 1 for column in MANY)
    assert words.count("1234.5678") == 3 * len(MANY)
    assert "…" not in plain
    names = ("xxx", "漢字" * 10)  # one word each, which may be wider than the terminal
    long = [line for line in plain.splitlines() if cell_len(line) > width and not any(name in line for name in names)]
    assert long == []
    assert len([word for word in words if word.startswith("significantly")]) >= 2, "the legend is broken between words"
    assert " ".join(words).count("much to say") >= 29
    if width > 80:  # wide enough for the longest word
        assert "x" * 37 in words


def on_a_terminal(arguments: list[str], environment: dict[str, str], width: int) -> str:
    """Return what a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    shown = b""
    with subprocess.Popen(arguments, env=environment, stdout=theirs, stderr=subprocess.DEVNULL, stdin=theirs):
        os.close(theirs)
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_a_metric_with_a_best_score_has_an_arrow_towards_it() -> None:
    columns = [Column(name="sharp", direction=1.0, digits=2)]
    plan = make_plan(["over", "near", "under"], [0], columns=columns)
    means = {"over": 1.4, "near": 0.97, "under": 0.5}
    records = {
        planned.id: make_record(
            plan, planned, {"sharp": Score(mean=means[plan.methods[planned.method].label], std=None, n=0)}
        )
        for planned in plan.jobs
    }
    leaderboard = rank(plan, records)
    head, *rows = table(leaderboard.boards[0], Excerpt().columns(leaderboard.boards[0]))
    at = next(i for i, entry in enumerate(head) if entry.text == "sharp → 1")
    assert [row[at].text for row in rows] == ["0.97", "1.40", "0.50"]
    assert "sharp $\\rightarrow$ 1" in to_latex(leaderboard)
    assert json.loads(to_json(leaderboard))["boards"][0]["columns"][0]["direction"] == 1
