"""What an image file holds besides the pixels that Pillow gives: deeper channels, further images, transparency."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageFile

_DEPTHS = (";16B", ";16L", ";16N")  # a channel; the "BGR;16" of BMP files is a pixel


def is_deep(opened: ImageFile.ImageFile) -> bool:
    """Whether a file, opened and not yet loaded, has more than 8 bits a channel.

    Pillow has no mode for such colours: of 16-bit PNG and TIFF files in colour it silently drops the lower 8 bits.
    """
    return opened.mode == "F" or opened.mode.startswith("I") or _stored_mode(opened).endswith(_DEPTHS)


def image_count(opened: Image.Image) -> int:
    """How many images a file holds: the frames of an animation, the pages of a TIFF file.

    A photograph of a telephone (MPO) is one image, whatever previews come with it.
    """
    return 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)


def is_transparent(image: Image.Image) -> bool:
    """Whether anything behind the image would show."""
    return bool(image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255))


def is_grey(image: Image.Image) -> bool:
    """Whether the image is stored as shades of grey: in one channel, or in a palette without a colour."""
    if image.mode != "P":
        return image.mode in ("1", "L", "LA", "La")
    red, green, blue = (image.convert("RGB").getchannel(channel) for channel in "RGB")
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _stored_mode(opened: ImageFile.ImageFile) -> str:
    """How pixels lie in the file, as Pillow calls it; empty where its decoder does not say."""
    for tile in opened.tile:
        stored = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
        return stored if isinstance(stored, str) else ""
    return ""
