"""What ``run`` refuses before it starts, ``validate`` refuses with the same words."""

from __future__ import annotations

import pytest

from tests.conftest import TINY, TINY_SUITE

PLUGIN = """\
import numpy as np
from recbench import DatasetEntry, ImageShape, Parameter, hookimpl
from recbench.contracts.dataset import Dataset

class Counted(Dataset):
    duplicates = "keep"

    def __init__(self, *, told, **counts):
        self.told, self.counts = told, counts

    @property
    def shape(self):
        return ImageShape(3, 16, 16)

    def source(self):
        return "made"

    def image_count(self, split):
        return self.counts[split] if self.told else None

    def images(self, split):
        for _ in range(self.counts[split]):
            yield np.zeros((16, 16, 3), dtype=np.uint8)

@hookimpl
def recbench_datasets():
    counts = tuple(Parameter(split, int, 4, "images") for split in ("train", "validation", "test"))
    yield DatasetEntry(
        name="counted", factory=Counted, summary="", parameters=(*counts, Parameter("told", bool, True, "known"))
    )
"""
TUNING = "tuning: {budget: 1, kl_weight: {low: 1e-3, high: 1e-2}, select: {metric: psnr}}\n"
REFUSED = {
    "plateau": ({"validation": 0}, "schedule: plateau", "", "schedule: plateau follows the validation loss, but"),
    "tuning": ({"validation": 0}, "", TUNING, "tuning selects on the validation images, but the data set has none"),
    "no training images": ({"train": 0}, "", "", "the dataset counted has no train images"),
    "no test images": ({"test": 0}, "", "", "the dataset counted has no test images"),
    "no reference": ({}, "", TUNING, "a scale is relative to l2: there is no loss 'l2'"),
}


@pytest.mark.parametrize(("counts", "key", "more", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("told", [True, False], ids=["counted", "uncounted"])
def test_the_same_words(recbench, tmp_path, counts, key, more, words, told):
    params = ", ".join(f"{name}: {value}" for name, value in {**counts, "told": str(told).lower()}.items())
    text = TINY_SUITE.replace("[blobs]", f"[{{name: counted, params: {{{params}}}}}]")
    text = text.replace("epochs: 2", f"epochs: 1, {key}" if key else "epochs: 1")
    text = text.replace(", kl_weight: 0.001", "").replace("seeds: [0, 1]", "seeds: [0]")
    if "l2" in words:
        text = text.replace("l2", "ssim").replace("l1", "ms_ssim").replace("{name: ms_ssim}", "ssim")
        text = text.replace("  - ssim\n", "")
    (tmp_path / "tiny.yaml").write_text(text + more)
    (tmp_path / "counted.py").write_text(PLUGIN)
    options = ["tiny.yaml", "--plugin", TINY, "--plugin", "counted.py"]
    options += ["--block", "recbench-losses-pixel"] if "l2" in words else []
    ran, checked = recbench("run", *options, "--device", "cpu"), recbench("validate", *options)
    assert ran.returncode == checked.returncode == 2, checked.stdout + ran.stderr
    assert words in checked.stderr
    assert ran.stderr == checked.stderr
