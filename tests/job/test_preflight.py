"""Preflight: plugins that are wrong, each in another way, are named before anything is trained; right ones pass.

The plugins are written here; the command is run with some of them, and the rest are tried in this process.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import load_suite
from recbench.sweep import preflight
from tests.conftest import TINY, Recbench

HEAD = """
import math, random
import numpy as np
import torch
from torch import nn
from recbench import *
from recbench.contracts.loss import Loss, Auxiliary
from recbench.contracts.architecture import Architecture, Deterministic, Gaussian
from recbench.contracts.metric import ImageMetric, SetMetric
"""
LOSS = (
    HEAD
    + """
class Bad(Loss):
    def __init__(self, setting):
        super().__init__()
        {init}
    def forward(self, decoded, target, context):
        {forward}
{more}
@hookimpl
def recbench_losses():
    yield LossEntry(name="bad", factory=Bad, summary="bad"{entry})
"""
)
ARCHITECTURE = (
    HEAD
    + """
class Bad(Architecture):
    def __init__(self, shape):
        super().__init__()
        self.latent_size, self.shape = 4, (shape.channels, shape.height, shape.width)
        self.encoder, self.decoder = nn.Linear(math.prod(self.shape), 8), nn.Linear(4, math.prod(self.shape))
        {init}
    def encode(self, images):
        {encode}
    def decode(self, z):
        {decode}
@hookimpl
def recbench_architectures():
    yield ArchitectureEntry(name="bad", factory=Bad, summary="bad")
"""
)
METRIC = (
    HEAD
    + """
class Bad({kind}):
    def __init__(self, shape):
        super().__init__()
{body}
@hookimpl
def recbench_metrics():
    yield MetricEntry(name="bad", factory=Bad, summary="bad", direction="lower"{entry})
