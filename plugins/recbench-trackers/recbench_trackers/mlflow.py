"""MLflow."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from numpy.typing import NDArray

from recbench.contracts.tracker import Run, Tracker
from recbench_trackers import contents

_TAG = "recbench.run"
_MOST_PARAMS = 100
"""That MLflow takes in one batch."""


class MLflow(Tracker):
    """A run for each job, found again by a tag when the job continues."""

    def __init__(self, *, uri: str, experiment: str, images: bool) -> None:
        self.uri = uri
        self.experiment = experiment
        self.images = images

    def start(self, run: Run) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # every table that it makes
        run.folder.mkdir(parents=True, exist_ok=True)
        database = (run.folder / "mlflow.db").resolve()
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"
        with _alone(run.folder):  # jobs that start side by side would make the tables and the experiment twice
            self.client = MlflowClient(tracking_uri=uri)
            name = self.experiment or run.suite
            found = self.client.get_experiment_by_name(name)
            own = None if self.uri or "MLFLOW_TRACKING_URI" in os.environ else (database.parent / "files").as_uri()
            experiment = found.experiment_id if found else self.client.create_experiment(name, artifact_location=own)
        tagged = self.client.search_runs([experiment], f"tags.`{_TAG}` = '{run.id}'")
        if tagged:
            self.run = tagged[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        tags = {_TAG: run.id, "recbench.job": run.job_id, "recbench.suite": run.suite}
        self.run = self.client.create_run(experiment, run_name=run.title, tags=tags).info.run_id
        settings = [Param(_key(name), str(value)) for name, value in contents.settings(run.job).items()]
        for start in range(0, len(settings), _MOST_PARAMS):
            self.client.log_batch(self.run, params=settings[start : start + _MOST_PARAMS])

    def epoch(self, values: Mapping[str, float]) -> None:
        self._log({name: value for name, value in values.items() if name != "step"}, int(values["step"]))

    def end(self, record: Mapping[str, Any], images: Mapping[str, NDArray[np.uint8]]) -> None:
        self._log(contents.scores(record), record["trained"]["steps"] if record["trained"] else 0)
        picture = contents.picture(images) if self.images else None
        if picture is not None:
            self.client.log_image(self.run, picture, artifact_file="reconstructions.png")
        self.client.set_terminated(self.run, "FINISHED" if record["status"] == "done" else "FAILED")

    def pause(self) -> None:
        self.client.update_run(self.run, status="SCHEDULED")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.run, [Metric(_key(name), value, now, step) for name, value in values.items()])


def _key(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)  # not through a link
    with os.fdopen(handle, "w") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        yield
