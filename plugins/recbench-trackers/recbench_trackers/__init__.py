"""Trackers of recbench."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import Parameter, TrackerEntry, hookimpl

_IMAGES = Parameter("images", bool, True, "also a picture of test images above their reconstructions, at the end")


@hookimpl
def recbench_trackers() -> Iterator[TrackerEntry]:
    yield TrackerEntry(
        name="tensorboard",
        factory="recbench_trackers.tensorboard:TensorBoard",
        summary="event files that TensorBoard shows",
        parameters=(
            Parameter("folder", str, "", "where the event files go; empty: results/<suite>/tracking/tensorboard"),
            _IMAGES,
        ),
        packages=("tensorboard",),
        install="pip install 'recbench[tensorboard]'",
        notes="To look: tensorboard --logdir results/<suite>/tracking/tensorboard",
    )
    yield TrackerEntry(
        name="wandb",
        factory="recbench_trackers.wandb:WeightsAndBiases",
        summary="Weights & Biases, online or offline",
        parameters=(
            Parameter("project", str, "", "empty: the name of the suite"),
            Parameter("entity", str, "", "user or team; empty: the default of the account"),
            Parameter("mode", str, "", "empty: WANDB_MODE, or online", choices=("", "online", "offline")),
            _IMAGES,
        ),
        packages=("wandb",),
        install="pip install 'recbench[wandb]'",
        notes=(
            "Online, it needs an account ('wandb login', or WANDB_API_KEY). Offline, the files are in "
            "results/<suite>/tracking/wandb/wandb, and 'wandb sync' sends them; a job that was interrupted has a "
            "folder for each of its parts there, the later ones of which are sent with 'wandb sync --append'."
        ),
    )
    yield TrackerEntry(
        name="mlflow",
        factory="recbench_trackers.mlflow:MLflow",
        summary="MLflow: a local database, or a tracking server",
        parameters=(
            Parameter(
                "uri",
                str,
                "",
                "address of the store or server; empty: MLFLOW_TRACKING_URI, or mlflow.db in "
                "results/<suite>/tracking/mlflow",
            ),
            Parameter("experiment", str, "", "empty: the name of the suite"),
            _IMAGES,
        ),
        packages=("mlflow", "sqlalchemy", "alembic"),
        install="pip install 'recbench[mlflow]'",
        notes=(
            "To look (with the whole of MLflow, pip install mlflow): mlflow ui --backend-store-uri "
            "sqlite:///results/<suite>/tracking/mlflow/mlflow.db"
        ),
    )