"""
)
SQUARES = "(decoded - target).square().sum((1, 2, 3))"
ENCODE = "return Gaussian(*self.encoder(images.flatten(1)).chunk(2, 1))"
DECODE = "return self.decoder(z).tanh().view(-1, *self.shape)"


def loss(forward: str = f"return {SQUARES}", init: str = "pass", more: str = "", entry: str = "") -> str:
    lines = "\n        ".join(forward.split("; "))
    return LOSS.format(forward=lines, init=init, more=textwrap.indent(textwrap.dedent(more), "    "), entry=entry)


def network(encode: str = ENCODE, decode: str = DECODE, init: str = "pass") -> str:
    encode, decode = ("\n        ".join(code.split("; ")) for code in (encode, decode))
    return ARCHITECTURE.format(encode=encode, decode=decode, init=init)


def metric(forward: str, entry: str = "") -> str:
    lines = "\n        ".join(forward.split("; "))
    return METRIC.format(
        kind="ImageMetric", body=f"    def forward(self, decoded, target):\n        {lines}", entry=entry
    )


def set_metric(update: str, compute: str, entry: str = "") -> str:
    body = f"    def update(self, decoded, target):\n        {update}\n    def compute(self):\n        {compute}"
    return METRIC.format(kind="SetMetric", body=body, entry=entry)


# ruff: noqa: E501 - a line for each wrong plugin
# fmt: off
LOSSES = {
    "a scalar": (loss(f"return {SQUARES}.mean()"), r"float32 tensor \(4,\).*returned a float32 tensor \(\)"),
    "a column": (loss(f"return {SQUARES}[:, None]"), r"\(4, 1\)"),
    "a map": (loss("return (decoded - target).square()"), r"\(4, 3, 16, 16\)"),
    "detached": (loss(f"return {SQUARES}.detach()"), "without a gradient"),
    "half": (loss(f"return {SQUARES}.half()"), "a float16 tensor"),
    "double": (loss(f"return {SQUARES}.double()"), "a float64 tensor"),
    "numpy": (loss(f"return {SQUARES}.detach().numpy()"), "a NumPy array"),
    "nothing": (loss("pass"), "it returned None"),
    "elsewhere": (
        loss(f"return {SQUARES}.detach() * self.k", "self.k = nn.Parameter(torch.ones(()))"),
        "no gradient reaches",
    ),
    "NaN": (loss(f"return {SQUARES} * math.nan"), "finite values for ordinary images; it gave nan"),
    "writes into decoded": (loss(f"decoded.clamp_(0, 1); return {SQUARES}"), "writes into decoded"),
    "writes into target": (loss(f"v = {SQUARES}; target.zero_(); return v"), "writes into target"),
    "writes around torch": (loss(f"target.numpy()[:] = 0; return {SQUARES}"), "writes into target"),
    "couples": (loss(f"return {SQUARES} - {SQUARES}.mean()"), "couples_batch=True"),
    "reseeds torch": (loss(f"torch.manual_seed(3); return {SQUARES}"), "seeds torch's global generator"),
    "reseeds numpy": (loss(f"np.random.seed(3); return {SQUARES}"), "seeds NumPy's global generator"),
    "reseeds python": (loss(f"random.seed(3); return {SQUARES}"), "seeds Python's global generator"),
    "counts its calls": (loss(f"self.n += 1; return {SQUARES} * self.n", "self.n = 0"), "two calls differ"),
    "switches gradients off": (loss(f"torch.set_grad_enabled(False); return {SQUARES}"), "set_grad_enabled"),
    "changes the dtype": (loss(init="torch.set_default_dtype(torch.float64)"), "default dtype"),
    "changes threads": (loss(f"torch.set_num_threads(3); return {SQUARES}"), "number of threads"),
    "exits": (loss("raise SystemExit(0)"), "forward raised SystemExit"),
    "raises": (loss("raise KeyError('x')"), "forward raised KeyError"),
    "trace writes": (
        loss(more="def trace(self, decoded, target, context):\n    target.zero_()\n    return {}"),
        "trace must leave its inputs .* writes into target",
    ),
    "trace of a wrong shape": (
        loss(more="def trace(self, decoded, target, context):\n    return {'k': decoded.mean()}"),
        r"return tensors \(4, …\) by name; 'k' is a float32 tensor \(\)",
    ),
    "an auxiliary over a generator": (
        loss(
            init="self.p = nn.Linear(1, 1)",
            more="def auxiliary(self):\n    return Auxiliary(self.p.parameters(), 0.1, lambda d, t, c: d.mean((1, 2, 3)))",
        ),
        r"must be a tuple of nn.Parameter.*not generator",
    ),
    "an auxiliary's scalar": (
        loss(
            init="self.p = nn.Parameter(torch.ones(()))",
            more="def auxiliary(self):\n    return Auxiliary((self.p,), 0.1, lambda d, t, c: (d * self.p).mean())",
        ),
        r"the auxiliary objective must return a float32 tensor \(4,\)",
    ),
    "an auxiliary over foreign parameters": (
        loss(
            more="def auxiliary(self):\n    p = nn.Parameter(torch.ones(()))\n"
            "    return Auxiliary((p,), 0.1, lambda d, t, c: (d * p).mean((1, 2, 3)))",
        ),
        "not among the loss's parameters",
    ),
    "an expanded parameter": (loss(init="self.p = nn.Parameter(torch.ones(1).expand(3))"), "p is expanded"),
    "no super().__init__": (loss(init="del self._parameters"), "super"),
    "a misspelt family": (loss(entry=", family='percpetual'"), "is 'perceptual' meant"),
    "a plugin's misspelt name": (loss(entry=", family='strutural'"), "is 'structural' meant"),
    "fails in evaluation": (loss(f"return {SQUARES} if context.training else None"), "it returned None"),
}
ARCHITECTURES = {
    "a small image": (
        network(decode=f"{DECODE}[..., ::2]"),
        r"the target's shape \(4, 3, 16, 16\); it returned .*\(4, 3, 16, 8\)",
    ),
    "a row too few": (network(decode=f"{DECODE}[:1]"), r"\(1, 3, 16, 16\)"),
    "a plain tensor": (network("return self.encoder(images.flatten(1))"), "return a Posterior; it returned a float32"),
    "a map of latents": (
        network(
            "m, v = self.encoder(images.flatten(1)).chunk(2, 1); return Gaussian(m.view(-1, 1, 2, 2), v.view(-1, 1, 2, 2))"
        ),
        "spatial latents sets latent_shape",
    ),
    "another latent size": (network(init="self.latent_size = 5"), "latent_size = 5"),
    "no latent size": (network(init="del self.latent_shape"), "set latent_size"),
    "a latent shape that is a list": (network(init="self.latent_shape = [1, 2, 2]"), r"a tuple of them; it is \[1, 2, 2\]"),
    "another latent shape": (network(init="self.latent_shape = (1, 2, 2)"), r"latent_shape = \(1, 2, 2\) for each image"),
    "an entry without the prior that it has": (network(init="self.has_prior = False"), "its entry must say has_prior=False"),
    "a penalty for all": (
        network(
            "p = Gaussian(*self.encoder(images.flatten(1)).chunk(2, 1)); object.__setattr__(p, 'penalty', lambda: torch.zeros(())); return p"
        ),
        r"penalty\(\) must return a tensor \(4,\)",
    ),
    "extras of no image": (
        network(decode=f"from recbench import Decoded; images = {DECODE.removeprefix('return ')}; return Decoded(images, {{'v': torch.zeros(3)}})"),
        r"extras that are float tensors \(4, …\) by name; 'v' is a float32 tensor \(3,\)",
    ),
    "one divergence for all": (
        network(
            "p = Gaussian(*self.encoder(images.flatten(1)).chunk(2, 1)); object.__setattr__(p, 'kl', lambda: torch.zeros(())); return p"
        ),
        r"kl\(\) must return a tensor \(4,\)",
    ),
    "writes into the images": (network(f"images.mul_(0.5); {ENCODE}"), "writes into images"),
    "writes into z": (network(decode=f"z.data.clamp_(-1, 1); {DECODE}"), "writes into z"),
    "mixes images in evaluation": (
        network("images = images - images.mean(0); " + ENCODE),
        "in evaluation must give each image",
    ),
    "draws from a state of its own": (
        network(init="self.n = 0", encode=f"self.n += 1; images = images + self.n; {ENCODE}"),
        "two calls differ",
    ),
    "NaN": (network(decode=f"{DECODE} * math.nan"), "returned NaN"),
    "detached images": (network(decode=f"{DECODE}.detach()"), "no gradient"),
}
METRICS = {
    "a scalar": (metric("return (decoded - target).square().mean()"), r"float tensor \(4,\).*tensor \(\)"),
    "a number": (metric("return 3.0"), "it returned a float"),
    "whole numbers": (metric("return torch.ones(len(decoded), dtype=torch.long)"), "an int64 tensor"),
    "NaN": (metric("return decoded.mean((1, 2, 3)) * math.nan"), "it gave NaN"),
    "out of range": (metric("return 2 + decoded.mean((1, 2, 3))", ", score_range=(0, 1)"), "score_range, 0 to 1; it gave 2"),
    "writes": (metric("decoded.sub_(target); return decoded.square().mean((1, 2, 3))"), "writes into decoded"),
    "couples": (metric("return (decoded - decoded.mean(0)).square().mean((1, 2, 3))"), "a value of its own"),
    "claims samples": (metric("return decoded.mean((1, 2, 3))", ", samples=True"), "samples=True must be of a SetMetric"),
    "no score": (set_metric("pass", "return None"), r"compute\(\) must return a float; it returned None"),
    "a tensor": (set_metric("pass", "return torch.tensor(1.0)"), "it returned a float32 tensor"),
    "a set's NaN": (set_metric("pass", "return math.nan"), "NaN"),
    "a set's score out of range": (set_metric("pass", "return 7.0", ", score_range=(0, 1)"), "score_range, 0 to 1"),
    "a set that writes": (set_metric("target.zero_()", "return 1.0"), "update must leave its inputs"),
    "raises in compute": (set_metric("pass", "return 1 / 0"), "compute raised ZeroDivisionError"),
}
RIGHT = {
    "l2": loss(),
    "draws": loss(f"return {SQUARES} * (1 + 0.01 * torch.rand(len(decoded)))"),
    "draws elsewhere": loss(f"return {SQUARES} * (1 + 0.01 * random.random() * np.random.rand())"),
    "a fork of its own": loss(
        f"with torch.random.fork_rng(devices=[]): torch.manual_seed(0); return {SQUARES}".replace(
            "): t", "):\n            t"
        )
    ),
    "declares coupling": loss(f"return {SQUARES} - {SQUARES}.mean()", entry=", couples_batch=True"),
    "an expanded buffer": loss(
        f"return {SQUARES} * self.b.sum()", "self.register_buffer('b', torch.ones(1).expand(3))"
    ),
    "a family of its own": loss(entry=", family='adversarial'"),
    "prints": loss(f"print('hello'); return {SQUARES}"),
    "a network": network(),
    "an autoencoder": network("return Deterministic(self.encoder(images.flatten(1))[:, :4])"),
    "diverges soon": network("m, v = self.encoder(images.flatten(1)).chunk(2, 1); return Gaussian(m, v + 200)"),
    "a metric": metric("return (decoded - target).abs().mean((1, 2, 3))", ", score_range=(0, 1)"),
    "a metric of the set": set_metric("self.n = len(decoded)", "return np.float32(self.n)"),
}
# fmt: on


def suite(folder: Path, code: str, **lists: str) -> tuple[Path, Path]:
    """Write a plugin and a suite that uses what it offers; return the suite and the plugin."""
    plugin = folder / "bad.py"
    plugin.write_text(code, encoding="utf-8")
    chosen = {"architectures": "linear", "losses": "l2", "metrics": "psnr"}
    kind = "losses" if "recbench_losses" in code else "metrics" if "recbench_metrics" in code else "architectures"
    chosen[kind] = "bad" if kind != "metrics" else "bad, psnr"
    lines = [f"{key}: [{value}]" for key, value in chosen.items()]
    file = folder / "s.yaml"
    training = "training: {epochs: 1, batch_size: 16, learning_rate: 1e-2, kl_weight: 0.001}"
    file.write_text(
        "\n".join(["name: s", "datasets: [blobs]", "seeds: [0]", *lines, training]) + "\n", encoding="utf-8"
    )
    return file, plugin


def tried(folder: Path, code: str) -> str:
    """Return what preflight says about a plugin, with its process replaced by a call; empty if nothing."""
    file, plugin = suite(folder, code)
    registry = Registry(load_plugins((str(TINY), str(plugin))))
    plan = load_suite(file, registry).plan
    try:
        preflight.check(plan, registry, plugin_files=(str(TINY), str(plugin)), device="cpu")
    except preflight.PreflightError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let preflight's process be this one, which has imported torch already."""
    if "recbench" in request.fixturenames:
        return
    import torch

    from recbench.job import preflight as job

    def process(asked: dict[str, object], flights: dict[int, object]) -> list[tuple[int, str, str]]:
        said: list[tuple[int, str, str]] = []
        plan = job.FlightPlan.model_validate({**asked, "flights": flights})
        registry = Registry(load_plugins(plan.plugin_files))
        before = torch.get_default_dtype(), torch.get_num_threads()
        for number, flight in plan.flights.items():
            job.fly(flight, registry, torch.device("cpu"), lambda kind, text, n=number: said.append((n, kind, text)))
            said.append((number, "end", ""))
        assert (torch.get_default_dtype(), torch.get_num_threads()) == before
        assert torch.is_grad_enabled()
        return said

    monkeypatch.setattr(preflight, "_process", process)


