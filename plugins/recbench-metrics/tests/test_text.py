"""Text: edit distances by their definition, what counts with a reader of our own, and one test of the real reader."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import recbench_metrics as plugin
from recbench import ImageShape, MetricEntry
from recbench.contracts.metric import Reference
from recbench.errors import UserError
from recbench_metrics import text
from recbench_metrics.text import Text, TextPlace, TextReader, character_accuracy, edit_distance

ENTRY: MetricEntry = next(entry for entry in plugin.recbench_metrics() if entry.name == "text")
SHAPE = ImageShape(3, 8, 8)
CPU = torch.device("cpu")


def by_definition(one: str, other: str) -> int:
    """Return the edit distance by its recursion."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = one[i - 1] == other[j - 1]
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (not same))

    return distance(len(one), len(other))


def test_edit_distances_are_those_of_the_definition() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        one, other = ("".join(generator.choice(list("abc "), generator.integers(0, 9))) for _ in range(2))
        assert edit_distance(one, other) == by_definition(one, other) == edit_distance(other, one)
        assert 0 <= character_accuracy(one, other) <= 1
    assert character_accuracy("", "") == 1


class Levels:
    """A reader of images whose text is the letter of their red level: ``a`` for 1 and so on; 0 is no text."""

    calls = 0

    def find(self, image: NDArray[np.uint8]) -> list[TextPlace]:
        type(self).calls += 1
        read = self.read(image)
        return [TextPlace(read, 0, 0, 4, 2)] if read else []

    def read(self, part: NDArray[np.uint8]) -> str:
        level = int(part[0, 0, 2])
        return "" if not level else f"{chr(96 + level)}z"


def images(*levels: int) -> Tensor:
    """Images (N, 3, 8, 8) in 0 to 1 whose red channel has these levels."""
    pixels = torch.zeros(len(levels), 3, 8, 8)
    pixels[:, 0] = torch.tensor(levels)[:, None, None] / 255
    return pixels


def reference(cache: Path, *levels: int) -> Reference:
    return Reference(images(*levels).mul(255).round().to(torch.uint8), f"levels {levels}", cache, CPU)


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> type[Levels]:
    monkeypatch.setattr(text, "TextReader", Levels)
    monkeypatch.setattr(Levels, "calls", 0)
    return Levels


@pytest.mark.usefixtures("levels")
def test_texts_of_the_test_images_count(tmp_path: Path) -> None:
    metric = Text(SHAPE, images=0)
    metric.prepare(reference(tmp_path, 1, 0, 2, 3))
    metric.update(images(1, 9), images(1, 0))  # as it was; text that the test image does not have does not count
    metric.update(images(5, 0), images(2, 3))  # one letter of two is another; nothing is left
    assert metric.compute() == {"text_accuracy": pytest.approx((1 + 0.5 + 0) / 3), "text_exact": pytest.approx(1 / 3)}
    assert metric.warning == "3 texts in 3 of 4 images; others do not count"


def test_test_images_are_read_once(levels: type[Levels], tmp_path: Path) -> None:
    for _ in range(2):
        metric = Text(SHAPE, images=2)
        metric.prepare(reference(tmp_path, 1, 2, 3))
        metric.update(images(1, 2, 7), images(1, 2, 3))
        assert metric.compute() == {"text_accuracy": 1, "text_exact": 1}
        assert levels.calls == 2
    (file,) = (tmp_path / "texts").iterdir()
    file.write_text("{")
    Text(SHAPE, images=2).prepare(reference(tmp_path, 1, 2, 3))
    assert levels.calls == 4


@pytest.mark.usefixtures("levels")
def test_without_text_there_is_no_score(tmp_path: Path) -> None:
    metric = Text(SHAPE, images=0)
    metric.prepare(reference(tmp_path, 0, 0))
    metric.update(images(1, 2), images(0, 0))
    with pytest.raises(UserError, match="no text was found in the 2 test images"):
        metric.compute()


@pytest.mark.skipif(importlib.util.find_spec("rapidocr_onnxruntime") is not None, reason="the package is installed")
def test_without_the_package_an_error_names_it() -> None:
    with pytest.raises(UserError, match=r"rapidocr-onnxruntime .*pip install 'recbench\[text\]'"):
        TextReader()
    assert ENTRY.install == "pip install 'recbench[text]'"


def page(words: list[str], side: int = 160) -> NDArray[np.uint8]:
    """Return a white page with lines of words, uint8 (3, side, side)."""
    drawn = Image.new("RGB", (side, side), "white")
    for line, word in enumerate(words):
        ImageDraw.Draw(drawn).text((12, 14 + 50 * line), word, fill="black", font=ImageFont.load_default(30))
    return np.asarray(drawn).transpose(2, 0, 1)


@pytest.mark.slow
def test_the_real_reader_reads_less_of_blurred_text(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="rapidocr-onnxruntime is not installed")
    target = torch.from_numpy(np.stack([page(["Harbour", "1984"]), page([]), page(["Decoder"])]))
    shape = ImageShape(3, 160, 160)
    found = {}
    for name, factor in (("same", 1), ("blurred", 5), ("gone", 40)):
        small = torch.nn.functional.avg_pool2d(target.float() / 255, factor)
        decoded = torch.nn.functional.interpolate(small, (160, 160)).mul(255).round().div(255)
        metric = Text(shape, images=0)
        metric.prepare(Reference(target, "pages", tmp_path, CPU))
        metric.update(decoded, target.float() / 255)
        found[name] = metric.compute()
    assert [place.text for places in metric.wanted for place in places] == ["Harbour", "1984", "Decoder"]
    assert metric.warning.startswith("3 texts in 2 of 3 images")
    assert found["same"] == {"text_accuracy": 1, "text_exact": 1}
    assert 1 > found["blurred"]["text_accuracy"] > found["gone"]["text_accuracy"]
