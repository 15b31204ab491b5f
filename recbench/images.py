"""The image cache: a data set decoded once to memory-mapped uint8 arrays, and its fingerprint. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Dataset, Split
from recbench.errors import UserError
from recbench.jobs import Part, digest
from recbench.registry import Registry
from recbench.store import full_disk_named, lock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Prepared:
    """A decoded data set in the cache.

    Attributes:
        folder: holds ``<split>.npy``, uint8 (N, C, H, W).
        fingerprint: SHA-256 over the shapes and pixels of all splits.
        counts: number of images in each split.
    """

    folder: Path
    fingerprint: str
    counts: dict[str, int]

    def load(self, split: Split) -> NDArray[np.uint8]:
        """The images of a split, (N, C, H, W), memory-mapped; writing to them changes no file."""
        import numpy as np

        images: NDArray[np.uint8] = np.load(self.folder / f"{split}.npy", mmap_mode="c", allow_pickle=False)
        return images


def default_cache() -> Path:
    """``RECBENCH_CACHE``, or ``recbench`` under the user's cache folder."""
    chosen = os.environ.get("RECBENCH_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recbench"


def prepare(part: Part, registry: Registry, cache: Path) -> Prepared:
    """Decode a data set into the cache, or find it there.

    A cache is used again only for the same parameters, the same code and the same source; anything else has another
    folder. It appears under its name only when it is whole.

    Raises:
        UserError: the data are missing, unreadable or not what they should be, or there is no room for the cache.
    """
    dataset: Dataset = registry.get("datasets", part.name).create(part.params)
    key = digest({"part": part.model_dump(mode="json"), "source": dataset.source()})
    folder = cache / "images" / f"{part.name}-{key}"
    found = _find(folder)
    if found is not None:
        return found
    try:
        with full_disk_named(cache), lock(cache / "locks" / folder.name) as mine:
            if not mine:
                raise UserError(f"another process is preparing {part.name} in {cache}; wait for it to end")
            found = _find(folder)
            return found if found is not None else _decode(dataset, part.name, folder)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"the cache folder {cache} cannot be written: {error.strerror}; --cache sets another") from None


def _find(folder: Path) -> Prepared | None:
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return Prepared(folder, facts["fingerprint"], facts["counts"])
    except (OSError, ValueError, KeyError):
        return None


def _decode(dataset: Dataset, name: str, folder: Path) -> Prepared:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        hasher = hashlib.sha256()
        counts: dict[str, int] = {}
        for split in SPLITS:
            counts[split] = _write(dataset, name, split, temporary / f"{split}.npy", hasher)
        for split in ("train", "test"):
            if not counts[split]:
                raise UserError(f"the dataset {name} has no {split} images")
        facts = {"fingerprint": hasher.hexdigest(), "counts": counts, "shape": asdict(dataset.shape)}
        with (temporary / "facts.json").open("w", encoding="utf-8") as stream:
            json.dump(facts, stream)
            stream.flush()
            os.fsync(stream.fileno())
        if folder.exists():  # without facts, or with unreadable ones: the remains of something that was not recbench
            folder.rename(temporary.with_name(temporary.name + ".old"))
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Prepared(folder, hasher.hexdigest(), counts)


def _write(dataset: Dataset, name: str, split: Split, file: Path, hasher: hashlib._Hash) -> int:
    """Stream one split into an .npy file whose header is written last, when the number of images is known."""
    import numpy as np

    shape = dataset.shape
    wanted = (shape.height, shape.width, shape.channels)
    count = 0
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, _header(0, wanted))
        start = stream.tell()
        hasher.update(f"{split} {wanted}".encode())
        for image in _checked(dataset.images(split), name, split, wanted):
            raw = np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()
            stream.write(raw)
            hasher.update(raw)
            count += 1
        hasher.update(str(count).encode())
        stream.seek(0)
        np.lib.format.write_array_header_1_0(stream, _header(count, wanted))
        assert stream.tell() == start, "NumPy leaves room in the header for the first axis to grow"
        stream.flush()
        os.fsync(stream.fileno())
    return count


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
