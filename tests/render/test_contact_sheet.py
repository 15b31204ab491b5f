"""The picture of a run shows the images that a report of the same jobs shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from recbench.analysis.interesting import SHOWN, interesting
from recbench.analysis.ranking import rank_stored
from recbench.render.contact_sheet import write_pictures
from recbench.store.artifacts import read_images
from tests.report_store import write_store


def test_interesting_images_are_shown_of_every_method(tmp_path: Path) -> None:
    plan, store = write_store(tmp_path, methods=3, seeds=[0], epochs=2)
    records = store.scan(plan).records
    write_pictures(plan, rank_stored(plan, store, records).boards, records, store)
    sheet = np.asarray(Image.open(tmp_path / "reconstructions.png"))
    target = read_images(store.folder(plan.jobs[0].id))["target"]
    chosen = interesting(target, SHOWN)
    assert chosen != list(range(SHOWN))
    step = 66  # twice 32 pixels, and a gap
    assert len(sheet) == 4 * step
    left = sheet.shape[1] - SHOWN * step
    for place, index in enumerate(chosen):
        tile = sheet[:64:2, left + place * step : left + place * step + 64 : 2]
        assert np.array_equal(tile, target[index].transpose(1, 2, 0)), place
