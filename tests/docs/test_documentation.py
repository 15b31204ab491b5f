"""A promise in the docs is a test: what they list is what there is, and their examples run."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import types
import typing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from recbench.cli import COMMANDS, cli
from recbench.contracts.entries import Entry
from recbench.plan.model import Training
from recbench.plugin import spec
from recbench.plugin.manager import KINDS, load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import Record
from recbench.suite.suite import load_suite
from tests.conftest import ROOT, TINY, Recbench
from tests.readme import Block, blocks, section, table

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "results" / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
HOOKS = [name for name in vars(spec) if name.startswith("recbench_")]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(load_plugins())


# Links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"https?:|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        leads_to = (page.parent / file).resolve() if file else page
        assert leads_to.exists(), target
        if anchor:
            anchors = [_anchor(heading) for heading in re.findall(r"^#+ (.*)$", text(leads_to), re.MULTILINE)]
            assert anchor in anchors, target


def _anchor(heading: str) -> str:
    """How Markdown pages name a heading in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# docs/plugins.md


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_heading_that_says_what_it_gets(hook: str) -> None:
    described = section(DOCS / "plugins.md", f"### `{hook}`")
    arguments = getattr(spec, hook).__code__.co_varnames
    assert f"`{hook}({', '.join(arguments)})`" in described


def test_no_heading_names_a_hook_that_is_not_there() -> None:
    assert re.findall(r"^### `(recbench_\w+)`", text(DOCS / "plugins.md"), re.MULTILINE) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hooks_docstring_has_an_example_and_a_version(hook: str) -> None:
    assert "Example::" in getattr(spec, hook).__doc__
    assert ".. versionadded::" in getattr(spec, hook).__doc__


def _facts(kind: type[Entry], but: set[str]) -> dict[str, str]:
    """Fields of an entry and their defaults, as the tables write them."""
    facts = {}
    for field in fields(kind):
        if field.name not in but:
            value = field.default
            facts[field.name] = (
                "required" if value is MISSING else f'"{value}"' if isinstance(value, str) else str(value)
            )
    return facts


def test_the_fields_of_entries_are_listed_with_their_defaults() -> None:
    page = DOCS / "plugins.md"
    base = {field.name for field in fields(Entry)}
    listed = table(section(page, "## Entries"))
    assert listed.keys() == base
    assert {name for name, row in listed.items() if row[1] == "required"} == {"name", "factory", "summary"}
    for kind in KINDS.values():
        rows = table(section(page, f"### `{kind.__name__}`"))
        assert {name: row[1].strip("`") for name, row in rows.items()} == _facts(kind, but=base)


def test_the_fields_of_the_context_are_listed() -> None:
    from recbench.contracts.loss import Context

    listed = table(section(DOCS / "plugins.md", "### Loss"))
    assert list(listed) == [field.name for field in fields(Context)]


def test_the_abstract_methods_of_contracts_are_named() -> None:
    from recbench.contracts import architecture, dataset, executor, loss, metric

    described = text(DOCS / "plugins.md")
    for contract in (
        architecture.Architecture,
        architecture.Posterior,
        dataset.Dataset,
        executor.Executor,
        loss.Loss,
        loss.Likelihood,
        metric.ImageMetric,
        metric.SetMetric,
    ):
        assert f"`{contract.__name__}`" in described or f".{contract.__name__}`" in described, contract
        for method in contract.__abstractmethods__:
            assert re.search(rf"`{method}[`(]", described), f"{contract.__name__}.{method}"


FILES = {block.file: block for block in blocks(DOCS / "plugins.md") if block.file}


