"""Parameters, and checks of them, that several data sets share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recbench import ImageShape, Parameter

SPLIT_SEED = Parameter("split_seed", int, 0, "decides which images are in which split", minimum=0)
DUPLICATES = Parameter(
    "duplicates",
    str,
    "error",
    "images that are in two splits: error names them; drop leaves out the copy that is not used for testing",
    choices=("error", "drop"),
)


def root(name: str) -> Parameter:
    """Return the parameter for the folder of raw files."""
    return Parameter("root", str, f"data/{name}", "the folder, relative to where recbench is started; ~ is your home")


def leaves_training(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    """Yield a problem if no images are left for training."""
    if params["validation"] + params["test"] >= 1:
        yield "needs validation + test below 1"
