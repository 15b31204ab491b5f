"""The report in a real Chromium: three widths, light and dark, by mouse and by keyboard, from disk and on paper."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbench.cli.report import gathered
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.report.sections import Sources
from recbench.report.write import write
from tests.conftest import SOAK
from tests.report_store import HOSTILE, write_store

pytestmark = pytest.mark.slow(seconds=10)
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1440}
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS])
        yield browser
        browser.close()


MANY = pytest.param(60, marks=[pytest.mark.soak, pytest.mark.skipif(not SOAK, reason="minutes: make soak runs it")])


@pytest.fixture(scope="module", params=[3, MANY])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write reports of few and of many methods."""
    root = tmp_path_factory.mktemp("results") / "made-up"
    labels = HOSTILE if request.param > 10 else ()
    _, store = write_store(root, request.param, (0, 1), size=32, labels=labels, epochs=12, test_images=40)
    return write(gathered(store), Sources(store, Registry(load_plugins()), root)).parent


class Watched:
    """A page with its console messages and requests."""

    def __init__(self, browser: Any, width: int, scheme: str = "light", **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.complaints == []
        strays = [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]
        assert strays == []

    def open(self, file: Path) -> Any:
        self.page.goto(file.as_uri())
        return self.page

    def draw_all(self) -> int:
        """Bring every plot into view, and wait until it is drawn."""
        plots = self.page.locator("[data-plot]")
        for number in range(plots.count()):
            plots.nth(number).scroll_into_view_if_needed()
            self.page.wait_for_function(
                "number => document.querySelectorAll('[data-plot]')[number].dataset.drawn", arg=number
            )
        return int(plots.count())


PAGES = [(3, width, scheme) for width in WIDTHS.values() for scheme in ("light", "dark")]
PAGES += [(60, 390, "light")]


@pytest.mark.parametrize(("report", "width", "scheme"), PAGES, indirect=["report"])
def test_pages_fit_and_are_silent(browser: Any, report: Path, width: int, scheme: str) -> None:
    files = [report / "index.html", min((report / "methods").iterdir()), max((report / "methods").iterdir())]
    for file in files:
        with Watched(browser, width, scheme) as watched:
            page = watched.open(file)
            if file.name == "index.html":
                assert watched.draw_all() >= 4
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 19, 23)"}[scheme]
            assert _contrast_of_texts(page) >= 4.5


def _contrast_of_texts(page: Any) -> float:
    """Return the lowest contrast (WCAG 2) of any visible text with its background."""
    pairs = page.evaluate(
        """() => {
          const pairs = new Set();
          for (const element of document.querySelectorAll("body *:not(script):not(style):not(option)")) {
            if (element.closest("svg, dialog, .plot") || !element.checkVisibility()) continue;
            if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
            let ground = element;
            const behind = () => getComputedStyle(ground ?? document.body).backgroundColor;
            while (ground && /rgba\\(.*, 0\\)/.test(behind())) ground = ground.parentElement;
            pairs.add(`${getComputedStyle(element).color}|${behind()}`);
          }
          return [...pairs];
        }"""
    )
    assert pairs
    return min(_contrast(*(_luminance(colour) for colour in pair.split("|"))) for pair in pairs)


def _luminance(colour: str) -> float:
    channels = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _contrast(first: float, second: float) -> float:
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def _column(page: Any, index: int) -> list[str]:
    return page.eval_on_selector_all(
        f"[data-board] tbody tr > :nth-child({index})", "cells => cells.map(c => c.dataset.value)"
    )


def test_the_leaderboard_sorts_by_mouse_and_keyboard(browser: Any, report: Path) -> None:
    with Watched(browser, 1440) as watched:
        page = watched.open(report / "index.html")
        head = page.locator("[data-board] thead th", has_text="psnr")
        index = head.evaluate("cell => cell.cellIndex") + 1
        before = _column(page, index)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"  # the best first
        known = [float(value) for value in _column(page, index) if value]
        assert known == sorted(known, reverse=True)
        assert _column(page, index)[len(known) :] == [""] * (len(before) - len(known))
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        known = [float(value) for value in _column(page, index) if value]
        assert known == sorted(known)
        assert page.locator("[aria-sort]").count() == 1
        page.locator("[data-board] thead th", has_text="#").locator("button").focus()
        page.keyboard.press("Space")
        assert _column(page, index) == before


def test_the_filter_holds_for_the_whole_page(browser: Any, report: Path) -> None:
    with Watched(browser, 1440) as watched:
        page = watched.open(report / "index.html")
        watched.draw_all()
        label = page.locator("[data-board] tbody tr").last.get_attribute("data-method")
        page.locator("[data-filter]").fill(label.split()[0])
        assert page.locator("[data-board] tbody tr:visible").count() == 1
        assert page.locator("[data-sheet=images] tbody tr:visible").count() <= 2  # the test images, and the method
        assert f"1 of {page.locator('[data-board] tbody tr').count()}" in page.locator("[data-count]").inner_text()
        shown = page.evaluate("document.querySelector('[data-chart=curves] [data-plot]').data.map(t => t.meta)")
        assert set(shown) <= {label}
        page.locator("[data-filter]").fill("no such method")
        assert page.locator("[data-board] tbody tr:visible").count() == 0
        page.locator("[data-filter]").fill("")
        assert page.locator("[data-board] tbody tr[hidden]").count() == 0


