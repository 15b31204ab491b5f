"""What a reader does with a report in a real Chromium: compare, pick, pin, copy the address, print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recbench.cli.report import gathered
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.report.sections import Sources
from recbench.report.write import write
from tests.report.test_browser import Watched, browser  # noqa: F401
from tests.report_store import HOSTILE, write_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results") / "made-up"
    _, store = write_store(root, 9, (0, 1), size=32, labels=HOSTILE, epochs=6, test_images=40)
    return write(gathered(store), Sources(store, Registry(load_plugins()), root)).parent


def opened(watched: Watched, report: Path, query: str = "") -> Any:
    watched.page.goto(f"{(report / 'index.html').as_uri()}{query}")
    return watched.page


def address(page: Any) -> str:
    """Return the page's address once it has been brought up to date."""
    page.wait_for_timeout(300)
    return str(page.evaluate("location.search"))


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_two_methods_are_compared_in_four_ways(browser: Any, report: Path, width: int) -> None:  # noqa: F811
    with Watched(browser, width) as watched:
        page = opened(watched, report)
        compare = page.locator("[data-compare]")
        layers = compare.locator(".layer")
        assert layers.count() == 3  # A, B and the test image
        compare.locator("[data-zoom]").fill("4")
        sizes = layers.evaluate_all("all => all.map(each => each.style.backgroundSize)")
        places = layers.evaluate_all("all => all.map(each => each.style.backgroundPosition)")
        assert len(set(sizes)) == len(set(places)) == 1  # zoom and position are those of all panes
        layers.first.locator("..").focus()
        page.keyboard.press("ArrowRight")
        moved = layers.evaluate_all("all => all.map(each => each.style.backgroundPosition)")
        assert len(set(moved)) == 1
        assert moved != places
        page.keyboard.press("0")
        assert compare.locator("[data-zoom]").input_value() == "1"

        compare.get_by_text("Slider", exact=True).click()
        compare.locator("[data-split]").fill("25")
        assert compare.locator(".view").first.evaluate("view => view.style.getPropertyValue('--split')") == "25%"
        view = compare.locator(".view").first
        view.evaluate("view => view.scrollIntoView({behavior: 'instant', block: 'center'})")
        box = view.bounding_box()
        page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
        assert abs(int(compare.locator("[data-split]").input_value()) - 75) <= 1

        compare.get_by_text("Blink", exact=True).click()
        compare.locator("[data-pause]").click()
        upper = compare.locator(".view").first.locator(".layer").nth(1)
        before = upper.evaluate("layer => layer.style.visibility")
        compare.locator(".view").first.click()
        assert upper.evaluate("layer => layer.style.visibility") != before

        compare.get_by_text("Difference", exact=True).click()
        files = compare.locator(".differs").evaluate("layer => layer.style.backgroundImage.split(',').length")
        assert files == 2
        query = address(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page = opened(watched, report, query)
        assert page.locator("[data-compare] .differs").count() == 1


def test_points_of_the_scatter_open_their_images(browser: Any, report: Path) -> None:  # noqa: F811
    with Watched(browser, 1440) as watched:
        page = opened(watched, report)
        page.locator("[data-compare]").scroll_into_view_if_needed()
        plot = page.locator("[data-pairs-plot]")
        page.locator("[data-pairs-plot][data-drawn]").wait_for()
        assert plot.evaluate("plot => plot.data.slice(1).reduce((all, trace) => all + trace.x.length, 0)") == 40
        plot.scroll_into_view_if_needed()
        emit = "(plot, index) => plot.emit('plotly_click', { points: [{ customdata: index }] })"
        plot.evaluate(emit, 5)
        assert page.locator("[data-compare-image]").input_value() == "5"
        assert plot.evaluate("plot => plot.data[3].customdata") == [5]
        plot.evaluate(emit, 39)  # its images were not stored
        assert "#39" in page.locator("[data-pairs-count]").inner_text()
        assert page.locator("[data-compare-image]").input_value() == "5"


def test_picked_methods_are_shown_and_pinned_ones_stay(browser: Any, report: Path) -> None:  # noqa: F811
    with Watched(browser, 1440) as watched:
        page = opened(watched, report)
        rows = page.locator("[data-board] tbody tr:visible")
        labels = rows.evaluate_all("rows => rows.map(row => row.dataset.method)")
        page.locator("[data-picker] summary").click()
        boxes = page.locator("[data-pick]")
        boxes.nth(1).check()
        boxes.nth(2).check()
        assert rows.count() == 2
        page.keyboard.press("Escape")
        last = page.locator("[data-board] tbody tr").last
        slug = last.get_attribute("data-slug")
        page.locator(f"[data-picker] [data-pin='{slug}']").evaluate("pin => pin.click()")
        assert rows.count() == 3
        assert rows.first.get_attribute("data-slug") == slug
        page.locator("[data-filter]").fill("nothing has this")
        assert rows.evaluate_all("rows => rows.map(row => row.dataset.slug)") == [slug]
        query = address(page)
        page = opened(watched, report, query)
        assert page.locator("[data-board] tbody tr:visible").count() == 1
        page.locator("[data-filter]").fill("hyperlink | loss07")
        page.locator("[data-picker] summary").click()
        page.locator("[data-pick-none]").click()
        page.locator("[data-pin-none]").click()
        shown = page.locator("[data-board] tbody tr:visible").evaluate_all(
            "rows => rows.map(row => row.dataset.method)"
        )
        assert sorted(shown) == sorted(label for label in labels if "HYPERLINK" in label or "loss07" in label)


def test_a_copied_address_shows_the_same(browser: Any, report: Path) -> None:  # noqa: F811
    with Watched(browser, 1440) as watched:
        page = opened(watched, report)
        page.locator("[data-spread]").select_option("confidence")
        page.locator("[data-show=cost]").check()
        page.locator("table[data-board] thead th", has_text="ssim").locator("button").click()
        sheet = page.locator("[data-sheet=images]")
        sheet.get_by_text("Worst", exact=True).click()
        sheet.get_by_text("Errors", exact=True).click()
        sheet.locator("[data-measure]").select_option("ssim")
        sheet.locator(".tile:visible").nth(12).click()
        title = page.locator("#lightbox-title").inner_text()
        order = page.locator("[data-board] tbody tr").evaluate_all("rows => rows.map(row => row.dataset.slug)")
        query = address(page)
        page = opened(watched, report, query)
        assert page.locator("[data-lightbox]").is_visible()
        assert page.locator("#lightbox-title").inner_text() == title
        page.keyboard.press("Escape")
        assert page.locator("[data-spread]").input_value() == "confidence"
        assert page.locator("[data-caption]:visible").count() == 1
        assert "confidence interval" in page.locator("[data-caption]:visible").inner_text()
        assert page.locator("[data-board] tbody tr").evaluate_all("rows => rows.map(row => row.dataset.slug)") == order
        assert page.locator("[data-sheet=images] .tile.error").count() > 0
        assert page.locator("[data-sheet=images] [data-measure]").input_value() == "ssim"
        page = opened(watched, report, "?a=no-such-page&open=images:x:99:99&sort=999-up&values=none&pinned=..%2F..")
        assert page.locator("[data-board] tbody tr:visible").count() == len(order)  # nonsense is left aside


def test_heads_stay_in_sight_and_the_width_is_used(browser: Any, report: Path) -> None:  # noqa: F811
    with Watched(browser, 1440) as watched:
        page = opened(watched, report)
        used = page.locator("table[data-board]").evaluate("board => board.getBoundingClientRect().width")
        assert used >= 1440 - 80
        page.locator("[data-board] tbody tr").last.evaluate(
            "row => row.scrollIntoView({behavior: 'instant', block: 'start'})"
        )
        page.evaluate("scrollBy({top: -160, behavior: 'instant'})")
        head = page.locator("[data-board] thead th").nth(1).bounding_box()
        bar = page.locator(".sections").bounding_box()
        assert bar["y"] == 0
        assert abs(head["y"] - bar["height"]) <= 2


def test_no_heading_is_alone_at_the_end_of_a_printed_page(browser: Any, report: Path) -> None:  # noqa: F811
    with Watched(browser, 1440) as watched:
        page = opened(watched, report)
        page.wait_for_load_state()
        text = page.pdf(format="A4", outline=True, tagged=True).decode("latin1")
        heights = [
            float(found) for found in re.findall(r"/Title \([^)]*\)\s*/Dest \[\d+ 0 R /XYZ [\d.]+ ([\d.]+)", text)
        ]
        assert len(heights) > 6
        assert min(heights) > 85  # points from the lower edge, of which 40 are margin: room for more than the heading
