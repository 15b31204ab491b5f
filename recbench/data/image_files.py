"""Image files: opening them safely, and what decoding would silently lose: depth, further images, transparency."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageFile

_DEPTHS = (";16B", ";16L", ";16N")  # a channel; the "BGR;16" of BMP files is a pixel

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA", "JPEG2000", "AVIF")
"""The formats that are read, as Pillow names them. It knows others that are programs (EPS), for which it starts an
interpreter, or that tell it to open further files."""


class UnusableImageError(ValueError):
    """A file that is not opened as an image. The text is the rest of a sentence about it: ``is not an image``."""


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Open an image file, not yet decoded; a context manager.

    Args:
        path: the file. Its content decides about its format, not its name.

    Yields:
        What ``PIL.Image.open`` returns.

    Raises:
        UnusableImageError: it is not in one of :data:`FORMATS`, or has more pixels than Pillow considers safe, about 89
            million, whose decoding would take gigabytes.
        OSError: it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
        except UnidentifiedImageError:
            raise UnusableImageError(f"is not an image that can be read ({', '.join(FORMATS)})") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            most = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
            raise UnusableImageError(f"has too many pixels to be decoded, expected at most {most} million") from None
    with opened:
        yield opened


def is_deep(opened: ImageFile.ImageFile) -> bool:
    """Return whether an image file has more than 8 bits per channel.

    Pillow has no mode for such colour images: it silently drops the lower 8 bits of 16-bit PNG and TIFF files.

    Args:
        opened: the image as ``PIL.Image.open`` returned it, not yet loaded.

    Returns:
        True if decoding it to 8 bits would lose information.
    """
    return opened.mode == "F" or opened.mode.startswith("I") or _stored_mode(opened).endswith(_DEPTHS)


def image_count(opened: Image.Image) -> int:
    """Return the number of images in a file: frames of an animation, or pages of a TIFF file.

    Args:
        opened: the image as ``PIL.Image.open`` returned it.

    Returns:
        At least 1. A photograph with embedded previews (MPO) counts as one image.
    """
    return 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)


def is_transparent(image: Image.Image) -> bool:
    """Return whether any pixel is not fully opaque.

    Args:
        image: an image of any mode.

    Returns:
        False for images without an alpha channel, and for those whose alpha channel is 255 throughout.

    Examples:
        >>> from PIL import Image
        >>> is_transparent(Image.new("RGBA", (2, 2), (9, 9, 9, 255)))
        False
        >>> is_transparent(Image.new("RGBA", (2, 2), (9, 9, 9, 128)))
        True
    """
    return bool(image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255))


def is_grey(image: Image.Image) -> bool:
    """Return whether an image is stored in shades of grey: in one channel, or with a palette of greys only.

    Args:
        image: an image of any mode.

    Returns:
        True for greyscale images. Colour images are not examined pixel by pixel.

    Examples:
        >>> from PIL import Image
        >>> is_grey(Image.new("L", (2, 2), 7)), is_grey(Image.new("RGB", (2, 2)))
        (True, False)
    """
    if image.mode != "P":
        return image.mode in ("1", "L", "LA", "La")
    red, green, blue = (image.convert("RGB").getchannel(channel) for channel in "RGB")
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _stored_mode(opened: ImageFile.ImageFile) -> str:
    """Return Pillow's name of the pixel format in the file; empty if the decoder does not tell."""
    for tile in opened.tile:
        stored = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
        return stored if isinstance(stored, str) else ""
    return ""