@pytest.mark.slow
def test_the_plugins_in_the_docs_run(tmp_path: Path, tiny: Path, recbench: Recbench) -> None:
    assert sorted(FILES) == ["adversarial.py", "student_t.py", "test_contract.py"]
    options: list[object] = ["--plugin", TINY]
    for name, block in FILES.items():
        (tmp_path / str(name)).write_text(block.text)
        if name != "test_contract.py":
            options += ["--plugin", name]
    losses = "[{name: student_t, kl_weight: 0.001}, {name: adversarial, kl_weight: 0.001}]"
    done = recbench("run", tiny, *options, "--set", f"losses={losses}", "--set", "seeds=[0]", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    leaderboard = json.loads((tmp_path / "results" / "tiny" / "leaderboard.json").read_text())
    rows = {row["loss"]: row for row in leaderboard["boards"][0]["rows"]}
    assert {rows["student_t"]["place"], rows["adversarial"]["place"]} == {1, 2}
    records = [
        Record.model_validate_json(file.read_bytes()) for file in tmp_path.glob("results/tiny/jobs/*/record.json")
    ]
    trained = {record.job.loss.name: record.trained for record in records}
    assert trained["student_t"] is not None
    assert trained["student_t"].loss_parameters == 1
    assert trained["adversarial"] is not None
    assert trained["adversarial"].final["auxiliary"] > 0


@pytest.mark.slow
def test_the_contract_test_in_the_docs_passes(tmp_path: Path) -> None:
    for name in ("student_t.py", "test_contract.py"):
        (tmp_path / name).write_text(FILES[name].text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_the_loss_in_the_docs_is_a_likelihood() -> None:
    import torch
    from scipy.stats import t

    from recbench.contracts.entries import ImageShape
    from recbench.contracts.loss import Context, Setting

    names: dict[str, Any] = {}
    exec(compile(FILES["student_t.py"].text, "student_t.py", "exec"), names)
    loss = names["StudentTLoss"](Setting(ImageShape(1, 4, 4), 2), freedom=4.0)
    decoded, target = torch.rand(2, 3, 1, 4, 4, dtype=torch.float64)
    expected = t.logpdf(target.numpy(), df=4.0, loc=decoded.numpy(), scale=np.exp(-1.0)).sum((1, 2, 3))
    np.testing.assert_allclose(loss.log_prob(decoded, target, Context()).detach().numpy(), expected, rtol=1e-6)


# docs/suites.md


def _yaml_suites() -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == "yaml" and "datasets:" in block.text]


def test_the_suites_in_the_docs_are_valid(tmp_path: Path, registry: Registry) -> None:
    # The template's suite names the reader's own loss; tests/plugin/test_template.py checks it.
    whole = [block for block in _yaml_suites() if "losses:" in block.text and block.file != "fair.yaml"]
    assert whole
    for block in whole:
        file = tmp_path / "suite.yaml"
        file.write_text(block.text)
        load_suite(file, registry)


def test_the_suite_in_the_docs_spans_what_they_say(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(next(block.text for block in blocks(DOCS / "suites.md") if block.language == "yaml"))
    plan = load_suite(file, registry).plan
    assert len(plan.methods) == 6
    assert len(plan.jobs) == 12
    assert "charbonnier epsilon=0.01 kl_weight=0.05" in [method.label for method in plan.methods]
    assert "`charbonnier epsilon=0.01 kl_weight=0.05`" in text(DOCS / "suites.md")


def test_parts_of_suites_in_the_docs_name_what_there_is(registry: Registry) -> None:
    """Examples that are no whole suite: every name and parameter in them exists, and every value can be taken."""
    checked = 0
    for page in PAGES:
        for block in blocks(page):
            data = yaml.safe_load(block.text) if block.language == "yaml" else None
            if not isinstance(data, dict):
                continue
            for kind in KINDS:
                for item in data.get(kind, []):
                    choice = {"name": item} if isinstance(item, str) else item
                    if "sum" in choice:
                        names = [part if isinstance(part, str) else part["name"] for part in choice["sum"]]
                        choice = {"name": "sum:" + "+".join(names)}
                    if choice["name"] in ("fair", "student_t"):  # the reader's own
                        continue
                    entry = registry.get(kind, choice["name"]).entry
                    for key, value in choice.get("params", {}).items():
                        parameter = entry.parameter(key)
                        assert parameter is not None, f"{page}: {choice['name']} has no parameter {key}"
                        for one in value["grid"] if isinstance(value, dict) else [value]:
                            parameter.coerce(one)
                    checked += 1
    assert checked > 10


def test_the_keys_of_suites_are_listed(tmp_path: Path, registry: Registry) -> None:
    """The resolved suite spells out every key; nothing else may be listed."""
    page = DOCS / "suites.md"
    data = yaml.safe_load(next(block.text for block in blocks(page) if block.language == "yaml"))
    data["architectures"] = ["vae_bredell"]
    data["losses"] = [{"name": "l2", "architectures": ["vae_bredell"]}]
    data["published"] = [
        {"source": "x", "dataset": "faces", "architecture": "vae_bredell", "scores": {"l2": {"psnr": 1}}}
    ]
    data["datasets"] = [{"name": "photos", "label": "faces"}]
    data["executors"] = {"slurm": {"gpus": 1}}
    data["baselines"] = ["pca"]
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(data))
    resolved = yaml.safe_load(load_suite(file, registry).resolved)
    data["tuning"] = {"budget": 2, "kl_weight": {"low": 0.1, "high": 1}, "select": {"metric": "psnr"}}
    data["training"].pop("kl_weight")
    data["losses"] = [{"name": "l2", "scale": 1}]
    data["published"] = []
    file.write_text(yaml.safe_dump(data))
    tuned = yaml.safe_load(load_suite(file, registry).resolved)
    assert table(section(page, "### `tuning`")).keys() == tuned["tuning"].keys()
    resolved["tuning"] = tuned["tuning"]
    resolved["losses"] += tuned["losses"]
    assert table(section(page, "### `published`")).keys() == resolved["published"][0].keys()
    assert table(section(page, "## Keys")).keys() == resolved.keys()
    assert table(section(page, "### Choices")).keys() == {key for loss in resolved["losses"] for key in loss}
    assert table(section(page, "### `training`")).keys() == {*resolved["training"], "kl_weight"}
    assert table(section(page, "### `ranking`")).keys() == resolved["ranking"].keys()


def test_the_defaults_of_training_are_those_of_the_docs() -> None:
    rows = table(section(DOCS / "suites.md", "### `training`"))
    for name, field in Training.model_fields.items():
        kind, default, meaning = rows[name]
        assert yaml.safe_load(default.strip("`")) == ("required" if field.is_required() else field.default), name
        assert meaning == field.description
        names = {int: "int", float: "float", bool: "bool"}
        *others, last = [f"`{choice}`" for choice in typing.get_args(field.annotation)] or [""]
        choices = f"{', '.join(others)} or {last}" if others else last
        assert kind == names.get(typing.cast(Any, field.annotation), choices), name


def test_the_default_kl_weight_is_that_of_the_docs(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(
        "datasets: [photos]\narchitectures: [vae_bredell]\nlosses: [l2, {name: l1, kl_weight: 3}]\n"
        "metrics: [psnr]\nseeds: [0]\ntraining: {epochs: 1}\n"
    )
    documented = float(table(section(DOCS / "suites.md", "### `training`"))["kl_weight"][1].strip("`"))
    assert [method.kl_weight for method in load_suite(file, registry).plan.methods] == [documented, 3]
    overridden = load_suite(file, registry, ["training.kl_weight={grid: [1, 2]}"]).plan
    assert [method.kl_weight for method in overridden.methods] == [1, 2, 3]


def test_overrides_in_the_docs_work(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(next(block.text for block in blocks(DOCS / "suites.md") if block.language == "yaml"))
    lines = [line for block in blocks(DOCS / "suites.md") if block.language == "sh" for line in block.text.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line)
        overrides = [word for before, word in itertools.pairwise(words) if before == "--set"]
        assert overrides
        load_suite(file, registry, overrides)


def test_the_errors_in_the_docs_are_those_of_the_program(tmp_path: Path, recbench: Recbench) -> None:
    expected = next(block.text for block in blocks(DOCS / "suites.md") if block.language == "text")
    (tmp_path / "suite.yaml").write_text(
        "datasets: [photos]\narchitectures: [vae_bredell]\nlosses:\n  - l2\n  - name: charbonnier\n"
        "    params: {epsilom: 0.1}\nseeds: [0]\ntraining: {epochs: 0}\nmetrics: [psrn]\n"
    )
    done = recbench("validate", "suite.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == expected.splitlines()[1:]
    assert re.match(r"error: 3 problems in .*; nothing was run$", expected, re.MULTILINE)


# docs/files.md


def _described(model: type[BaseModel]) -> set[str]:
    """The fields of a model and of the models in it, dotted, as the table of docs/files.md lists them."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(name)
        inner = _model(field.annotation)
        if inner is not None and inner.__name__ not in ("ComponentSpec", "Score", "File", "Training"):
            found |= {f"{name}.{below}" for below in _described(inner)}
        if (
            name != "rescored"
            and typing.get_origin(field.annotation) is tuple
            and (each := _model(typing.get_args(field.annotation)[0]))
        ):
            found |= {f"{name}[].{below}" for below in _described(each)}
    return found


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType):
        return next((found for each in typing.get_args(annotation) if (found := _model(each))), None)
    return None


def test_every_field_of_a_record_is_listed_and_no_other() -> None:
    from recbench.plan.model import ComponentSpec
    from recbench.store.record import ComparedSets, File, Score

    wanted = _described(Record)
    for name, model in {"component": ComponentSpec, "score": Score, "compared": ComparedSets, "file": File}.items():
        wanted |= {f"{name}.{field}" for field in model.model_fields}
    assert set(table(section(DOCS / "files.md", "## `record.json`"))) - {"done", "failed", "diverged"} == wanted
    for name in Training.model_fields:
        assert f"`{name}`" in table(section(DOCS / "files.md", "## `record.json`"))["job.training"][1]


def test_the_statuses_are_listed() -> None:
    statuses = typing.get_args(Record.model_fields["status"].annotation)
    assert set(statuses) <= set(table(section(DOCS / "files.md", "## `record.json`")))


@pytest.mark.slow
def test_the_files_of_a_run_are_those_of_the_docs(tmp_path: Path, tiny: Path, recbench: Recbench, cache: Path) -> None:
    """Every file is listed; and what is said of their contents holds."""
    import pandas
    from safetensors.numpy import load_file

    done = recbench(
        "run",
        tiny,
        "--plugin",
        TINY,
        "--set",
        "losses=[{name: l2, kl_weight: 0.5}]",
        "--set",
        "seeds=[0]",
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    root = tmp_path / "results" / "tiny"
    page = DOCS / "files.md"
    tree = next(block.text for block in blocks(page) if block.language == "text")
    listed = set(re.findall(r"^ +([\w.-]+)", tree, re.MULTILINE))
    found = {path.name for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert found <= listed, found - listed
    rare = {"jobs", "checkpoint", "set-aside", "failed-1.json", "diverged-1.json", "traces.npz"}
    rare |= {"running.json", "attempt-", "warnings.log", "observers.log", "tracker-", "tracking", "calibration.json"}
    rare |= {"report", ".report", "executors", "slurm", "calibration"}
    assert listed - found <= rare

    (job,) = (root / "jobs").iterdir()
    record = Record.model_validate_json((job / "record.json").read_bytes())
    history = [yaml.safe_load(line) for line in (job / "history.jsonl").read_text().splitlines()]
    assert len(history) == 2
    assert list(history[0]) == list(table(section(page, "## `history.jsonl`")))
    first = history[0]
    assert first["objective"] == pytest.approx(first["reconstruction"] + record.job.kl_weight * first["kl"])
    scores = pandas.read_parquet(job / "scores.parquet")
    assert set(scores.columns) == {"psnr", "ssim", "kl"}
    assert record.data is not None
    assert len(scores) == record.data.test
    assert scores["psnr"].mean() == pytest.approx(record.scores["psnr"].mean)
    pictures = np.load(job / "images.npz")
    assert set(pictures) == {"target", "decoded", "samples"}
    assert all(f"`{name}`" in section(page, "## `images.npz`") for name in pictures)
    assert {name.partition(".")[0] for name in load_file(job / "model.safetensors")} <= {"architecture", "loss"}
    images = next(cache.glob("images/blobs-*"))
    assert {path.name for path in images.iterdir()} == {"train.npy", "validation.npy", "test.npy", "facts.json"}


# docs/cli.md


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_listed_and_no_other(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    spelled = [option for each in command.params for option in (*each.opts, *each.secondary_opts)]
    options = {option for option in spelled if option.startswith("--")}
    described = section(DOCS / "cli.md", f"## `recbench {name}`")
    assert set(re.findall(r"--[a-z][a-z-]*", described)) == options


def test_defaults_and_variables_of_options_are_those_of_the_docs() -> None:
    described = section(DOCS / "cli.md", "## `recbench run`")
    command = cli.get_command(click.Context(cli), "run")
    assert command is not None
    rows = {re.findall(r"--[a-z-]+", key)[0]: row[0] for key, row in table(described).items()}
    for parameter in command.params:
        if not isinstance(parameter, click.Option):
            continue
        said = rows[parameter.opts[0]].replace(",", "")
        if isinstance(parameter.envvar, str):
            assert f"`{parameter.envvar}`" in said or f"`{parameter.envvar}`," in rows[parameter.opts[0]]
        if parameter.show_default:
            assert re.search(rf"\(`?{re.escape(str(parameter.default).removesuffix('.0'))}\b", said), parameter.opts


def test_environment_variables_are_listed() -> None:
    sources = "".join(text(file) for file in (ROOT / "recbench").rglob("*.py"))
    used = set(re.findall(r"\"(RECBENCH_[A-Z_]+)\"", sources))
    assert used == set(table(section(DOCS / "cli.md", "## Environment")))


def test_exit_codes_are_the_same_everywhere() -> None:
    assert cli.help is not None
    for code in re.findall(r"\b(\d+) [a-z]", cli.help.replace("\n", " ")):
        assert f"**{code}**" in text(DOCS / "cli.md")
        assert re.search(rf"\b{code} ", section(DOCS / "files.md", "## Exit codes"))
