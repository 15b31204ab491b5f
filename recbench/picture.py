"""A picture to look at after a run: the same test images under every method."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from recbench.jobs import Plan
from recbench.leaderboard import Board
from recbench.store import Result, Store, write_atomically

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN = 12
_GAP = 2


def write_pictures(plan: Plan, boards: tuple[Board, ...], records: Mapping[str, Result], store: Store) -> None:
    """Write ``reconstructions.png`` (with a number for further settings): a row for the test images and for each
    method with its first seed, in the order of the board."""
    for index, board in enumerate(boards):
        rows = _rows(plan, board, records, store)
        if rows:
            name = "reconstructions.png" if index == 0 else f"reconstructions-{index + 1}.png"
            write_atomically(store.root / name, _sheet(rows))


def _rows(plan: Plan, board: Board, records: Mapping[str, Result], store: Store) -> list[tuple[str, NDArray[np.uint8]]]:
    import numpy as np

    rows: list[tuple[str, NDArray[np.uint8]]] = []
    for row in board.rows:
        planned = next(
            (
                job
                for job in plan.jobs
                if plan.methods[job.method].label == row.label
                and plan.settings[job.setting].label == board.setting
                and job.id in records
                and records[job.id].status == "done"
                and records[job.id].protocol == board.protocol
            ),
            None,
        )
        if planned is None:
            continue
        try:
            with np.load(store.folder(planned.id) / "images.npz", allow_pickle=False) as pictures:
                if not rows:
                    rows.append(("test image", pictures["target"][:_SHOWN]))
                rows.append((row.label, pictures["decoded"][:_SHOWN]))
        except (OSError, ValueError, KeyError):  # the record holds; only the picture lacks a row
            continue
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
            tile = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]).convert("RGB")
            tile = tile.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + across * (width + _GAP), top))
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
