"""Labels are data: figures and pages show them as they are, whatever characters they have."""

from __future__ import annotations

import io
import warnings

import pytest

from recbench.report.lettering import families, literal, visible

HOSTILE = (
    "$x",
    "$\\frac{$",
    "\\$5 $",
    "$$",
    "_hidden",
    "漢字 価格",
    "\x1b[31mred\x1b[0m\x07",
    "\u202eevil",
    "a\nb\tc",
    "🙂",
    "{\\x}^_%#&",
    "",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_figures_draw_any_label_without_a_warning_and_as_plain_text(text: str) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with warnings.catch_warnings(), rc_context({"font.family": list(families())}):
        warnings.simplefilter("error")
        figure = Figure()
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], label=literal(text) or " ")
        axis.set_title(literal(text))
        legend = axis.legend()
        figure.savefig(io.BytesIO(), format="svg")
        figure.savefig(io.BytesIO(), format="pdf")
    assert len(legend.get_texts()) == 1  # none is left out


def test_labels_that_no_font_has_stay_apart() -> None:
    assert literal("\U000e0041") != literal("\U000e0042")
    assert literal("\U000e0041") == "U+E0041"


def test_escapes_of_terminals_show_and_do_nothing() -> None:
    assert visible("\x1b[31mred\x00") == "␛[31mred␀"
    assert visible("two\nlines\tand 漢字 <b>") == "two\nlines\tand 漢字 <b>"
    assert visible("\u202egnp.exe") == "\ufffdgnp.exe"