def test_tiles_and_the_lightbox_are_used_by_keyboard(browser: Any, report: Path) -> None:
    with Watched(browser, 1440) as watched:
        page = watched.open(report / "index.html")
        sheet = page.locator("[data-sheet=images]")
        assert sheet.locator("button.tile[tabindex='0']").count() == 1
        sheet.locator("button.tile[tabindex='0']").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        box = page.locator("[data-lightbox]")
        assert box.is_visible()
        assert box.locator(".tile").count() == 3
        first = box.locator("[data-title]").inner_text()
        page.keyboard.press("ArrowRight")
        second = box.locator("[data-title]").inner_text()
        assert first != second
        page.keyboard.press("ArrowUp")
        assert box.locator(".tile").count() == 1  # the test image itself
        page.keyboard.press("ArrowDown")
        size = box.locator(".tile").first.bounding_box()
        assert size["width"] >= 128
        assert size["width"] % 32 == 0  # whole multiples of the image's pixels
        page.keyboard.press("Escape")
        assert not box.is_visible()
        focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert second.split("#")[1] in focused


def test_errors_are_differences_to_the_test_image(browser: Any, report: Path) -> None:
    """Compare pixels of the screen with differences computed from the image files."""
    from PIL import Image

    with Watched(browser, 1440) as watched:
        page = watched.open(report / "index.html")
        sheet = page.locator("[data-sheet=images]")
        sheet.locator("[data-size]").fill("64")
        sheet.get_by_text("Errors", exact=True).click()
        sheet.locator("[data-gain] select").select_option("2")
        tile = sheet.locator("tbody tr").nth(2).locator(".tile").first
        column = int(tile.evaluate("tile => tile.style.getPropertyValue('--x')"))
        # To whole pixels of the screen.
        tile.evaluate("tile => Object.assign(tile.style, {position: 'fixed', left: 0, top: 0, zIndex: 99})")
        content = page.screenshot(clip={"x": 0, "y": 0, "width": 64, "height": 64})
        shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        files = [report / "images" / f"board-1-images-{number}.png" for number in (0, 2)]
        target, decoded = (
            np.asarray(Image.open(file)).astype(int)[:, column * 32 : (column + 1) * 32] for file in files
        )
        grey = np.abs(decoded - target) @ (0.2126, 0.7152, 0.0722)
        expected = np.clip(2 * grey, 0, 255)[:, :, None].repeat(3, axis=2).repeat(2, axis=0).repeat(2, axis=1)
        inner = (slice(4, -4), slice(4, -4))  # corners are round
        assert np.abs(shown[inner] - expected[inner]).max() <= 3
        assert expected.max() > 40


def test_groups_of_images_change(browser: Any, report: Path) -> None:
    with Watched(browser, 390) as watched:
        page = watched.open(report / "index.html")
        sheet = page.locator("[data-sheet=images]")
        why = sheet.locator("[data-why]")
        seen = set()
        for name in ("Best", "Worst", "Random", "Methods disagree"):
            sheet.get_by_text(name, exact=True).click()
            seen.add((why.inner_text(), sheet.locator("thead th:visible").nth(1).inner_text()))
        assert len({text for text, _ in seen}) == 4


def test_plots_change_with_their_controls_and_the_colours(browser: Any, report: Path) -> None:
    with Watched(browser, 1440) as watched:
        page = watched.open(report / "index.html")
        watched.draw_all()
        chart = page.locator("[data-chart=cost]")
        title = "figure => figure.querySelector('[data-plot]').layout.yaxis.title.text"
        assert chart.evaluate(title) == "psnr [dB] ↑"
        chart.locator("select").first.select_option(index=1)
        assert chart.evaluate(title) == "mse ↓"
        ink = "figure => figure.querySelector('[data-plot]').layout.font.color"
        light = chart.evaluate(ink)
        for name in ("light", "dark"):
            page.locator("[data-theme-toggle]").click()
            assert page.locator("[data-theme-name]").inner_text() == name
        assert chart.evaluate(ink) != light
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 23)"


def test_plotly_is_loaded_once_and_only_when_a_plot_comes_near(browser: Any, report: Path) -> None:
    with Watched(browser, 1440) as watched:
        page = watched.open(min((report / "methods").iterdir()))
        page.wait_for_load_state()
        assert not [url for url in watched.requests if url.endswith("plotly.js")]
        watched.open(report / "index.html")
        watched.draw_all()
        assert len([url for url in watched.requests if url.endswith("plotly.js")]) == 1


def test_without_javascript_everything_can_be_read(browser: Any, report: Path) -> None:
    with Watched(browser, 820, java_script_enabled=False) as watched:
        page = watched.open(report / "index.html")
        assert page.locator("[data-board] tbody tr").count() == page.locator("[data-board] tbody tr:visible").count()
        assert page.locator("img.static:visible").count() == page.locator("[data-chart]").count()
        assert page.locator(".controls:visible").count() == 0


def test_it_prints(browser: Any, report: Path, tmp_path: Path) -> None:
    for scheme in ("light", "dark"):
        with Watched(browser, 1440, scheme) as watched:
            page = watched.open(report / "index.html")
            page.wait_for_load_state()
            page.emulate_media(media="print", color_scheme=scheme)
            assert page.locator(".controls:visible").count() == 0
            assert page.locator(".plot:visible").count() == 0
            images = page.locator("img.static")
            for number in range(images.count()):
                images.nth(number).scroll_into_view_if_needed()
            page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            content = page.pdf(format="A4")
            assert content.startswith(b"%PDF")
            assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 2 or b"/Count" in content
