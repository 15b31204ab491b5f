"""``recbench score``: compute a loss or metric for two sets of images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recbench.cli.completion import complete_scored
from recbench.cli.options import load, parameters, plugin_options
from recbench.cli.text import echo
from recbench.contracts.entries import LossEntry
from recbench.data.cache import default_cache
from recbench.errors import PluginError, UserError
from recbench.plugin.isolation import call_in_fork
from recbench.plugin.registry import Registry

if TYPE_CHECKING:
    from recbench.job.standalone import ImagePair, StandaloneScore


@click.command("score")
@click.argument("kind", type=click.Choice(["loss", "metric"]))
@click.argument("name", shell_complete=complete_scored)
@click.argument("decoded", type=click.Path(path_type=Path, exists=True))
@click.argument("target", type=click.Path(path_type=Path, exists=True))
@click.option(
    "-p", "assignments", multiple=True, metavar="KEY=VALUE", help="Parameter of the loss or metric. Repeatable."
)
@click.option("--range", "text", metavar="LOW,HIGH", help="Value range of floating-point arrays.  [default: 0,1]")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@click.option(
    "--grad", is_flag=True, help="Include the norm of the gradient with respect to each decoded image (losses)."
)
@click.option(
    "--epoch",
    type=click.IntRange(1, 2**31),
    metavar="N",
    help="Epoch of a loss with a schedule; by default, after all warm-ups.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of losses that draw random numbers.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@plugin_options
def score_command(
    kind: str,
    name: str,
    decoded: Path,
    target: Path,
    assignments: tuple[str, ...],
    text: str | None,
    dtype: str,
    grad: bool,
    epoch: int | None,
    seed: int,
    form: str,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Print the value of a loss or metric for DECODED and TARGET, per image and as a mean.

    Both are .npy arrays (N, C, H, W), or folders of images with the same file names. As in evaluation, images are
    rounded to 8 bits for metrics that do not require otherwise.
    """
    if kind == "metric" and (grad or epoch is not None):
        raise UserError("--grad and --epoch are for losses only")
    registered = Registry(load(plugin_files, blocked, strict)).get("losses" if kind == "loss" else "metrics", name)
    params = parameters(registered.entry, "-p", assignments)
    limits = value_range(text) if text is not None else None

    def compute() -> tuple[tuple[StandaloneScore, ...], str]:
        """Import torch, read the images and score them: everything that a plugin could bring down."""
        import torch

        from recbench.job.standalone import read_pair, score_loss, score_metric

        pair = read_pair(decoded, target, limits, getattr(torch, dtype))
        outside = _outside(pair)
        if isinstance(registered.entry, LossEntry):
            return (score_loss(registered, params, pair, epoch=epoch, gradient=grad, seed=seed),), outside
        return score_metric(registered, params, pair, seed=seed, cache=default_cache()), outside

    try:
        found, outside = call_in_fork(compute)
    except PluginError as error:
        raise PluginError(f"the {kind} {name} of {registered.plugin.provider} {error}") from None
    if outside:
        echo(outside, err=True)
    for warning in dict.fromkeys(scored.warning for scored in found if scored.warning):
        echo(f"warning: {warning}", err=True)
    if form == "json":
        data = [_data(scored) for scored in found]
        echo(json.dumps(data[0] if len(data) == 1 else data, allow_nan=False))
        return
    for scored in found:
        _print(scored, named=len(found) > 1)


def _data(scored: StandaloneScore) -> dict[str, Any]:
    return {
        "name": scored.name,
        "params": _plain(scored.params),
        "per_image": _plain(scored.per_image),
        "mean": _plain(scored.mean),
        "grad_norm": _plain(scored.grad_norm),
    }


def _print(scored: StandaloneScore, *, named: bool) -> None:
    """Print the values per image and their mean; with the name of the score, if there are several."""
    if scored.per_image is None:
        echo(f"{scored.name}  {scored.mean:.10g}" if named else f"{scored.mean:.10g}")
        return
    if named:
        echo(scored.name)
    for index, value in enumerate(scored.per_image):
        norm = f"  gradient {scored.grad_norm[index]:.10g}" if scored.grad_norm else ""
        echo(f"{index:>6}  {value:.10g}{norm}")
    echo(f"  mean  {scored.mean:.10g}")


def _plain(value: Any) -> Any:
    """Return data for JSON, with NaN and infinities as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _outside(pair: ImagePair) -> str:
    """Return a warning if the images have values outside of their stated range."""
    low = min(float(images.amin()) for images in (pair.decoded, pair.target))
    high = max(float(images.amax()) for images in (pair.decoded, pair.target))
    if pair.value_range[0] <= low and high <= pair.value_range[1]:
        return ""
    stated = f"{pair.value_range[0]:g} to {pair.value_range[1]:g}"
    return f"warning: the images have values from {low:g} to {high:g}, outside of {stated}, the range of --range"


def value_range(text: str) -> tuple[float, float]:
    """Parse ``--range``.

    Raises:
        UserError: it is not two numbers, the lower one first.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--range {text}: expected two numbers, as in --range -1,1") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--range {text}: the first number must be finite and lower than the second")
    return low, high
