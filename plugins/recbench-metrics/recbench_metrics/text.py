"""Text in images: how much of it a reader (OCR) still reads in reconstructions."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbench import ImageShape, write_atomically
from recbench.contracts.metric import Reference, SetMetric
from recbench.errors import UserError

PACKAGE = "rapidocr-onnxruntime"


@dataclass(frozen=True)
class TextPlace:
    """A text that was found in an image, and the rectangle of pixels that it fills: ``left`` up to before ``right``."""

    text: str
    left: int
    top: int
    right: int
    bottom: int

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return its part of an image (H, W, 3)."""
        return np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right])


class TextReader:
    """The models that rapidocr-onnxruntime carries, on one thread of the processor.

    Images are uint8 (H, W, 3) in the order blue, green, red.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self) -> None:
        try:
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            raise UserError(f"text: needs the package {PACKAGE} ({error}): pip install 'recbench[text]'") from None
        self._engine: Any = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def find(self, image: NDArray[np.uint8]) -> list[TextPlace]:
        """Return the texts of an image that the reader is sure of, as they are read in their upright rectangles."""
        boxes, _ = self._engine(image)
        found = []
        for corners, _, _ in boxes or ():
            across, down = np.array(corners, dtype=np.float64).T
            height, width = image.shape[:2]
            left, top = int(max(np.floor(across.min()), 0)), int(max(np.floor(down.min()), 0))
            right, bottom = int(min(np.ceil(across.max()), width)), int(min(np.ceil(down.max()), height))
            if left < right and top < bottom:
                place = TextPlace("", left, top, right, bottom)
                text = self.read(place.cut(image))
                if text:
                    found.append(TextPlace(text, left, top, right, bottom))
        return found

    def read(self, part: NDArray[np.uint8]) -> str:
        """Return the text of a part of an image with one line of it; empty if none is recognized."""
        lines, _ = self._engine(part, use_det=False, use_cls=False, use_rec=True)
        return " ".join(str(text) for text, _ in lines or ())


def edit_distance(one: str, other: str) -> int:
    """Return how many characters must at least be inserted, deleted or replaced to make one text the other.

    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc"), edit_distance("same", "same")
    (3, 3, 0)
    """
    row = list(range(len(other) + 1))
    for i, character in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (character != wanted))
    return row[-1]


def character_accuracy(read: str, wanted: str) -> float:
    """Return 1 − edit distance / length of the longer text; 1 for two empty ones.

    >>> character_accuracy("l0ss", "loss"), character_accuracy("", "loss")
    (0.75, 0.0)
    """
    longest = max(len(read), len(wanted))
    return 1 - edit_distance(read, wanted) / longest if longest else 1.0


class Text(SetMetric):
    """Character accuracy, and share of texts read the same, over all texts of the test images.

    Batches come in the order of the test images, whose texts are kept in the cache.
    """

    def __init__(self, shape: ImageShape, *, images: int) -> None:
        super().__init__()
        self.images = images
        self.reader = TextReader()
        self.wanted: list[list[TextPlace]] = []
        self.count = 0
        self.accuracies: list[float] = []
        self.exact = 0

    def prepare(self, reference: Reference) -> None:
        images = reference.images[: self.images] if self.images else reference.images
        self.wanted = _texts(self.reader, images, reference)

    def update(self, decoded: Tensor, target: Tensor) -> None:
        for image, wanted in zip(decoded, self.wanted[self.count :], strict=False):  # those beyond are not read
            pixels = _pixels(image.mul(255).round().to(torch.uint8)) if wanted else None
            for found in wanted:
                assert pixels is not None
                read = self.reader.read(found.cut(pixels))
                self.accuracies.append(character_accuracy(read, found.text))
                self.exact += read == found.text
        self.count += len(decoded)

    def compute(self) -> Mapping[str, float]:
        several = sum(1 for found in self.wanted if found)
        if not self.accuracies:
            raise UserError(
                f"{type(self).__name__}: no text was found in the {len(self.wanted)} test images that were read, so "
                "that there is nothing to compare"
            )
        self.warning = f"{len(self.accuracies)} texts in {several} of {len(self.wanted)} images; others do not count"
        return {
            "text_accuracy": float(np.mean(self.accuracies)),
            "text_exact": self.exact / len(self.accuracies),
        }


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image, uint8 (C, H, W), as the reader wants it; a grey one is repeated to three channels."""
    rows: NDArray[np.uint8] = image.cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(rows[:, :, ::-1])


def _texts(reader: TextReader, images: Tensor, reference: Reference) -> list[list[TextPlace]]:
    """Return the texts of the test images, from the cache if they were read before by the same reader."""
    code = inspect.getsource(sys.modules[__name__])
    origin = {"images": reference.fingerprint, "count": len(images), "reader": _version(), "code": code}
    digest = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    file = reference.cache / "texts" / f"{digest[:16]}.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["origin"] == digest:
            return [[TextPlace(**one) for one in found] for found in kept["texts"]]
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged: it is written anew
        pass
    texts = [reader.find(_pixels(image)) for image in images]
    content = {"origin": digest, "texts": [_plain(found) for found in texts]}
    try:
        write_atomically(file, json.dumps(content).encode())
    except OSError as error:
        warnings.warn(f"cannot write {file}, so each job reads the texts again: {error.strerror}", stacklevel=2)
    return texts


def _plain(found: Sequence[TextPlace]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""
