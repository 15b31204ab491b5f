"""Sets of images that users give: folders of image files, and .npy arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from recbench.data.arrays import check_header
from recbench.data.image_files import UnusableImageError, image_count, is_deep, open_image
from recbench.errors import UserError

_NUMBER = re.compile("([0-9]+)")
_PLAIN = ("1", "L", "P", "RGB", "YCbCr", "CMYK", "LAB", "HSV")


def read_images(path: Path) -> NDArray[Any]:
    """Read a folder of images of one size, by name, or an .npy array.

    Returns:
        (N, C, H, W): uint8 in 0 to 255, or floats. A folder has one channel if all of its images are grey.

    Raises:
        UserError: it cannot be read, or is not such a set; the text names the files.
    """
    return _folder(path) if path.is_dir() else _array(path)


def _array(path: Path) -> NDArray[Any]:
    try:
        check_header(path)
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as an .npy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays; save one (N, C, H, W) with numpy.save")
    if array.ndim != 4 or 0 in array.shape or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise UserError(f"{path} holds {array.dtype} of shape {array.shape}; expected (N, C, H, W) of floats or uint8")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, sorted."""
    known = Image.registered_extensions()
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in known and path.is_file())


def check_order(one: Path, other: Path) -> None:
    """Check that the images of a folder have one order, if they go with those of an array, which have no names.

    Raises:
        UserError: the order by name is not that of the numbers in the names: ``10.png`` comes before ``2.png``.
    """
    if one.is_dir() == other.is_dir():
        return
    folder, array = (one, other) if one.is_dir() else (other, one)
    names = image_names(folder)
    counted = sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in _NUMBER.split(name)])
    if counted != names:
        moved = next(i for i, name in enumerate(names) if name != counted[i])
        raise UserError(
            f"{array} has no names, and by name {names[moved]} of {folder} comes before {counted[moved]}: write "
            "the numbers in the names with equally many digits, as in 002.png, or give folders"
        )


def _folder(folder: Path) -> NDArray[Any]:
    """Read all images of a folder, (N, C, H, W): grey if all of them are."""
    images: list[NDArray[Any]] = []
    broken, odd = [], []
    for name in image_names(folder):
        try:
            with open_image(folder / name) as opened:
                deep, count = is_deep(opened), image_count(opened)
                opened.load()
                image = ImageOps.exif_transpose(opened)
        except UnusableImageError as error:
            broken.append(f"{name} {error}")
            continue
        except Exception:  # noqa: BLE001 - given a broken file, decoders raise anything
            broken.append(name)
            continue
        if deep or count > 1 or image.mode not in _PLAIN or image.has_transparency_data:
            odd.append(f"{name} ({image.mode})")
            continue
        images.append(np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")))
    if broken:
        raise UserError(f"{folder}: {len(broken)} files cannot be read as images: {few(broken)}")
    if odd:
        raise UserError(
            f"{folder}: {len(odd)} files have transparency or more than 8 bits a channel, which no conversion keeps, "
            f"or hold several images: {few(odd)}"
        )
    if not images:
        raise UserError(f"{folder} holds no images")
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images]
    else:
        images = [image[:, :, None] for image in images]
    sizes = sorted({image.shape for image in images})
    if len(sizes) > 1:
        shown = few([f"{width}x{height}" for height, width, _ in sizes])
        raise UserError(f"{folder} holds images of {len(sizes)} sizes: {shown}")
    return np.stack(images).transpose(0, 3, 1, 2)


def few(names: list[str]) -> str:
    """Return the first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
