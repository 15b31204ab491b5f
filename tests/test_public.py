"""The public face: every name of ``recbench`` can be had, is documented, and costs no torch until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import recbench


@pytest.mark.parametrize("name", [name for name in recbench.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_named_in_the_docstring(name: str) -> None:
    assert getattr(recbench, name).__doc__
    assert recbench.__doc__ is not None
    assert name in recbench.__doc__
    assert name in dir(recbench)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = recbench.nonsense  # type: ignore[attr-defined]


def test_torch_is_imported_by_the_names_that_need_it_only() -> None:
    code = "import recbench, sys; recbench.Dataset, recbench.Executor; assert 'torch' not in sys.modules; recbench.Loss"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' in sys.modules"], check=True)


def test_former_addresses_of_what_plugins_import_still_work() -> None:
    from recbench.runner import run_task
    from recbench.store import write_atomically

    assert run_task is recbench.run_task
    assert write_atomically is recbench.write_atomically
