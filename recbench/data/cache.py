"""The image cache: a dataset decoded once to memory-mapped uint8 arrays, and its fingerprint. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Dataset, Split
from recbench.data.arrays import HEADER, fingerprint, mapped, new_array, without
from recbench.data.duplicates import content_hash, duplicates, summary
from recbench.data.progress import DecodingProgress, no_progress
from recbench.errors import UserError
from recbench.files import full_disk_named, lock
from recbench.plan.model import ComponentSpec, digest
from recbench.plugin.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REPORT_EVERY = 256  # images between two calls of a progress callback
_PAUSE = 0.2  # seconds between two attempts to take a lock


@dataclass(frozen=True)
class Prepared:
    """A decoded dataset in the cache.

    Attributes:
        folder: holds ``<split>.npy``, uint8 (N, C, H, W).
        fingerprint: SHA-256 over the shapes and pixels of all splits.
        counts: number of images in each split.
        size: bytes of all images.
        spec: the dataset with its parameters and the state of its code, as plans have it.
        left_out: how many and which images were dropped because they are in another split; empty if there are none.
        replaced: what was wrong with the copy that this one replaced, where it was damaged; empty otherwise.
    """

    folder: Path
    fingerprint: str
    counts: dict[str, int]
    size: int
    spec: ComponentSpec
    left_out: str
    replaced: str = ""

    def load(self, split: Split) -> NDArray[np.uint8]:
        """Return the images of a split, (N, C, H, W), memory-mapped; writing to them changes no file."""
        import numpy as np

        images: NDArray[np.uint8] = np.load(self.folder / f"{split}.npy", mmap_mode="c", allow_pickle=False)
        return images


def default_cache() -> Path:
    """Return ``RECBENCH_CACHE``, or ``recbench`` in the user's cache folder."""
    chosen = os.environ.get("RECBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recbench"


def prepare(spec: ComponentSpec, registry: Registry, cache: Path, progress: DecodingProgress = no_progress) -> Prepared:
    """Decode a dataset into the cache, or find it there.

    A cached dataset is reused only for the same parameters, the same code and the same source, wherever that is;
    anything else goes to another folder. The folder gets its name when it is complete. If another process is preparing
    the same dataset, this one waits for it. All pixels in the cache are verified by their fingerprint, once in each
    process; a damaged copy is made again.

    Args:
        spec: the dataset with its parameters.
        registry: creates it.
        cache: folder of the cache.
        progress: called with the number of images decoded so far, and their total number, if it is known.

    Raises:
        UserError: the data are missing, unreadable or not what they should be, or the cache cannot be written.
    """
    dataset: Dataset = registry.get("datasets", spec.name).create(spec.arguments)
    source = dataset.source()
    folder = _folder(spec, source, cache)
    found = _find(folder)
    if found is not None and not _damage(found):
        return found
    try:
        with full_disk_named(cache):
            (cache / "locks").mkdir(parents=True, exist_ok=True)
        with full_disk_named(cache), _waited_for(cache / "locks" / folder.name):
            found = _find(folder)
            damage = _damage(found) if found is not None else ""
            if found is not None and not damage:
                return found
            made = _decode(dataset, spec, source, folder, progress)
            _verified.add(_identity(made))
            return replace(made, replaced=damage)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        if not _is_below(error.filename, cache):  # it is the data that cannot be read
            raise
        raise UserError(f"the cache folder {cache} cannot be written: {error.strerror}; --cache sets another") from None


def _is_below(name: str | bytes | None, folder: Path) -> bool:
    return name is not None and Path(os.fsdecode(name)).absolute().is_relative_to(folder.absolute())


def find(spec: ComponentSpec, registry: Registry, cache: Path) -> Prepared | None:
    """Return a dataset that is in the cache; None if it is not, or only with other parameters.

    Raises:
        UserError: the data are missing, so that their folder in the cache is not known.
    """
    dataset: Dataset = registry.get("datasets", spec.name).create(spec.arguments)
    return _find(_folder(spec, dataset.source(), cache))


def find_all(name: str, cache: Path) -> list[Prepared]:
    """Return everything in the cache that was decoded from a dataset, with any parameters, sorted by folder."""
    found = map(_find, sorted((cache / "images").glob(f"{name}-*")))
    return [prepared for prepared in found if prepared is not None and prepared.spec.name == name]


def _folder(spec: ComponentSpec, source: str, cache: Path) -> Path:
    part = spec.model_dump(mode="json", exclude={"locations", "variant"})
    return cache / "images" / f"{spec.name}-{digest({'part': part, 'source': source})}"


@contextmanager
def _waited_for(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, waiting until another process has released it or has died."""
    while True:
        with lock(folder) as mine:
            if mine:
                yield
                return
        time.sleep(_PAUSE)


def _find(folder: Path) -> Prepared | None:
    """Return the dataset in a folder; None unless all files have the right sizes and the folder's name fits its
    content: a copy of a folder under the name of other parameters is not valid."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        spec, pixels = ComponentSpec.model_validate(facts["part"]), math.prod(facts["shape"].values())
        if folder.name != _folder(spec, facts["source"], folder).name:
            return None
        for split in SPLITS:
            if (folder / f"{split}.npy").stat().st_size != HEADER + facts["counts"][split] * pixels:
                return None
        counts, size = facts["counts"], sum(facts["counts"].values()) * pixels
        return Prepared(folder, facts["fingerprint"], counts, size, spec, facts["left_out"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def has_images(dataset: Dataset, split: Split) -> bool:
    """Return whether a split has images; decodes one of them if the dataset does not know their number."""
    count = dataset.image_count(split)
    return next(iter(dataset.images(split)), None) is not None if count is None else count > 0


def check_images(name: str, has: Callable[[Split], object]) -> None:
    """Raise a UserError if a dataset has no images to train or to test with."""
    needed: tuple[Split, ...] = ("train", "test")
    for split in needed:
        if not has(split):
            raise UserError(f"the dataset {name} has no {split} images")


_verified: set[tuple[object, ...]] = set()
"""The copies that this process has verified or made."""


def _identity(prepared: Prepared) -> tuple[object, ...]:
    facts = [(prepared.folder / f"{split}.npy").stat() for split in SPLITS]
    return prepared.fingerprint, *((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in facts)


def _damage(prepared: Prepared) -> str:
    """Return what is wrong with the pixels of a cached dataset; empty if nothing is."""
    try:
        identity = _identity(prepared)
        if identity in _verified:
            return ""
        if fingerprint(prepared.folder) == prepared.fingerprint:
            _verified.add(identity)
            return ""
        why = "its pixels are not those of its fingerprint"
    except Exception as error:  # noqa: BLE001 - NumPy's reader of headers raises anything, also errors of Python's parser
        why = str(error).partition("\n")[0]
    return f"the decoded images of {prepared.spec.name} in {prepared.folder} were damaged ({why}), and were made again"


def _decode(dataset: Dataset, spec: ComponentSpec, source: str, folder: Path, progress: DecodingProgress) -> Prepared:
    name = spec.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # of processes that were killed; this one holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(6)}"
    temporary.mkdir()  # with the permissions that the umask leaves, as others may share the cache
    try:
        hashes = _write_all(dataset, name, temporary, progress)
        left_out = ""
        if dataset.duplicates != "keep":
            found = duplicates(hashes, temporary)
            left_out = summary(found, dataset, name)
            if found and dataset.duplicates == "error":
                way_out = "\nduplicates: drop leaves them out" if "duplicates" in spec.params else ""
                raise UserError(left_out + way_out)
            for split in SPLITS:
                without(temporary / f"{split}.npy", {each.index for each in found if each.split == split})
        counts: dict[str, int] = {split: len(mapped(temporary, split)) for split in SPLITS}
        check_images(name, counts.__getitem__)
        identity = fingerprint(temporary)
        facts = {
            "fingerprint": identity,
            "counts": counts,
            "shape": asdict(dataset.shape),
            "part": spec.model_dump(mode="json"),
            "source": source,
            "left_out": left_out,
        }
        with (temporary / "facts.json").open("w", encoding="utf-8") as stream:
            json.dump(facts, stream)
            stream.flush()
            os.fsync(stream.fileno())
        replaced = temporary.with_name(temporary.name + ".old")
        if folder.exists():  # damaged, or not written by recbench
            folder.rename(replaced)
        temporary.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    size = sum(counts.values()) * math.prod(asdict(dataset.shape).values())
    return Prepared(folder, identity, counts, size, spec, left_out)


def _write_all(dataset: Dataset, name: str, folder: Path, progress: DecodingProgress) -> dict[Split, array[int]]:
    """Write every split, and return the content hash of every image."""
    known = [dataset.image_count(split) for split in SPLITS]
    total = sum(count for count in known if count is not None) if None not in known else None
    done = 0
    progress(done, total)
    shape = dataset.shape
    expected = (shape.height, shape.width, shape.channels)
    hashes: dict[Split, array[int]] = {}
    for split in SPLITS:
        hashes[split] = array("Q")
        with new_array(folder / f"{split}.npy", expected) as write:
            for image in _checked(dataset.images(split), name, split, expected):
                raw = image.transpose(2, 0, 1).tobytes()
                write(raw)
                hashes[split].append(content_hash(raw))
                done += 1
                if done % _REPORT_EVERY == 0:
                    progress(done, total)
    progress(done, total)
    return hashes


def _checked(
    images: Iterator[NDArray[np.uint8]], name: str, split: Split, expected: tuple[int, int, int]
) -> Iterator[NDArray[np.uint8]]:
    for index, image in enumerate(images):
        if image.shape != expected or image.dtype != "uint8":
            raise UserError(
                f"the dataset {name}, {split} image {index}: expected uint8 {expected}, got {image.dtype} {image.shape}"
            )
        yield image
