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
from recbench.cli.time_left import expected, seconds_left
from recbench.contracts.executor import Event, JobProgress
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.store.record import Record
from recbench.sweep.state import PlanState
from recbench.sweep.sweep import Watcher

_COLOURS = {"done": "green", "failed": "red", "diverged": "magenta"}


class LiveView(Watcher):
    """A context manager that shows jobs, epochs, images/s, the current loss and the time left while a sweep runs."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """Begin to watch.

        Args:
            quiet: show neither running nor done jobs; those that failed and notes remain.
            verbose: print a line for each epoch too.
        """
        self.plan: Plan | None = None
        self.planned: dict[str, PlannedJob] = {}
        self.running: dict[str, JobProgress] = {}
        self.ended: dict[str, str] = {}
        """Outcomes of the jobs that ended in this round, except those that are running again."""
        self.total = 0
        self.first_seen: dict[str, float] = {}
        """When running jobs reported for the first time."""
        self.known: dict[tuple[int, int], list[float]] = {}
        """Seconds of the jobs that ended, by setting and method."""
        self.waiting: list[PlannedJob] = []
        self.slots = 1
        self.quiet, self.verbose = quiet, verbose
        self.live = Live(console=err, refresh_per_second=4, get_renderable=self.draw, transient=True)

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.live.is_started:
            self.live.stop()

    def note(self, text: str) -> None:
        err.print(Text(text, style="yellow"), soft_wrap=True)

    def preparing(self, name: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        return count_bar(f"decoding {name}", quiet=self.quiet)

    def begin(self, plan: Plan, state: PlanState, how: str) -> None:
        self.plan = plan
        self.planned = {planned.id: planned for planned in plan.jobs}
        self.total, self.ended = state.open, {}
        self.waiting = [*state.to_run, *state.to_score]
        self._learn(plan, state)
        jobs, scored = len(plan.jobs), len(state.to_score)
        text = f"{len(state.to_run)} of {jobs} jobs to run ({jobs - len(state.to_run)} done before)"
        if scored:
            text = f"{text}, {scored} to score" if state.to_run else f"{scored} of {jobs} stored models to score"
        text = f"{plan.suite}: {text}, {how}"
        if not self.quiet:
            err.print(Text(text), soft_wrap=True)
        if err.is_terminal and not self.quiet:
            self.live.start()

    def event(self, event: Event, record: Record | None) -> None:
        if isinstance(event, JobProgress):
            self._progress(event)
            return
        self.running.pop(event.job_id, None)
        self.ended[event.job_id] = record.status if record is not None else event.outcome
        name = self.name(event.job_id)
        if record is None:
            err.print(Text(f"  {event.outcome}  {name} {event.detail}".rstrip()), soft_wrap=True)
            return
        self._time(event.job_id, record)
        if self.quiet and record.status == "done":
            return
        line = Text(f"  {record.status:<8}", style=_COLOURS[record.status])
        line.append(f" {name}  {self.summary(record)}", style="default")
        if record.status == "failed":
            line.append(f" (recbench logs {event.job_id[:8]})", style="default")
        err.print(line, soft_wrap=True)

    def _progress(self, event: JobProgress) -> None:
        before = self.running.get(event.job_id)
        self.running[event.job_id] = event
        self.ended.pop(event.job_id, None)
        self.first_seen.setdefault(event.job_id, time.monotonic())
        self.waiting = [planned for planned in self.waiting if planned.id != event.job_id]
        self.slots = max(self.slots, len(self.running))
        if self.verbose and (before is None or before.epoch != event.epoch):
            speed = f"loss {event.loss:.5g}  {event.images_per_second:.0f} images/s"
            epoch = f"  epoch    {self.name(event.job_id)}  {event.epoch}/{event.epochs}  {speed}"
            err.print(Text(f"{epoch}  {duration(event.seconds_left)} left", style="dim"), soft_wrap=True)

    def _learn(self, plan: Plan, state: PlanState) -> None:
        """Take the times of jobs that are done already."""
        for planned in plan.jobs:
            record = state.records.get(planned.id)
            if record is None or record.cost is None or record.data is None or not record.cost.images_per_second:
                continue
            images = plan.settings[planned.setting].training.epochs * record.data.train
            seconds = images / record.cost.images_per_second + (record.evaluated.seconds if record.evaluated else 0.0)
            self.known.setdefault((planned.setting, planned.method), []).append(seconds)

    def _time(self, job_id: str, record: Record) -> None:
        """Take the time of a job that has ended."""
        planned = self.planned[job_id]
        self.waiting = [other for other in self.waiting if other.id != job_id]
        self.first_seen.pop(job_id, None)
        if record.status == "done" and record.trained is not None and record.evaluated is not None:
            seconds = record.trained.seconds + record.evaluated.seconds
            self.known.setdefault((planned.setting, planned.method), []).append(seconds)

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
            bar = ProgressBar(total=1.0, completed=self.fraction(now), width=20)
            speed, loss, left = f"{now.images_per_second:.0f}", f"{now.loss:.5g}", duration(now.seconds_left)
            table.add_row(shown(self.name(job_id)), f"{now.epoch}/{now.epochs}", bar, speed, loss, left)
        states = ", ".join(f"{count} {state}" for state, count in Counter(self.ended.values()).items())
        text = f"{len(self.ended)}/{self.total} jobs{f' ({states})' if states else ''}, time left {self.left()}"
        whole = Table.grid(padding=(0, 2, 0, 0))
        whole.add_row(Text(text, style="bold"), ProgressBar(total=max(self.total, 1), completed=self.work(), width=40))
        return Group(table, whole)

    def fraction(self, now: JobProgress) -> float:
        """Return how much of a running job is done; from the time that it was seen, if its executor does not say."""
        spent = time.monotonic() - self.first_seen.get(now.job_id, time.monotonic())
        return now.fraction or (spent / (spent + now.seconds_left) if spent else 0.0)

    def work(self) -> float:
        """Return the work done in units of jobs, including the finished fractions of running jobs."""
        return min(self.total, len(self.ended) + sum(map(self.fraction, list(self.running.values()))))

    def left(self) -> str:
        """Return the estimated time left for the whole sweep: never less than that of a running job."""
        known = {key: list(times) for key, times in self.known.items()}
        running = []
        for now in list(self.running.values()):
            planned, done = self.planned[now.job_id], self.fraction(now)
            running.append(now.seconds_left)
            if (planned.setting, planned.method) not in self.known and done > 0.02:  # its end is in sight
                known.setdefault((planned.setting, planned.method), []).append(now.seconds_left / max(1 - done, 1e-3))
        waiting = [expected(known, planned.setting, planned.method) for planned in self.waiting]
        times = [seconds for seconds in waiting if seconds is not None]
        if len(times) < len(waiting) or not (running or times):
            return "…"
        return duration(seconds_left(running, times, self.slots))
