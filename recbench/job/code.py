"""The code of a job's components: is it still the code that the job was planned with? Imports no torch."""

from __future__ import annotations

from recbench.errors import RecbenchError
from recbench.plan.model import ComponentSpec, Job
from recbench.plugin.manager import Plugins
from recbench.plugin.registry import Registry


class CodeChanged(RecbenchError):
    """The code of a job is not the code that it was planned with."""


def changed_code(job: Job, registry: Registry) -> tuple[str, ...]:
    """Return the components of a job whose code has changed since it was planned, as ``"architecture vae_bredell"``.

    Raises:
        RecbenchError: an entry is not installed.
    """
    known = (part for part in _parts(job) if part[2].code)  # a job that was made by hand has none
    changed = (f"{word} {part.name}" for kind, word, part in known if registry.get(kind, part.name).code != part.code)
    return tuple(dict.fromkeys(changed))


def libraries(job: Job, registry: Registry) -> set[str]:
    """Return the top-level modules of other distributions that a job's components import; their versions are
    provenance, not identity."""
    return {name for kind, _, part in _parts(job) for name in registry.get(kind, part.name).reached.libraries}


def _parts(job: Job) -> list[tuple[str, str, ComponentSpec]]:
    parts = [("datasets", "dataset", job.dataset), ("architectures", "architecture", job.architecture)]
    return [*parts, ("losses", "loss", job.loss), *(("metrics", "metric", part) for part in job.metrics.values())]


def check_code(job: Job, plugins: Plugins) -> Registry:
    """Check that a job's code, as far as it has been imported, and as it is on the disk otherwise, is the planned one.

    A file may be edited while a sweep runs, before, while or after this process imports it.

    Returns:
        The entries, with digests of their code as it is now.

    Raises:
        CodeChanged: it is not; the text names the components.
    """
    registry = Registry(plugins)  # a new one, which digests anew
    changed = changed_code(job, registry)
    if changed:
        raise CodeChanged(
            f"the code of the {' and of the '.join(changed)} was edited after this job was planned, so it would not be "
            "the job that its id says; 'recbench run' plans it again with the code as it is now"
        )
    return registry
