"""A contact sheet of a run: the same interesting test images reconstructed by every method."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from recbench.analysis.board import Board
from recbench.files import write_atomically
from recbench.plan.plan import Plan
from recbench.store.artifacts import ArtifactError, read_images
from recbench.store.record import Result
from recbench.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GAP = 2


def write_pictures(plan: Plan, boards: tuple[Board, ...], records: Mapping[str, Result], store: Store) -> None:
    """Write ``reconstructions.png`` (with a number for further settings): a row for the test images and for each
    method with its first seed, in the order of the board, then for its baselines. Of the images that the jobs kept,
    those with texture and edges are shown."""
    shown: dict[tuple[str, str | None, str], str] = {}
    for planned in plan.jobs:
        record = records.get(planned.id)
        if record is not None and record.status == "done":
            setting, method = plan.settings[planned.setting].label, plan.methods[planned.method].label
            shown.setdefault((setting, record.protocol, method), planned.id)
    by_setting = {planned.setting: planned.id for planned in plan.jobs if planned.setting in plan.fitted}
    fitted = {
        (plan.settings[one.setting].label, one.label): by_setting[one.fitted]
        for one in plan.baselines
        if by_setting[one.fitted] in records and records[by_setting[one.fitted]].status == "done"
    }
    shapes = {setting.label: setting.shape for setting in plan.settings}
    for index, board in enumerate(boards):
        jobs = {row.label: shown.get((board.setting, board.protocol, row.label)) for row in board.rows}
        jobs |= {row.label: fitted.get((board.setting, row.label)) for row in board.baselines}
        shape = shapes[board.setting]
        rows = _rows({label: (job, records[job]) for label, job in jobs.items() if job is not None}, store, shape)
        if rows:
            name = "reconstructions.png" if index == 0 else f"reconstructions-{index + 1}.png"
            write_atomically(store.root / name, _sheet(rows))


def _rows(
    shown: Mapping[str, tuple[str, Result]], store: Store, shape: tuple[int, int, int]
) -> list[tuple[str, NDArray[np.uint8]]]:
    from recbench.analysis.interesting import SHOWN, interesting

    rows: list[tuple[str, NDArray[np.uint8]]] = []
    chosen: list[int] = []
    for label, (job_id, record) in shown.items():
        try:
            pictures = read_images(store.folder(job_id), ("target", "decoded"), files=record.files, shape=shape)
            target, decoded = pictures["target"], pictures["decoded"]
        except (ArtifactError, KeyError):
            continue  # the record holds; only the picture lacks a row
        if not rows:
            chosen = interesting(target, SHOWN)
            rows.append(("test image", target[chosen]))
        rows.append((label, decoded[[index for index in chosen if index < len(decoded)]]))
    return rows


def _sheet(rows: list[tuple[str, NDArray[np.uint8]]]) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    height, width = rows[0][1].shape[2:]
    zoom = max(1, 64 // height)
    height, width = height * zoom, width * zoom
    font = ImageFont.load_default(size=14)
    margin = 16 + int(max(font.getlength(label) for label, _ in rows))
    columns = max(len(images) for _, images in rows)
    sheet = Image.new("RGB", (margin + columns * (width + _GAP), len(rows) * (height + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for down, (label, images) in enumerate(rows):
        top = down * (height + _GAP)
        draw.text((8, top + height // 2), label, fill="black", font=font, anchor="lm")
        for across, image in enumerate(images):
            pixels = image.transpose(1, 2, 0)
            tile = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] < 3 else pixels[:, :, :3]).convert("RGB")
            tile = tile.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + across * (width + _GAP), top))
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
