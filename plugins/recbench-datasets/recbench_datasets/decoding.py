"""Image files decoded by processes, one for each core, in the order of the files.

Threads would not do: a quarter of the time for an image goes to Python code, which only one thread runs at a time. The
processes are programs of their own, told what to do on stdin, that write pixels to stdout. So they import nothing of
the program that started them, and end when it does, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from recbench import image_files
from recbench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORTH_A_PROCESS = 200  # images; it takes a third of a second to start
_DECODED, _REFUSED = b"+", b"-"


@dataclass(frozen=True)
class Decoder:
    """Conversion of a file to an image: turned upright, cropped to a centred square, resized (bicubic, antialiased).

    Attributes:
        size: side of the image in pixels.
        channels: 3 for colour, 1 for grey; the file must have as many.
        crop: side of the square in the file's pixels; 0 stands for the shorter side.
        originals: the widths and heights that files may have; empty means any.
    """

    size: int
    channels: int = 3
    crop: int = 0
    originals: tuple[tuple[int, int], ...] = ()

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Return one image, (size, size, channels).

        Raises:
            ValueError: the file cannot be used; the text says why, as the rest of a sentence about it.
        """
        import numpy as np
        from PIL import Image, ImageOps

        try:
            with image_files.open_image(path) as opened:
                deep, count = image_files.is_deep(opened), image_files.image_count(opened)
                opened.load()
                grey, transparent = image_files.is_grey(opened), image_files.is_transparent(opened)
                image = ImageOps.exif_transpose(opened).convert("RGB" if self.channels == 3 else "L")
        except image_files.UnusableImageError:
            raise
        except Exception as error:  # noqa: BLE001 - given a broken file, decoders raise anything
            raise ValueError(f"is broken: {error}") from None
        if count > 1:
            raise ValueError(f"holds {count} images, as animations do, expected one")
        if deep:
            raise ValueError("has more than 8 bits a channel: convert it first")
        if self.channels == 3 and grey:
            raise ValueError("is grey, expected colour (channels: 3)")
        if self.channels == 1 and not grey:
            raise ValueError("is in colour, expected grey (channels: 1)")
        if transparent:
            raise ValueError("is transparent in places, where another image would show: put it on a background first")
        if self.originals and image.size not in self.originals:
            wanted = " or ".join(f"{width}x{height}" for width, height in self.originals)
            raise ValueError(f"is {image.width}x{image.height}, but {wanted} is wanted")
        side = self.crop or min(image.size)
        if side > min(image.size):
            raise ValueError(f"is {image.width}x{image.height}, too small for a crop of {side}")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        # Cut first: resize(box=…) would average over pixels outside of the box as well.
        square = image.crop((left, top, left + side, top + side))
        pixels = np.asarray(square.resize((self.size, self.size), Image.Resampling.BICUBIC))
        return pixels.reshape(self.size, self.size, self.channels)


def decode(files: Sequence[Path], decoder: Decoder) -> Iterator[NDArray[np.uint8] | ValueError]:
    """Yield for each file its image, (size, size, channels), or the error that says why it cannot be used.

    Raises:
        UserError: a process died; the text names the file that it was at.
    """
    processes = min(len(os.sched_getaffinity(0)), len(files) // _WORTH_A_PROCESS)
    if processes < 2:
        for path in files:
            try:
                yield decoder(path)
            except ValueError as error:
                yield error
        return
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(decoder)) for _ in range(processes)]
        for number, worker in enumerate(workers):
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # _read says what became of it
                worker.stdin.write(b"\0".join(map(os.fsencode, files[number::processes])))
                worker.stdin.close()
        for index, path in enumerate(files):
            yield _read(workers[index % processes], path, decoder)


@contextlib.contextmanager
def _worker(decoder: Decoder) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads names of files, to the end, and then decodes them as fast as its results are read."""
    command = [sys.executable, "-P", "-m", __name__, json.dumps(asdict(decoder))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    with subprocess.Popen(  # noqa: S603 - this very module
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read(process: subprocess.Popen[bytes], path: Path, decoder: Decoder) -> NDArray[np.uint8] | ValueError:
    import numpy as np

    assert process.stdout is not None
    told = process.stdout.read(5)
    raw = process.stdout.read(int.from_bytes(told[1:])) if len(told) == 5 else b""
    if len(told) < 5 or len(raw) < int.from_bytes(told[1:]):
        raise UserError(f"the process that decodes {path} ended with code {process.wait()}")
    if told[:1] == _REFUSED:
        return ValueError(raw.decode())
    return np.frombuffer(raw, dtype=np.uint8).reshape(decoder.size, decoder.size, decoder.channels)


def _work(facts: str, stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Write, for each file, a sign, the number of bytes that follow, and pixels or an error's text."""
    decoder = Decoder(**json.loads(facts, object_hook=_with_tuples))
    for path in stdin.read().split(b"\0"):
        try:
            sign, raw = _DECODED, decoder(Path(os.fsdecode(path))).tobytes()
        except ValueError as error:
            sign, raw = _REFUSED, str(error).encode(errors="replace")
        stdout.write(sign + len(raw).to_bytes(4) + raw)
    stdout.flush()


def _with_tuples(facts: dict[str, object]) -> dict[str, object]:
    """Return ``facts`` with tuples, which JSON stores as lists."""
    originals = facts["originals"]
    assert isinstance(originals, list)
    return {**facts, "originals": tuple(map(tuple, originals))}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # nobody wants the rest
        _work(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
