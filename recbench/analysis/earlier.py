"""Earlier versions of a method, whose records are still in a suite's folder."""

from __future__ import annotations

from recbench.errors import UserError
from recbench.plan.plan import Plan
from recbench.store.sources import FolderSource, RecordSource


def earlier_version(source: RecordSource, plan: Plan, method: str, code: str) -> Plan:
    """Return the plan with an earlier version of one method, whose records are still in the suite's folder.

    Args:
        source: the suite's folder.
        plan: the suite's plan.
        method: its label.
        code: the first characters of the digest of the earlier code.

    Raises:
        UserError: no record, or more than one version, matches; the text lists the digests.
    """
    found = next((one for one in plan.methods if one.label == method), None)
    if found is None or not isinstance(source, FolderSource):
        raise UserError(
            f"{source.name}: METHOD@CODE needs a method of a results folder, not of an archive; got '{method}'"
        )
    store = source.store
    codes = set()
    for folder in sorted((store.root / "jobs").iterdir()):
        try:
            job, _ = store.read_task(folder.name)
        except ValueError:
            continue
        if (job.loss.name, job.loss.params, job.kl_weight) == (found.loss.name, found.loss.params, found.kl_weight):
            codes.add(job.loss.code)
    meant = sorted(known for known in codes if known.startswith(code))
    if len(meant) != 1:
        raise UserError(
            f"{source.name}: expected one version of {method} whose code begins with '{code}', found {len(meant)}; "
            f"recorded versions: {', '.join(sorted(codes)) or 'none'}"
        )
    changed = found.model_copy(update={"loss": found.loss.model_copy(update={"code": meant[0]})})
    methods = tuple(changed if one is found else one for one in plan.methods)
    plan = plan.model_copy(update={"methods": methods})
    jobs = tuple(planned.model_copy(update={"id": plan.id_of(planned)}) for planned in plan.jobs)
    return plan.model_copy(update={"jobs": jobs})
