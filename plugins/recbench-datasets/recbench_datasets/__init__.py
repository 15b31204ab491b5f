"""Data sets."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import DatasetEntry, Parameter, hookimpl


@hookimpl
def recbench_datasets() -> Iterator[DatasetEntry]:
    yield DatasetEntry(
        name="photos",
        factory="recbench_datasets.photos:Photos",
        summary="crops of the photographs that scikit-image ships; nothing to download",
        parameters=(
            Parameter("size", int, 64, "side of the crops in pixels", minimum=8, maximum=256),
            Parameter("train", int, 4096, "number of training crops", minimum=1, maximum=100_000),
            Parameter("validation", int, 256, "number of validation crops", minimum=0, maximum=100_000),
            Parameter("test", int, 256, "number of test crops", minimum=1, maximum=100_000),
            Parameter("smallest", float, 0.1, "smallest crop, as a part of the photograph's shorter side", above=0),
            Parameter(
                "largest", float, 0.4, "largest crop, as a part of the photograph's shorter side", above=0, maximum=1
            ),
        ),
        check=lambda shape, params: ["needs smallest <= largest"] if params["smallest"] > params["largest"] else [],
        licence="public domain or CC0, see skimage/data/README.txt",
        notes=(
            "Training, validation and test crops come from different photographs. Half of all crops are mirrored; "
            "training crops are also turned by a multiple of 90 degrees and have their colour channels shuffled."
        ),
    )
    yield DatasetEntry(
        name="image_folder",
        factory="recbench_datasets.image_folder:ImageFolder",
        summary="any folder of images, cropped to a square and resized",
        parameters=(
            Parameter("root", str, "images", "the folder; searched with all folders in it, hidden files left out"),
            Parameter("size", int, 64, "side of the images in pixels", minimum=8, maximum=1024),
            Parameter("channels", int, 3, "3 for colour, 1 for grey; the files must have as many", choices=(1, 3)),
            Parameter(
                "crop", int, 0, "side of the square cut from the centre, in pixels; 0: the shorter side", minimum=0
            ),
            Parameter("validation", float, 0.1, "part of the images for validation", minimum=0, maximum=0.9),
            Parameter("test", float, 0.2, "part of the images for testing", above=0, maximum=0.9),
            Parameter("split_seed", int, 0, "decides which images are in which split", minimum=0),
        ),
        check=lambda shape, params: (
            ["needs validation + test below 1"] if params["validation"] + params["test"] >= 1 else []
        ),
        notes=(
            "Splits are drawn from the sorted names by split_seed. Folders named train, validation and test directly "
            "under root are taken as the splits instead, if train and test are there."
        ),
    )
