"""Shapes of images, and the shapes that an entry accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageShape:
    """The shape of one image.

    Attributes:
        channels: number of channels: 1 for grey images, 3 for RGB.
        height: in pixels.
        width: in pixels.

    >>> print(ImageShape(3, 32, 48))
    3x32x48
    """

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Requirements:
    """The image shapes that an entry accepts, whatever its parameters.

    Attributes:
        channels: accepted numbers of channels; empty for any.
        minimum_size: smallest height and width in pixels.
        maximum_size: largest height and width in pixels; None for no limit.
        multiple_of: number that height and width must be multiples of.

    >>> Requirements(channels=(1, 3), minimum_size=16).problems(ImageShape(3, 8, 8))
    ['needs at least 16 pixels a side, not 8x8']
    """

    channels: tuple[int, ...] = ()
    minimum_size: int = 1
    maximum_size: int | None = None
    multiple_of: int = 1

    def problems(self, shape: ImageShape) -> list[str]:
        """Return the reasons why images of a shape are not accepted; empty if they are.

        Args:
            shape: the shape of the images.

        Returns:
            Clauses without a subject, such as ``"takes images with 1 channels, not 3"``.
        """
        found = []
        if self.channels and shape.channels not in self.channels:
            allowed = " or ".join(map(str, self.channels))
            found.append(f"takes images with {allowed} channels, not {shape.channels}")
        if min(shape.height, shape.width) < self.minimum_size:
            found.append(f"needs at least {self.minimum_size} pixels a side, not {shape.height}x{shape.width}")
        if self.maximum_size is not None and max(shape.height, shape.width) > self.maximum_size:
            found.append(f"takes at most {self.maximum_size} pixels a side, not {shape.height}x{shape.width}")
        if shape.height % self.multiple_of or shape.width % self.multiple_of:
            found.append(f"needs sides that are multiples of {self.multiple_of}, not {shape.height}x{shape.width}")
        return found

    def __str__(self) -> str:
        parts = [f"{' or '.join(map(str, self.channels))} channels" if self.channels else "any number of channels"]
        if self.maximum_size is not None:
            parts.append(f"{self.minimum_size} to {self.maximum_size} pixels a side")
        elif self.minimum_size > 1:
            parts.append(f"at least {self.minimum_size} pixels a side")
        if self.multiple_of > 1:
            parts.append(f"sides in multiples of {self.multiple_of}")
        return ", ".join(parts)
