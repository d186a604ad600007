"""One function over many items."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from data_prep.scale.outcome import Job, Outcome, Result, ScaleError, file_name, file_stamp, stored, write
from data_prep.scale.pool import over_processes
from data_prep.scale.progress import Report

Item = TypeVar("Item")


def run_over(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    store: str | Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    key: Callable[[Item], str] = str,
    fingerprint: Callable[[Item], str] = file_stamp,
    timeout: float | None = None,
    retry_failed: bool = False,
    title: str = "items",
) -> list[Outcome]:
    """One outcome for every item, in the order of the items.

    ``work(item)`` gives arrays and facts. It runs in ``workers`` processes of this machine, or on the Dask cluster at
    ``scheduler`` ("tcp://host:8786"), in any order. An item that raises, kills its worker or takes longer than ``timeout``
    seconds has a failed outcome; the others go on.

    Each outcome is written to the folder ``store`` as soon as it is known. An item that has one there, under its ``key`` and
    with the same ``fingerprint``, is not done again, unless it failed and ``retry_failed`` is set. The fingerprint of a file
    is its size and time of change; give your own where the version of the work counts too.
    """
    jobs = plan(items, key, fingerprint, Path(store))
    if workers < 1:
        raise ScaleError(f"workers={workers}: there must be one at least")
    outcomes = {job.key: found for job in jobs if (found := _kept(job, retry_failed)) is not None}
    rest = [job for job in jobs if job.key not in outcomes]
    failed = sum(not outcome.done for outcome in outcomes.values())
    over = partial(_cluster(), scheduler=scheduler) if scheduler else partial(over_processes, workers=workers)
    try:
        with (
            Report(title, len(jobs), len(outcomes), failed) as report,
            contextlib.closing(over(rest, work, timeout=timeout)) as ended,
        ):
            for job, data in ended:
                outcomes[job.key] = write(job.path, data)
                report(failed=not outcomes[job.key].done)
    except KeyboardInterrupt:
        sentence = f"stopped with {len(outcomes)} of {len(jobs)} {title} in {store}: the same call goes on from there"
        raise KeyboardInterrupt(sentence) from None
    return [outcomes[job.key] for job in jobs]


def plan(
    items: Sequence[Item], key: Callable[[Item], str], fingerprint: Callable[[Item], str], store: Path
) -> list[Job]:
    """The items with their places in the store."""
    store.mkdir(parents=True, exist_ok=True)
    names = [key(item) for item in items]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ScaleError(f"the key {repeated!r} stands for {names.count(repeated)} items: each needs one of its own")
    places = [store / file_name(name) for name in names]
    return [Job(*job) for job in zip(items, names, map(fingerprint, items), places, strict=True)]


def _kept(job: Job, retry_failed: bool) -> Outcome | None:
    """What an earlier run left of this item, if it still holds."""
    found = stored(job.path)
    if found is None or (found.key, found.fingerprint) != (job.key, job.fingerprint):
        return None
    return found if found.done or not retry_failed else None


def _cluster() -> Callable[..., Generator[tuple[Job, bytes]]]:
    try:
        from data_prep.scale.cluster import over_cluster
    except ImportError:
        raise ScaleError('a cluster needs Dask: pip install "jaxephys[prep]"') from None
    return over_cluster
