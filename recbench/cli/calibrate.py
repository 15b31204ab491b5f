"""``recbench calibrate``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from recbench.cli.options import check_device, load, plugin_options, results_option
from recbench.cli.stored import load_stored_suite
from recbench.cli.terminal import count_bar, print_table
from recbench.cli.text import echo, say
from recbench.data.cache import default_cache
from recbench.errors import PluginError
from recbench.plan.plan import Plan
from recbench.plugin.isolation import call_in_fork
from recbench.plugin.registry import Registry
from recbench.store import scales
from recbench.store.scales import Scale, Wanted
from recbench.store.store import Store
from recbench.suite.document import dump


@click.command("calibrate")
@click.argument("suite_file", metavar="SUITE", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value. Repeatable.")
@click.option(
    "--steps",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Training steps; by default those of the suite, or 50.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "yaml", "json"]), default="table", show_default=True, help="Format."
)
@results_option
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder for decoded images.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to train.")
@plugin_options
def calibrate_command(
    suite_file: Path,
    overrides: tuple[str, ...],
    steps: int | None,
    form: str,
    results: Path,
    cache: Path | None,
    device: str,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Measure the scale of each loss of SUITE: the norm of its gradients relative to that of l2.

    The suite's network is trained with l2 for N steps; gradients are with respect to the decoded images. The scales
    are stored in DIR/<suite>/, and 'recbench run' multiplies the KL weights of tuning by them.
    """
    check_device(device)
    registry = Registry(load(plugin_files, blocked, strict))
    plan = load_stored_suite(suite_file, results, registry, overrides).plan
    seed = plan.tuning.calibration_seed if plan.tuning else plan.jobs[0].seed
    steps = steps or (plan.tuning.calibration_steps if plan.tuning else scales.STEPS)
    losses = scales.wanted(plan)
    root = Store(results / plan.suite).root

    def measure() -> dict[tuple[int, str], Scale]:
        """Import torch and train: everything that a plugin could bring down."""
        from recbench.job.calibration import complete
        from recbench.job.device import choose_device

        where = choose_device(device)
        with count_bar("calibrating") as progress:
            return complete(
                plan,
                losses,
                registry,
                root,
                cache or default_cache(),
                seed=seed,
                steps=steps,
                device=where,
                progress=progress,
            )

    try:
        found = call_in_fork(measure)
    except PluginError as error:
        names = ", ".join(dict.fromkeys(loss.label for loss in losses))
        raise PluginError(f"{plan.suite} cannot be calibrated: the calibration of {names} {error}") from None
    _print(plan, losses, found, steps, form)


def _print(plan: Plan, losses: list[Wanted], found: dict[tuple[int, str], Scale], steps: int, form: str) -> None:
    groups = scales.by_setting(losses)
    if form == "table":
        for index, group in groups.items():
            rows = []
            for loss in group:
                scale = found[loss.setting, loss.label]
                used = "" if loss.given is None else f"{loss.given:g}"
                rows.append((loss.label, f"{scale.scale:g}", f"{scale.norm:.4g}", f"{scale.reference:.4g}", used))
            say(f"{plan.settings[index].label}: gradients over the first {steps} steps")
            print_table("", ("loss", "scale", "gradient norm", "norm of l2", "given scale"), rows)
        return
    data = {
        plan.settings[index].label: {
            loss.label: found[loss.setting, loss.label].model_dump(mode="json") for loss in group
        }
        for index, group in groups.items()
    }
    if form == "json":
        echo(json.dumps(data, ensure_ascii=False, allow_nan=False))
    else:
        echo(dump(data), nl=False)
