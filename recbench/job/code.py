"""The code of a job's components: is it still the code that the job was planned with? Imports no torch."""

from __future__ import annotations

from recbench.errors import RecbenchError
from recbench.plan.model import Job
from recbench.plugin.manager import Plugins
from recbench.plugin.registry import Registry


class CodeChanged(RecbenchError):
    """The code of a job is not the code that it was planned with."""


def changed_code(job: Job, registry: Registry) -> tuple[str, ...]:
    """Return the components of a job whose code has changed since it was planned, as ``"architecture vae_bredell"``.

    Raises:
        RecbenchError: an entry is not installed.
    """
    parts = [("datasets", "dataset", job.dataset), ("architectures", "architecture", job.architecture)]
    parts += [("losses", "loss", job.loss), *(("metrics", "metric", part) for part in job.metrics.values())]
    known = (part for part in parts if part[2].code)  # a job that was made by hand has none
    changed = (f"{word} {part.name}" for kind, word, part in known if registry.get(kind, part.name).code != part.code)
    return tuple(dict.fromkeys(changed))


def check_code(job: Job, plugins: Plugins) -> None:
    """Check that a job's code, as far as it has been imported, and as it is on the disk otherwise, is the planned one.

    A file may be edited while a sweep runs, before, while or after this process imports it.

    Raises:
        CodeChanged: it is not; the text names the components.
    """
    changed = changed_code(job, Registry(plugins))  # a new registry digests anew
    if changed:
        raise CodeChanged(
            f"the code of the {' and of the '.join(changed)} was edited after this job was planned, so it would not be "
            "the job that its id says; 'recbench run' plans it again with the code as it is now"
        )
