"""Data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import DatasetEntry, ImageShape, Parameter, hookimpl
from recbench_datasets._face_entries import face_entries
from recbench_datasets._parameters import DUPLICATES, SPLIT_SEED, leaves_training, root
from recbench_datasets._published_entries import published_entries


def _check_hcp(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from leaves_training(shape, params)
    if params["first"] >= params["last"]:
        yield "needs first < last"
    if params["lower"] >= params["upper"]:
        yield "needs lower < upper"


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
            Parameter("shuffle_colours", bool, True, "whether the colour channels of training crops are shuffled"),
        ),
        check=lambda shape, params: ["needs smallest <= largest"] if params["smallest"] > params["largest"] else [],
        licence="public domain or CC0, see skimage/data/README.txt",
        notes=(
            "Training, validation and test crops come from different photographs. Half of all crops are mirrored; "
            "training crops are also turned by a multiple of 90 degrees, and their colour channels are shuffled unless "
            "shuffle_colours is off."
        ),
    )
    yield DatasetEntry(
        name="shapes",
        factory="recbench_datasets.shapes:Shapes",
        summary="drawn discs, rectangles and lines: exactly known images of any size; nothing to download",
        parameters=(
            Parameter("size", int, 64, "side of the images in pixels", minimum=8, maximum=1024),
            Parameter("channels", int, 3, "3 for colour, 1 for grey", choices=(1, 3)),
            Parameter("train", int, 4096, "number of training images", minimum=1, maximum=1_000_000),
            Parameter("validation", int, 256, "number of validation images", minimum=0, maximum=1_000_000),
            Parameter("test", int, 256, "number of test images", minimum=1, maximum=1_000_000),
            Parameter("seed", int, 0, "decides which scenes are drawn", minimum=0),
        ),
        licence="MIT, as recbench",
        notes="Scenes are defined on the unit square: an image shows the same scene at every size.",
    )
    yield DatasetEntry(
        name="image_folder",
        factory="recbench_datasets.image_folder:ImageFolder",
        locations=("root",),
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
            SPLIT_SEED,
            DUPLICATES,
        ),
        check=leaves_training,
        licence="that of your images",
        obtain="The images are your own: -p root=FOLDER names the folder that holds them.",
        notes=(
            "Splits are drawn from the sorted names by split_seed. Folders named train, validation and test directly "
            "under root are taken as the splits instead, if train and test are there. Photographs are turned upright "
            "as their EXIF data say. Files of identical content in two splits count as duplicates."
        ),
    )
    yield DatasetEntry(
        name="arrays",
        factory="recbench_datasets.arrays:Arrays",
        locations=("root",),
        summary="uint8 arrays of images in .npy or .npz files",
        parameters=(
            Parameter("root", str, "data/arrays", "a folder with train.npy and test.npy, or an .npz or .npy file"),
            Parameter(
                "layout",
                str,
                "auto",
                "order of the axes: images, height, width, channels; auto finds the axis with 1 or 3 channels",
                choices=("auto", "NHWC", "NCHW", "NHW"),
            ),
            Parameter(
                "validation",
                float,
                0.1,
                "part of the training images for validation, where no array of that name is there",
                minimum=0,
                maximum=0.9,
            ),
            Parameter(
                "test",
                float,
                0.2,
                "part of the training images for testing, where no array of that name is there",
                above=0,
                maximum=0.9,
            ),
            SPLIT_SEED,
            DUPLICATES,
        ),
        check=leaves_training,
        licence="that of your images",
        obtain="The arrays are your own: -p root=FOLDER names the folder or file that holds them.",
        notes=(
            "Arrays hold uint8 images, 0 to 255, as (N, H, W, C), (N, C, H, W) or (N, H, W). A folder holds train.npy, "
            "and test.npy and validation.npy or not; an .npz file holds arrays of the same names, or just one array, "
            "which is divided. Files are memory-mapped; arrays of Python objects are never opened."
        ),
    )
    yield from published_entries()
    yield from face_entries()
    yield DatasetEntry(
        name="hcp",
        factory="recbench_datasets.hcp:Hcp",
        locations=("root",),
        summary="random patches of slices of brain volumes in NIfTI files, grey",
        parameters=(
            root("hcp"),
            Parameter("pattern", str, "*.nii*", "what the files of the volumes are called, one for each subject"),
            Parameter("size", int, 64, "side of the patches in pixels", minimum=8, maximum=1024),
            Parameter(
                "volumes", int, 400, "use the first so many volumes by name, or as many as there are; 0: all", minimum=0
            ),
            Parameter("patches", int, 64, "number of patches from each volume", minimum=1),
            Parameter("plane", str, "coronal", "direction of the slices", choices=("axial", "coronal", "sagittal")),
            Parameter("first", float, 0.0, "where the slices begin, as a part of the volume", minimum=0, maximum=1),
            Parameter("last", float, 1.0, "where the slices end, as a part of the volume", minimum=0, maximum=1),
            Parameter("step", int, 1, "take every so many-th slice", minimum=1),
            Parameter(
                "lower", float, 0.0, "percentile of the voxels above zero that becomes black", minimum=0, maximum=100
            ),
            Parameter(
                "upper", float, 99.5, "percentile of the voxels above zero that becomes white", minimum=0, maximum=100
            ),
            Parameter(
                "foreground",
                float,
                0.1,
                "part of a patch's pixels that must be brighter than a tenth of white, or it is drawn anew",
                minimum=0,
                maximum=1,
            ),
            Parameter("validation", float, 0.05, "part of the volumes for validation", minimum=0, maximum=0.9),
            Parameter("test", float, 0.2, "part of the volumes for testing", above=0, maximum=0.9),
            Parameter("gap", int, 8, "slices left out between the splits of a lone volume", minimum=0),
            Parameter(
                "seed", int, 0, "decides which volumes are in which split, and which patches are drawn", minimum=0
            ),
        ),
        check=_check_hcp,
        obtain=(
            "Register at the Human Connectome Project (humanconnectome.org/study/hcp-young-adult), accept its terms, "
            "get the packages 'Structural Preprocessed', and put them into root. Any NIfTI volumes will do, one for "
            "each subject."
        ),
        licence="WU-Minn HCP Open Access Data Use Terms",
        citation=(
            "Van Essen et al. (2013), The WU-Minn Human Connectome Project: An Overview, NeuroImage 80; "
            "preprocessing: Volokitin et al. (2020), Modelling the Distribution of 3D Brain MRI using a 2D Slice VAE, "
            "MICCAI"
        ),
        notes=(
            "Needs nibabel: pip install 'recbench[mri]'. root holds one volume for each subject, in it or in a folder "
            "for the subject; for the project's own folders, set pattern: T1w_acpc_dc_restore_brain.nii.gz, the volume "
            "that Volokitin et al. used: without skull, of 0.7 mm, from which they took coronal slices, divided by the "
            "volume's maximum (upper: 100). Subjects are divided between the splits; a lone volume is divided along "
            "its slices. Bredell et al. used 400 volumes; how many patches from each, they do not say."
        ),
    )
