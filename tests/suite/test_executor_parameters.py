"""Where an executor's parameters come from: the suite, a profile, the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbench.cli.sweeping import options_of
from recbench.errors import SuiteError, UserError
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import Suite, load_suite
from tests.conftest import TINY, TINY_SUITE

ECHO = """
from recbench import ExecutorEntry, Parameter, hookimpl
from recbench.errors import UserError

def echo(**params):
    raise UserError(str(params))

@hookimpl
def recbench_executors():
    parameters = [Parameter(name, str, "default", "") for name in ("partition", "account", "memory", "qos")]
    parameters += [Parameter("gpus", int, 0, "", minimum=0), Parameter("profile", str, "", "")]
    yield ExecutorEntry(name="echo", factory=echo, summary="", parameters=tuple(parameters))
"""
SECTION = "executors:\n  echo: {partition: suite, account: suite, memory: suite}\n"
SETTINGS: dict[str, Any] = {
    "cache": None, "device": "auto", "devices": None, "jobs_per_device": None, "executor": "echo", "retries": 0,
    "timeout": None, "max_failures": None, "checkpoint_seconds": 30.0, "tracked": (), "track_option": (),
}  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "echo.py").write_text(ECHO)
    return Registry(load_plugins((str(tmp_path / "echo.py"), str(TINY))))


def suite(folder: Path, registry: Registry, text: str) -> Suite:
    (folder / "suite.yaml").write_text(TINY_SUITE + text)
    return load_suite(folder / "suite.yaml", registry)


def test_the_command_line_has_the_last_word_and_a_profile_comes_before_the_suite(
    tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / "cluster.yaml").write_text("partition: profile\naccount: profile\ngpus: 2\n")
    wanted = suite(tmp_path, registry, SECTION).executors
    given = (f"profile={tmp_path / 'cluster.yaml'}", "partition=command")
    with pytest.raises(UserError) as told:
        options_of(registry, (), (), wanted, **{**SETTINGS, "executor_option": given})
    params = "'partition': 'command', 'account': 'profile', 'memory': 'suite', 'qos': 'default', 'gpus': 2"
    assert params in str(told.value)


def test_a_suite_may_name_the_profile(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "cluster.yaml").write_text("account: profile\n")
    wanted = suite(
        tmp_path, registry, f"{SECTION.rstrip().rstrip('}')}, profile: '{tmp_path}/cluster.yaml'}}"
    ).executors
    with pytest.raises(UserError, match="'partition': 'suite', 'account': 'profile'"):
        options_of(registry, (), (), wanted, **{**SETTINGS, "executor_option": ()})


def test_what_a_suite_wants_of_executors_makes_no_other_jobs_and_is_kept(tmp_path: Path, registry: Registry) -> None:
    without, wanting = suite(tmp_path, registry, ""), suite(tmp_path, registry, SECTION)
    assert [job.id for job in wanting.plan.jobs] == [job.id for job in without.plan.jobs]
    (tmp_path / "suite.yaml").write_text(wanting.resolved)
    assert load_suite(tmp_path / "suite.yaml", registry).executors == wanting.executors


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("executors: {ecko: {}}", "executors.ecko: there is no executor 'ecko'; did you mean 'echo'?"),
        ("executors: {echo: {partitoin: a}}", "echo has no parameter 'partitoin'; did you mean 'partition'?"),
        ("executors: {echo: {gpus: -1}}", "executors.echo.gpus: -1 is below the minimum 0"),
        ("executors: {echo: [gpus]}", 'executors.echo: ["gpus"] is not a mapping'),
        ("executors: echo", "executors: 'echo' is not a mapping"),
    ],
)
def test_mistakes_are_reported_with_their_line(text: str, problem: str, tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(SuiteError) as refused:
        suite(tmp_path, registry, text)
    assert str(refused.value).startswith(f"{tmp_path / 'suite.yaml'}:{len(TINY_SUITE.splitlines()) + 1}: ")
    assert problem in str(refused.value)


def test_mistakes_of_a_profile_are_reported_with_their_lines(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("partition: gpu\ngpu: 2\ngpus: two\nprofile: other.yaml\n")
    given = (f"profile={file}",)
    with pytest.raises(SuiteError) as refused:
        options_of(registry, (), (), {}, **{**SETTINGS, "executor_option": given})
    assert str(refused.value).splitlines() == [
        f"{file}:2: gpu: echo has no parameter 'gpu'; did you mean 'gpus'?",
        f"{file}:3: gpus: 'two' is not of type int",
        f"{file}:4: profile: echo has no parameter 'profile'; choose from: account, gpus, memory, partition, qos",
    ]
    file.write_text("- gpus\n")
    with pytest.raises(SuiteError, match="expected a mapping of parameters of echo"):
        options_of(registry, (), (), {}, **{**SETTINGS, "executor_option": given})


def test_a_profile_is_read_safely(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("partition: !!python/object/apply:os.system ['touch /tmp/never']\n")
    with pytest.raises(SuiteError, match=r"cluster\.yaml:1"):
        options_of(registry, (), (), {}, **{**SETTINGS, "executor_option": (f"profile={file}",)})
