"""Runs preflight (:mod:`recbench.job.preflight`) in processes of its own, and says what it found. Imports no torch."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from recbench.contracts.entries import LossEntry, MetricEntry
from recbench.errors import PluginError
from recbench.plan.model import Job, Method, PlannedJob, job_of
from recbench.plan.plan import Plan
from recbench.plan.search import TrialResult
from recbench.plugin.isolation import signal_name, time_limit
from recbench.plugin.registry import Registry

_LIMITS = 2
"""A call in preflight may take this many times as long as the import of a plugin."""


class PreflightError(PluginError):
    """Methods of a suite break their contracts, or fail. The text has a line for each culprit."""


def check(
    plan: Plan,
    registry: Registry,
    *,
    plugin_files: Sequence[str] = (),
    blocked: Sequence[str] = (),
    device: str = "auto",
    only: Callable[[int, int], bool] = lambda setting, method: True,
    note: Callable[[str], None] = lambda text: None,
) -> int:
    """Let every method of a plan take one step; returns the number of methods.

    Args:
        plan: of a suite; of one with tuning, the losses of its searches are tried.
        device: as for jobs; where a GPU that it asks for is not on this machine, the CPU stands in, with a note.
        only: asked with the indices of setting and method (-1 for those of searches) which to try.
        note: told what is odd, but not wrong.

    Raises:
        PreflightError: something would fail, or spoil what is compared.
    """
    flights = flights_of(plan, only)
    if not flights:
        return 0
    request = {"plugin_files": list(plugin_files), "blocked": list(blocked), "device": device}
    left = dict(enumerate(flight for _, flight in flights))
    labels = {number: label for number, (label, _) in enumerate(flights)}
    found: dict[str, list[str]] = {text: [] for text in _strange_families(plan, registry)}
    while left:
        begun, stage, ended = next(iter(left)), "preflight", False
        for number, kind, text in _process(request, left):
            if kind == "death":
                found.setdefault(f"{stage} {text}", []).append(labels[begun])
                ended = True
            elif kind == "problem":
                found.setdefault(text, []).append(labels.get(number, ""))
                if number < 0:  # no method could be tried
                    left.clear()
            elif kind == "note":
                note(text)
            elif kind == "stage":
                begun, stage = number, text
            elif kind == "end":
                left.pop(number, None)
        if begun in left and not ended:
            found.setdefault(f"{stage} ended the process (exit code 0)", []).append(labels[begun])
        left.pop(begun, None)
    if found:
        lines = [_line(text, [m for m in methods if m], len(flights)) for text, methods in found.items()]
        raise PreflightError("\n".join(lines))
    return len(flights)


def untried(
    plan: Plan,
    records: Mapping[str, TrialResult],
    open_jobs: Sequence[PlannedJob],
    to_score: Sequence[PlannedJob] = (),
) -> Callable[[int, int], bool]:
    """Return what tells :func:`check` which methods to try: those that are to run and have no finished job yet, and
    where there are new metrics, one under each setting.

    Args:
        plan: as far as it has grown.
        records: by job id.
        open_jobs: the jobs that are to run.
        to_score: the jobs whose models are to be scored by new metrics.
    """
    done = {(job.setting, job.method) for job in plan.jobs if job.id in records and records[job.id].status != "failed"}
    wanted = {(job.setting, job.method) for job in open_jobs} - done
    wanted |= set({job.setting: (job.setting, job.method) for job in to_score}.values())
    begun = bool(done) and not to_score  # of a plan with tuning: its losses have been tried

    def asked(setting: int, method: int) -> bool:
        return not begun if method < 0 else (setting, method) in wanted

    return asked


def _line(text: str, methods: list[str], total: int) -> str:
    if not methods:
        return text
    if len(methods) == total and total > 1:
        return f"all methods: {text}"
    return f"{', '.join(methods[:3])}{f' and {len(methods) - 3} more' if len(methods) > 3 else ''}: {text}"


def flights(plan: Plan) -> list[tuple[int, int, dict[str, Any]]]:
    """Return the indices of setting and method, and the flight without metrics, of each method under each setting; of a
    plan with tuning, of the first method of each of its losses, if it has one yet."""
    found = {}
    for planned in plan.jobs:
        if (key := (planned.setting, planned.method)) not in found:
            shape = list(plan.settings[planned.setting].shape)
            form = {"job": json.loads(plan.job(planned).model_dump_json()), "shape": shape, "metrics": False}
            found[key] = form
    return [(setting, method, form) for (setting, method), form in found.items()]


def flights_of(plan: Plan, only: Callable[[int, int], bool]) -> list[tuple[str, dict[str, Any]]]:
    """Return a label and a flight for each loss, with its parameters, under each setting."""
    tried: dict[str, tuple[str, dict[str, Any]]] = {}
    scored: set[int] = set()
    for setting, method, label, job in _candidates(plan):
        if not only(setting, method):
            continue
        key = job.model_copy(update={"kl_weight": 1.0, "seed": 0}).id
        if key not in tried:
            shape = list(plan.settings[setting].shape)
            form = {"job": json.loads(job.model_dump_json()), "shape": shape, "metrics": setting not in scored}
            tried[key] = label, form
            scored.add(setting)
    return list(tried.values())


def _candidates(plan: Plan) -> Iterator[tuple[int, int, str, Job]]:
    several = len(plan.settings) > 1

    def named(label: str, setting: int) -> str:
        return f"{label} ({plan.settings[setting].label})" if several else label

    for search in plan.searches:
        method = Method(label=search.label, loss=search.loss, kl_weight=1e-3, families=search.families)
        seed = plan.tuning.seeds[0] if plan.tuning else 0
        job = job_of(plan.settings[search.setting], method, plan.metrics, seed, "test")
        yield search.setting, -1, named(search.label, search.setting), job
    for planned in plan.jobs if not plan.searches else ():
        label = plan.methods[planned.method].label
        yield planned.setting, planned.method, named(label, planned.setting), plan.job(planned)


def _strange_families(plan: Plan, registry: Registry) -> Iterator[str]:
    """Yield a line for each entry of the plan whose family looks like a misspelt one."""
    losses = {spec.name for spec in (*(m.loss for m in plan.methods), *(s.loss for s in plan.searches))}
    wanted = {("losses", part.entry.name) for name in losses for part in registry.get("losses", name).parts}
    wanted |= {("metrics", spec.name) for spec in plan.metrics.values()}
    for kind, name in sorted(wanted):
        registered = registry.get(kind, name)
        near = registry.misspelt_family(cast("LossEntry | MetricEntry", registered.entry))
        if near is not None:
            yield f"{registered}: {near}"


def _process(request: Mapping[str, Any], flights: Mapping[int, Any]) -> Iterator[tuple[int, str, str]]:
    """Run the process and yield what it says; ``death``, with how, if it did not come to its end by itself."""
    limit = _LIMITS * time_limit()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "recbench.job.preflight"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps({**request, "flights": flights}).encode())
            process.stdin.close()
            yield from _events(process.stdout.fileno(), limit)
        except BrokenPipeError:
            pass
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            yield -1, "death", f"hung the process (nothing happened for {limit:g} s)"
            return
        finally:
            if not _ends(process, 5):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()
        code = process.returncode
        if code < 0:
            yield -1, "death", f"ended the process ({signal_name(-code)})"
        elif code:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {code}"]
            yield -1, "death", f"ended the process: {last[0]}"


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _events(stream: int, limit: float) -> Iterator[tuple[int, str, str]]:
    """Yield the events of the process's standard output; TimeoutError if none came for too long."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            began = time.monotonic()
            if not selector.select(limit):
                raise TimeoutError(f"{time.monotonic() - began:.0f} s")
            chunk = os.read(stream, 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number, kind, text = json.loads(line)
                yield number, kind, text