WRONG = {
    f"{kind}: {name}": case
    for kind, cases in (("loss", LOSSES), ("architecture", ARCHITECTURES), ("metric", METRICS))
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_plugin_is_named(name: str, tmp_path: Path) -> None:
    code, wanted = WRONG[name]
    said = tried(tmp_path, code)
    assert re.search(wanted, said), said
    assert len(said.splitlines()) == 1
    assert "bad.py" in said


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_plugin_passes(name: str, tmp_path: Path) -> None:
    assert tried(tmp_path, RIGHT[name]) == ""


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (loss("import os; os._exit(0)"), "forward ended the process (exit code 0)"),
        (loss("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), "forward ended the process (SIGSEGV)"),
        (loss("import time; time.sleep(1000)"), "forward hung the process"),
        (loss(f"return {SQUARES}.mean()"), "must return a float32 tensor"),
    ],
)
def test_nothing_is_trained_with_a_wrong_plugin(recbench: Recbench, tmp_path: Path, code: str, wanted: str) -> None:
    extra = {"RECBENCH_PREFLIGHT": "1", "RECBENCH_PLUGIN_SECONDS": "6" if "sleep" in code else "60"}
    file, plugin = suite(tmp_path, code)
    file.write_text(file.read_text().replace("[bad]", "[l2, {name: bad, kl_weight: 0.1}, l1]"), encoding="utf-8")
    commands = [("run", file, "--results", tmp_path / "r"), ("validate", file, "--preflight")]
    for command in commands if "_exit" in code else commands[:1]:
        done = recbench(*map(str, command), "--plugin", str(TINY), "--plugin", str(plugin), **extra)
        assert done.returncode == 2, done.stderr
        assert wanted in done.stderr
        assert "bad: " in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("r/s/jobs/*"))


