"""TensorBoard: event files, written with TensorBoard's own writer and so without TensorFlow."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from recbench.contracts.tracker import Run, Tracker
from recbench_trackers import contents


class TensorBoard(Tracker):
    """A folder of event files for each job. One that continues gets a further file, which TensorBoard reads on from the
    earlier."""

    def __init__(self, *, folder: str, images: bool) -> None:
        self.folder = folder
        self.images = images

    def start(self, run: Run) -> None:
        name = re.sub(r"[^\w.,=+-]+", "_", f"{run.title} {run.id}")
        self.writer = EventFileWriter(str((Path(self.folder) if self.folder else run.folder) / name))
        if not run.continued:
            self._write(summary_v2.hparams_pb(contents.settings(run.job), trial_id=run.id), step=0)

    def epoch(self, values: Mapping[str, float]) -> None:
        self._scalars({name: value for name, value in values.items() if name != "step"}, int(values["step"]))

    def end(self, record: Mapping[str, Any], images: Mapping[str, NDArray[np.uint8]]) -> None:
        step = record["trained"]["steps"] if record["trained"] else 0
        self._scalars(contents.scores(record), step)
        picture = contents.picture(images) if self.images else None
        if picture is not None:
            self._picture(picture, step)
        self._status(done=record["status"] == "done")
        self.writer.close()

    def pause(self) -> None:
        self.writer.close()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Summary(value=found), step)

    def _picture(self, picture: NDArray[np.uint8], step: int) -> None:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format="PNG")
        height, width, channels = picture.shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=stream.getvalue())
        self._write(Summary(value=[Summary.Value(tag="reconstructions", image=image)]), step)

    def _status(self, *, done: bool) -> None:
        """Tell the page of hyper-parameters how the job ended."""
        status = api_pb2.STATUS_SUCCESS if done else api_pb2.STATUS_FAILURE
        ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        facts = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=facts, tensor=metadata.NULL_TENSOR)
        self._write(Summary(value=[value]), step=0)

    def _write(self, summary: Any, step: int) -> None:
        """Write a summary; it is on the disk when this returns."""
        event = Event(wall_time=time.time(), step=step)
        event.summary.CopyFrom(summary)
        self.writer.add_event(event)
        self.writer.flush()
