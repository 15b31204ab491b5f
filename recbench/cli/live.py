"""The live view of a sweep on stderr; plain lines if stderr is not a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recbench.cli.durations import duration
from recbench.cli.terminal import count_bar, err, shown
from recbench.contracts.executor import Event, JobProgress
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.store.record import Record
from recbench.sweep.state import PlanState
from recbench.sweep.sweep import Watcher

_COLOURS = {"done": "green", "failed": "red", "diverged": "magenta"}


class LiveView(Watcher):
    """A context manager that shows jobs, epochs, images/s, the current loss and the time left while a sweep runs."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.planned: dict[str, PlannedJob] = {}
        self.running: dict[str, JobProgress] = {}
        self.ended: dict[str, str] = {}
        """Outcomes of the jobs that ended in this round, except those that are running again."""
        self.total = 0
        self.started = time.monotonic()
        self.live = Live(console=err, refresh_per_second=4, get_renderable=self.draw, transient=True)

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.live.is_started:
            self.live.stop()

    def note(self, text: str) -> None:
        err.print(Text(text, style="yellow"), soft_wrap=True)

    def preparing(self, name: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        return count_bar(f"decoding {name}")

    def begin(self, plan: Plan, state: PlanState, how: str) -> None:
        self.plan = plan
        self.planned = {planned.id: planned for planned in plan.jobs}
        self.total, self.ended = state.open, {}
        jobs, scored = len(plan.jobs), len(state.to_score)
        text = f"{len(state.to_run)} of {jobs} jobs to run ({jobs - len(state.to_run)} done before)"
        if scored:
            text = f"{text}, {scored} to score" if state.to_run else f"{scored} of {jobs} stored models to score"
        text = f"{plan.suite}: {text}, {how}"
        err.print(Text(text), soft_wrap=True)
        self.started = time.monotonic()
        if err.is_terminal:
            self.live.start()

    def event(self, event: Event, record: Record | None) -> None:
        if isinstance(event, JobProgress):
            self.running[event.job_id] = event
            self.ended.pop(event.job_id, None)
            return
        self.running.pop(event.job_id, None)
        self.ended[event.job_id] = record.status if record is not None else event.outcome
        name = self.name(event.job_id)
        if record is None:
            err.print(Text(f"  {event.outcome}  {name} {event.detail}".rstrip()), soft_wrap=True)
            return
        line = Text(f"  {record.status:<8}", style=_COLOURS[record.status])
        line.append(f" {name}  {self.summary(record)}", style="default")
        err.print(line, soft_wrap=True)

    def name(self, job_id: str) -> str:
        """Return the name of a job, such as ``wiener, seed 1``, with the setting if there are several."""
        assert self.plan is not None
        planned = self.planned[job_id]
        setting = f" ({self.plan.settings[planned.setting].label})" if len(self.plan.settings) > 1 else ""
        return f"{self.plan.methods[planned.method].label}, seed {planned.seed}{setting}"

    def summary(self, record: Record) -> str:
        if record.failure is not None:
            return record.failure.message.splitlines()[0] if record.failure.message else record.failure.type
        scores = "  ".join(f"{name} {score.mean:.4g}" for name, score in record.scores.items())
        speed = f"  {record.trained.images_per_second:.0f} images/s" if record.trained else ""
        return scores + speed

    def draw(self) -> Group:
        """Return the current state for rich to draw."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for head in ("running", "epoch", "", "images/s", "loss", "time left"):
            table.add_column(Text(head, style="dim"))
        for job_id, now in list(self.running.items()):
            bar = ProgressBar(total=now.epochs, completed=now.epoch - 1, width=20)
            speed, loss, left = f"{now.images_per_second:.0f}", f"{now.loss:.5g}", duration(now.seconds_left)
            table.add_row(shown(self.name(job_id)), f"{now.epoch}/{now.epochs}", bar, speed, loss, left)
        states = ", ".join(f"{count} {state}" for state, count in Counter(self.ended.values()).items())
        text = f"{len(self.ended)}/{self.total} jobs{f' ({states})' if states else ''}, time left {self.left()}"
        whole = Table.grid(padding=(0, 2, 0, 0))
        whole.add_row(Text(text, style="bold"), ProgressBar(total=max(self.total, 1), completed=self.work(), width=40))
        return Group(table, whole)

    def work(self) -> float:
        """Return the work done in units of jobs, including the finished fractions of running jobs."""
        spent = time.monotonic() - self.started
        parts = (1 / (1 + now.seconds_left / spent) if spent else 0.0 for now in list(self.running.values()))
        return min(self.total, len(self.ended) + sum(parts))

    def left(self) -> str:
        """Return the estimated time left for the whole sweep."""
        work = self.work()
        return duration((time.monotonic() - self.started) * (self.total - work) / work) if work > 0.01 else "…"
