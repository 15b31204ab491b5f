"""Image files decoded by several processes: the same images in the same order, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess

import numpy as np
import pytest
from PIL import Image

from recbench.errors import UserError
from recbench_datasets import decoding
from recbench_datasets.decoding import Decoder, decode
from recbench_datasets.image_folder import ImageFolder

DECODER = Decoder(8, 3, 12, originals=((16, 20),))


@pytest.fixture
def processes(monkeypatch):
    """Three processes, even for a few files; the list of those that were started."""
    started = []

    class Watched(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(decoding, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(decoding.subprocess, "Popen", Watched)
    return started


def write(folder, count):
    generator = np.random.default_rng(0)
    files = [folder / f"{number:03} ä.png" for number in range(count)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (20, 16, 3), dtype=np.uint8)).save(file)
    return files


def test_processes_give_what_one_gives_in_the_same_order(tmp_path, processes):
    files = write(tmp_path, 20)
    decoded = list(decode(files, DECODER))
    assert len(processes) == 3
    assert len(decoded) == 20
    for file, image in zip(files, decoded, strict=True):
        np.testing.assert_array_equal(image, DECODER(file))
    assert all(process.poll() is not None for process in processes)


def test_names_of_any_bytes(tmp_path, processes):
    files = [tmp_path / os.fsdecode(b"\xff\xfe\n.png"), *write(tmp_path, 3)]
    files[0].write_bytes(files[1].read_bytes())
    np.testing.assert_array_equal(*list(decode(files, DECODER))[:2])


def test_a_file_that_cannot_be_used_is_told_in_its_place(tmp_path, processes):
    files = write(tmp_path, 9)
    files[4].write_bytes(b"no image")
    Image.new("L", (16, 20)).save(files[5])
    decoded = list(decode(files, DECODER))
    assert [number for number, each in enumerate(decoded) if isinstance(each, ValueError)] == [4, 5]
    assert str(decoded[4]).startswith("is not an image")
    assert str(decoded[5]) == "is grey, expected colour (channels: 3)"


def test_whoever_has_seen_enough_leaves_no_process(tmp_path, processes):
    images = decode(write(tmp_path, 20), DECODER)
    next(images)
    images.close()
    assert all(process.poll() is not None for process in processes)


def test_a_process_that_dies_is_told(tmp_path, processes):
    images = decode(write(tmp_path, 20), DECODER)
    next(images)
    processes[1].send_signal(signal.SIGKILL)
    processes[1].wait()
    processes[1].stdout.read()
    with pytest.raises(UserError, match=r"the process that decodes .*001 ä\.png ended with code -?[0-9]+"):
        list(images)
    assert all(process.poll() is not None for process in processes)


def test_few_files_need_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.subprocess, "Popen", None)
    assert len(list(decode(write(tmp_path, 20), DECODER))) == 20
    assert list(decode([], DECODER)) == []


def test_a_folder_is_the_same_whoever_decodes_it(tmp_path, processes):
    files = write(tmp_path, 20)
    dataset = ImageFolder(
        root=str(tmp_path), size=8, channels=3, crop=0, validation=0.1, test=0.2, split_seed=0, duplicates="error"
    )
    for number, image in enumerate(dataset.images("train")):
        np.testing.assert_array_equal(image, dataset.decoder(dataset.splits["train"][number]))
    assert dataset.image_count("train") == number + 1 == 14
    assert dataset.image_label("train", 0) == f"{dataset.splits['train'][0]} (train)"
    files[2].write_bytes(b"")
    files[7].write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 of the 20 files in .* cannot be used"):
        [list(dataset.images(split)) for split in ("train", "validation", "test")]
