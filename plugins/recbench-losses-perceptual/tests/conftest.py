"""Weights for the tests of the perceptual family."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recbench import Weights
from recbench.data.weights import VARIABLE, WeightsError, fetch, find
from recbench_losses_perceptual import pretrained


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of weights that RECBENCH_WEIGHTS names in addition to what it named before."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get(VARIABLE)
        patch.setenv(VARIABLE, os.pathsep.join([str(folder), *([before] if before else [])]))
        yield folder


@pytest.fixture(scope="session")
def shift_tolerant(fetched: Path) -> None:
    """The weights of ST-LPIPS, from the wheel of stlpips-pytorch if they are nowhere else."""
    for weights in pretrained.SHIFT_TOLERANT.values():
        try:
            find(weights) or fetch(weights, fetched)
        except WeightsError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def czolbe() -> None:
    for weights in pretrained.CZOLBE.values():
        if find(weights) is None:
            pytest.skip(f"{weights.file} is missing: recbench weights fetch {weights.file}")


@pytest.fixture(scope="session")
def package() -> Callable[[str], Any]:
    """The package lpips with its linear weights and a trunk of random weights; the same one for the same net."""
    made: dict[str, Any] = {}

    def get(net: str) -> Any:
        if net not in made:
            import lpips

            with (
                warnings.catch_warnings(),
                torch.random.fork_rng(devices=[]),
                pytest.MonkeyPatch.context() as patch,
            ):
                warnings.simplefilter("ignore")  # of torchvision, about the arguments that lpips gives it
                torch.manual_seed(0)
                # The classifiers, 500 MB that lpips throws away, need no random values.
                patch.setattr(nn.Linear, "reset_parameters", lambda self: None)
                patch.setattr(nn.init, "normal_", lambda tensor, *_, **__: tensor)
                made[net] = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        return made[net]

    return get


@pytest.fixture
def random_trunk(fetched: Path, package: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """``random_trunk("vgg")`` gives the package's model with random weights and puts these weights, by torchvision's
    names, in the place of torchvision's file."""

    def place(net: str) -> Any:
        model = package(net)
        state = OrderedDict(
            (f"features.{name.partition('.')[2]}", value.contiguous()) for name, value in model.net.state_dict().items()
        )
        file = fetched / f"random_{net}.pth"
        if not file.exists():
            torch.save(state, file)
        facts = Weights(
            file=file.name,
            address=f"https://example.org/{file.name}",
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            size=file.stat().st_size,
            licence="none",
        )
        monkeypatch.setitem(pretrained.IMAGENET, net, facts)
        return model

    return place
