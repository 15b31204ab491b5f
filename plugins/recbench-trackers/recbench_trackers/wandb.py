"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import wandb
from numpy.typing import NDArray

from recbench.contracts.tracker import Run, Tracker
from recbench_trackers import contents


class WeightsAndBiases(Tracker):
    """A run for each job, with the job's id; W&B goes on with it when the job continues."""

    def __init__(self, *, project: str, entity: str, mode: str, images: bool) -> None:
        self.project = project
        self.entity = entity
        self.mode = mode
        self.images = images

    def start(self, run: Run) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)  # where it is missing, W&B takes another
        self.run = wandb.init(
            project=self.project or run.suite,
            entity=self.entity or None,
            id=run.id,
            name=run.title,
            config=contents.settings(run.job),
            dir=str(run.folder),
            resume="allow",
            mode=self.mode or None,  # type: ignore[arg-type]  # one of the choices of its parameter
            settings=wandb.Settings(console="off", silent=True),
        )

    def epoch(self, values: Mapping[str, float]) -> None:
        self.run.log({name: value for name, value in values.items() if name != "step"}, step=int(values["step"]))

    def end(self, record: Mapping[str, Any], images: Mapping[str, NDArray[np.uint8]]) -> None:
        self.run.summary.update({**contents.scores(record), "status": record["status"]})
        picture = contents.picture(images) if self.images else None
        if picture is not None:
            self.run.log({"reconstructions": wandb.Image(picture)}, step=record["trained"]["steps"])
        self._finish(0 if record["status"] == "done" else 1)

    def pause(self) -> None:
        self.run.mark_preempting()
        self._finish(1)  # with the mark: preempted, not failed

    def _finish(self, code: int) -> None:
        self.run.finish(exit_code=code)
        wandb.teardown()  # returns when W&B's process has written everything, which finish() does not wait for
