"""Properties of image files that decoding with Pillow would silently lose: depth, further images, transparency."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageFile

_DEPTHS = (";16B", ";16L", ";16N")  # a channel; the "BGR;16" of BMP files is a pixel


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