@pytest.mark.slow
def test_a_process_that_would_be_slow_to_end_is_no_fault_of_a_plugin(recbench: Recbench, tmp_path: Path) -> None:
    """As on a busy machine, where the end of an interpreter that has imported torch takes long."""
    file, plugin = suite(tmp_path, loss(init="import atexit, time; atexit.register(time.sleep, 1000)"))
    arguments = ("validate", str(file), "--preflight", "--plugin", str(TINY), "--plugin", str(plugin))
    done = recbench(*arguments, RECBENCH_PREFLIGHT="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_method_that_has_run_before_is_not_tried_again(recbench: Recbench, tmp_path: Path) -> None:
    file, plugin = suite(tmp_path, loss(f"import os; assert 'LATER' not in os.environ; return {SQUARES}"))
    arguments = ("run", str(file), "--plugin", str(TINY), "--plugin", str(plugin), "--results", str(tmp_path / "r"))
    recbench(*arguments)
    extra = {"RECBENCH_PREFLIGHT": "1", "LATER": "1"}
    assert "nothing to run" in recbench(*arguments, **extra).stderr
    failed = recbench(*arguments, "--set", "seeds=[0, 1]", **extra)
    assert failed.returncode == 1, failed.stderr  # the second seed fails in training, not in preflight
    refused = recbench(*arguments, "--set", "training.epochs=2", **extra)
    assert (refused.returncode, "AssertionError" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_preflight_leaves_no_files(recbench: Recbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECBENCH_PREFLIGHT", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    file, plugin = suite(tmp_path, loss())
    recbench(
        "validate",
        str(file),
        "--preflight",
        "--plugin",
        str(TINY),
        "--plugin",
        str(plugin),
        TMPDIR=str(tmp_path / "tmp"),
    )
    left = [path.name for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("torchinductor_")]  # torch's
    assert not left
