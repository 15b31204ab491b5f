"""The image cache: a data set decoded once to memory-mapped uint8 arrays, and its fingerprint. Imports no torch."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Dataset, Split
from recbench.errors import UserError
from recbench.files import full_disk_named, lock
from recbench.plan.model import ComponentSpec, digest
from recbench.plugin.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER = 128  # bytes of an .npy file before the pixels
_BATCH = 256
_NAMED = 10
_PAUSE = 0.2  # seconds between looks at whether another process is done

DecodingProgress = Callable[[int, int | None], None]


def silent(done: int, total: int | None) -> None:
    """DecodingProgress that nobody looks at."""


@dataclass(frozen=True)
class Prepared:
    """A decoded data set in the cache.

    Attributes:
        folder: holds ``<split>.npy``, uint8 (N, C, H, W).
        fingerprint: SHA-256 over the shapes and pixels of all splits.
        counts: number of images in each split.
        size: bytes of all images.
        part: the data set with its parameters and the state of its code, as plans have it.
        left_out: how many and which images it lacks because they are in another split; empty if there are none.
    """

    folder: Path
    fingerprint: str
    counts: dict[str, int]
    size: int
    part: ComponentSpec
    left_out: str

    def load(self, split: Split) -> NDArray[np.uint8]:
        """The images of a split, (N, C, H, W), memory-mapped; writing to them changes no file."""
        import numpy as np

        images: NDArray[np.uint8] = np.load(self.folder / f"{split}.npy", mmap_mode="c", allow_pickle=False)
        return images


def default_cache() -> Path:
    """``RECBENCH_CACHE``, or ``recbench`` under the user's cache folder."""
    chosen = os.environ.get("RECBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recbench"


def prepare(part: ComponentSpec, registry: Registry, cache: Path, progress: DecodingProgress = silent) -> Prepared:
    """Decode a data set into the cache, or find it there.

    A cache is used again only for the same parameters, the same code and the same source; anything else has another
    folder. It appears under its name only when it is whole. If another process is preparing the same one, its end is
    waited for.

    Args:
        progress: called with the images decoded so far, and with how many there are if that is known.

    Raises:
        UserError: the data are missing, unreadable or not what they should be, or there is no room for the cache.
    """
    dataset: Dataset = registry.get("datasets", part.name).create(part.params)
    source = dataset.source()
    folder = _folder(part, source, cache)
    found = _find(folder)
    if found is not None:
        return found
    try:
        with full_disk_named(cache), _turn(cache / "locks" / folder.name):
            found = _find(folder)
            return found if found is not None else _decode(dataset, part, source, folder, progress)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        if not _is_below(error.filename, cache):  # it is the data that cannot be read
            raise
        raise UserError(f"the cache folder {cache} cannot be written: {error.strerror}; --cache sets another") from None


def _is_below(name: str | bytes | None, folder: Path) -> bool:
    return name is not None and Path(os.fsdecode(name)).absolute().is_relative_to(folder.absolute())


def find(part: ComponentSpec, registry: Registry, cache: Path) -> Prepared | None:
    """A data set that is in the cache already; None if it is not, or is there with other parameters only.

    Raises:
        UserError: the data are not there, so that it cannot be said which cache is theirs.
    """
    dataset: Dataset = registry.get("datasets", part.name).create(part.params)
    return _find(_folder(part, dataset.source(), cache))


def find_all(name: str, cache: Path) -> list[Prepared]:
    """Everything in the cache that was decoded from a data set, whatever its parameters; by the folders' names."""
    found = map(_find, sorted((cache / "images").glob(f"{name}-*")))
    return [prepared for prepared in found if prepared is not None and prepared.part.name == name]


def _folder(part: ComponentSpec, source: str, cache: Path) -> Path:
    return cache / "images" / f"{part.name}-{digest({'part': part.model_dump(mode='json'), 'source': source})}"


@contextmanager
def _turn(place: Path) -> Iterator[None]:
    """Hold a lock, once its holder has let it go. Dead processes hold none."""
    while True:
        with lock(place) as mine:
            if mine:
                yield
                return
        time.sleep(_PAUSE)


def _find(folder: Path) -> Prepared | None:
    """What the folder holds; None unless all files have the sizes that they must have, and it was made under its name:
    a copy of what was made with other parameters is none of it."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        part, pixels = ComponentSpec.model_validate(facts["part"]), math.prod(facts["shape"].values())
        if folder.name != _folder(part, facts["source"], folder).name:
            return None
        for split in SPLITS:
            if (folder / f"{split}.npy").stat().st_size != _HEADER + facts["counts"][split] * pixels:
                return None
        counts, size = facts["counts"], sum(facts["counts"].values()) * pixels
        return Prepared(folder, facts["fingerprint"], counts, size, part, facts["left_out"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _decode(dataset: Dataset, part: ComponentSpec, source: str, folder: Path, progress: DecodingProgress) -> Prepared:
    name = part.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*"):  # by processes that were killed; this one holds the lock
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        contents = _write_all(dataset, name, temporary, progress)
        left_out = ""
        if dataset.duplicates != "keep":
            copies = _copies(contents, temporary)
            lines = [*dataset.left_out(), *_told(copies, dataset)]
            left_out = _counted(lines, name) if lines else ""
            if copies and dataset.duplicates == "error":
                way_out = "\nduplicates: drop leaves them out" if "duplicates" in part.params else ""
                raise UserError(left_out + way_out)
            for split in SPLITS:
                _leave_out(temporary / f"{split}.npy", {copy.index for copy in copies if copy.split == split})
        counts: dict[str, int] = {split: len(_mapped(temporary, split)) for split in SPLITS}
        for split in ("train", "test"):
            if not counts[split]:
                raise UserError(f"the dataset {name} has no {split} images")
        fingerprint = _fingerprint(temporary)
        facts = {
            "fingerprint": fingerprint,
            "counts": counts,
            "shape": asdict(dataset.shape),
            "part": part.model_dump(mode="json"),
            "source": source,
            "left_out": left_out,
        }
        with (temporary / "facts.json").open("w", encoding="utf-8") as stream:
            json.dump(facts, stream)
            stream.flush()
            os.fsync(stream.fileno())
        remains = temporary.with_name(temporary.name + ".old")
        if folder.exists():  # damaged, or no cache of recbench's
            folder.rename(remains)
        temporary.rename(folder)
        shutil.rmtree(remains, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    size = sum(counts.values()) * math.prod(asdict(dataset.shape).values())
    return Prepared(folder, fingerprint, counts, size, part, left_out)


def _write_all(dataset: Dataset, name: str, folder: Path, progress: DecodingProgress) -> dict[Split, array[int]]:
    """Write every split, and give 64 bits of a hash of each image."""
    known = [dataset.image_count(split) for split in SPLITS]
    total = sum(count for count in known if count is not None) if None not in known else None
    done = 0
    progress(done, total)
    shape = dataset.shape
    wanted = (shape.height, shape.width, shape.channels)
    contents: dict[Split, array[int]] = {}
    for split in SPLITS:
        contents[split] = array("Q")
        with _new_array(folder / f"{split}.npy", wanted) as write:
            for image in _checked(dataset.images(split), name, split, wanted):
                raw = image.transpose(2, 0, 1).tobytes()
                write(raw)
                contents[split].append(int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest()))
                done += 1
                if done % _BATCH == 0:
                    progress(done, total)
    progress(done, total)
    return contents


@contextmanager
def _new_array(file: Path, image: tuple[int, int, int]) -> Iterator[Callable[[bytes], None]]:
    """Write images one by one to an .npy file, whose header is written last, when their number is known."""
    import numpy as np

    count = 0

    with file.open("wb") as stream:

        def write(raw: bytes) -> None:
            nonlocal count
            stream.write(raw)
            count += 1

        np.lib.format.write_array_header_1_0(stream, _header(0, image))
        assert stream.tell() == _HEADER, "NumPy pads short headers to this size"
        yield write
        stream.seek(0)
        np.lib.format.write_array_header_1_0(stream, _header(count, image))
        assert stream.tell() == _HEADER, "NumPy leaves room in the header for the first axis to grow"
        stream.flush()
        os.fsync(stream.fileno())


def _mapped(folder: Path, split: Split) -> NDArray[np.uint8]:
    import numpy as np

    images: NDArray[np.uint8] = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
    return images


def _fingerprint(folder: Path) -> str:
    hasher = hashlib.sha256()
    for split in SPLITS:
        images = _mapped(folder, split)
        count, channels, height, width = images.shape
        hasher.update(f"{split} {(height, width, channels)}".encode())
        for start in range(0, count, _BATCH):
            hasher.update(images[start : start + _BATCH].data)
        hasher.update(str(count).encode())
    return hasher.hexdigest()


# Images in two splits


@dataclass(frozen=True)
class _Copy:
    """An image whose pixels are also in a split that goes before its own: test before validation before train."""

    split: Split
    index: int
    other_split: Split
    other_index: int


def _copies(contents: dict[Split, array[int]], folder: Path) -> list[_Copy]:
    """All images that are in an earlier split, too. Equal hashes only say where to look; the pixels decide."""
    import numpy as np

    images = {split: _mapped(folder, split) for split in SPLITS}
    found: dict[tuple[Split, int], _Copy] = {}
    order = list(reversed(SPLITS))
    for other, split in itertools.combinations(order, 2):
        shared = np.intersect1d(np.asarray(contents[other]), np.asarray(contents[split]))
        if not len(shared):
            continue
        wanted = set(shared.tolist())
        places: dict[int, list[int]] = {}
        for index, content in enumerate(contents[other]):
            if content in wanted:
                places.setdefault(content, []).append(index)
        for index, content in enumerate(contents[split]):
            if (split, index) in found:
                continue
            for other_index in places.get(content, []):
                if np.array_equal(images[split][index], images[other][other_index]):
                    found[split, index] = _Copy(split, index, other, other_index)
                    break
    return [found[key] for key in sorted(found, key=lambda key: (SPLITS.index(key[0]), key[1]))]


def _told(copies: list[_Copy], dataset: Dataset) -> list[str]:
    return [
        f"{dataset.image_label(copy.split, copy.index)} is the same as "
        f"{dataset.image_label(copy.other_split, copy.other_index)}"
        for copy in copies
    ]


def _counted(lines: list[str], name: str) -> str:
    more = [f"… and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return "\n  ".join(
        [f"{len(lines)} of the images of {name} are in two splits, pixel by pixel:", *lines[:_NAMED], *more]
    )


def _leave_out(file: Path, indices: set[int]) -> None:
    """Write an array anew, without these images."""
    if not indices:
        return
    import numpy as np

    images = np.load(file, mmap_mode="r", allow_pickle=False)
    _, channels, height, width = images.shape
    rest = file.with_suffix(".rest")
    with _new_array(rest, (height, width, channels)) as write:
        for index, image in enumerate(images):
            if index not in indices:
                write(image.tobytes())
    rest.replace(file)


# One image


def _checked(
    images: Iterator[NDArray[np.uint8]], name: str, split: Split, wanted: tuple[int, int, int]
) -> Iterator[NDArray[np.uint8]]:
    for index, image in enumerate(images):
        if image.shape != wanted or image.dtype != "uint8":
            raise UserError(
                f"the dataset {name} gave {image.dtype} {image.shape} for {split} image {index}, "
                f"where it promised uint8 {wanted}"
            )
        yield image


def _header(count: int, image: tuple[int, int, int]) -> dict[str, object]:
    height, width, channels = image
    return {"descr": "|u1", "fortran_order": False, "shape": (count, channels, height, width)}
