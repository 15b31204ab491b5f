"""Stored models: what was trained comes back, and nothing else is taken for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import Record
from recbench.store.store import Store
from tests.conftest import TINY, Recbench

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(tmp_path: Path, finished_tiny: Path) -> tuple[Store, Record, Registry]:
    store = Store(tmp_path / "results" / "tiny")
    record = store.read(store.read_plan().jobs[0].id)
    assert record is not None
    return store, record, Registry(load_plugins([TINY]))


def test_a_stored_model_gives_the_stored_reconstructions(trained: tuple[Store, Record, Registry]) -> None:
    import torch

    from recbench.contracts.entries import ImageShape
    from recbench.job.code import changed_code
    from recbench.job.images import convert, to_8_bits
    from recbench.job.stored_model import load_architecture, load_model
    from recbench.job.training import reconstruct

    store, record, registry = trained
    with np.load(store.folder(record.job_id) / "images.npz") as pictures:
        target, decoded = torch.from_numpy(pictures["target"]), pictures["decoded"]
    shape = ImageShape(*target.shape[1:])
    model, metrics = load_model(store, record, registry, shape, torch.device("cpu"))
    assert not model.architecture.training
    assert metrics.keys() == record.scores.keys()
    with torch.no_grad():
        _, again, _ = reconstruct(model, target, "float32")
    assert (to_8_bits(convert(again.images, model.image_range, (0, 1))).numpy() == decoded).all()
    alone, image_range = load_architecture(store, record, registry, shape, torch.device("cpu"))
    assert image_range == model.image_range
    for mine, theirs in zip(alone.parameters(), model.architecture.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert changed_code(record.job, registry) == ()
    other = record.job.model_copy(update={"loss": record.job.loss.model_copy(update={"code": "0" * 16})})
    assert changed_code(other, registry) == ("loss l2",)


def test_no_other_file_is_taken_for_the_model(trained: tuple[Store, Record, Registry]) -> None:
    import torch

    from recbench.contracts.entries import ImageShape
    from recbench.job.stored_model import StoredModelError, load_architecture

    store, record, registry = trained
    file = store.folder(record.job_id) / "model.safetensors"
    whole = file.read_bytes()

    def complaint(record: Record = record, side: int = 16) -> str:
        with pytest.raises(StoredModelError) as caught:
            load_architecture(store, record, registry, ImageShape(3, side, side), torch.device("cpu"))
        return str(caught.value)

    for content in (whole[:-1], whole + b"x", whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(content)
        assert "SHA-256 differs" in complaint()
    file.write_bytes(whole)
    assert "do not fit the architecture as it is now" in complaint(side=8)
    file.unlink()
    assert "cannot be read" in complaint()
    failed = record.model_copy(update={"status": "failed", "files": {}})
    assert "left no model" in complaint(failed)


def test_a_report_of_real_jobs_interpolates_and_chooses_among_all_images(
    trained: tuple[Store, Record, Registry], recbench: Recbench
) -> None:
    """And goes on without the models, saying so."""
    store, _, _ = trained
    done = recbench("report", "tiny", "--plugin", TINY, "--strict")
    assert done.returncode == 0, done.stderr
    page = store.root / "report" / "index.html"
    assert done.stdout.strip().endswith("report/index.html")
    text = page.read_text(encoding="utf-8")
    assert "Selected from all 32 test images" in text
    assert "Latent interpolations" in text
    sheet = json.loads(text.split("data-sheet-data>")[1].partition("</script>")[0])
    assert max(int(head[1:]) for head in sheet["heads"]) >= 16

    done = recbench("figure", "interpolations", "tiny", "--plugin", TINY, "--output", "lines.pdf")
    assert done.returncode == 0, done.stderr

    for file in store.root.glob("jobs/*/model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    done = recbench("report", "tiny", "--plugin", TINY)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "Selected from the first 16 test images" in text
    assert "SHA-256 differs" in text


def test_the_report_imports_no_torch_unless_it_loads_a_model(
    trained: tuple[Store, Record, Registry], recbench: Recbench, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ImportError('torch was imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    done = recbench("report", "tiny", "--plugin", TINY, "--no-models", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    done = recbench("figure", "samples", "tiny", "--plugin", TINY, "--output", "x.svg", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
