"""Workers of a Dask cluster. They need this package and the files that the items name, and not the store.

When a worker dies, Dask gives its items to others, and gives an item up after a few dead workers (``allowed-failures``).
A timeout starts the hung worker anew, which needs a nanny over it: ``dask worker`` has one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, cast

import distributed  # pyright: ignore[reportMissingImports]
from distributed.scheduler import KilledWorker  # pyright: ignore[reportMissingImports]

from data_prep.scale.outcome import Job, Result, ScaleError, attempt, pack, peak_memory

START = 60.0  # seconds that a scheduler or a worker may take to appear
AHEAD = 2  # items in flight for each thread: enough to keep it busy, few enough for the scheduler


def over_cluster(
    jobs: Sequence[Job], work: Callable[[Any], Result], scheduler: str, timeout: float | None
) -> Generator[tuple[Job, bytes]]:
    """Each job with the file of its outcome, as they end.

    Dask blames every item that a dying worker held. So those it gave up run once more with nothing beside them: one that
    kills its workers even then is the culprit.
    """
    if not jobs:
        return
    with connected(scheduler) as client:
        suspects = []
        for job, future in flow(client, jobs, work, timeout, alone=False):
            if killed(future):
                suspects.append(job)
            else:
                yield job, collect(client, future)
        for job, future in flow(client, suspects, work, timeout, alone=True):
            reason = killed(future)
            yield job, pack(job.key, job.fingerprint, reason) if reason else collect(client, future)


@contextlib.contextmanager
def connected(scheduler: str) -> Iterator[distributed.Client]:
    """A client of the scheduler, with one sentence for each way in which there is none."""
    try:
        client = distributed.Client(scheduler, timeout=START)
    except (OSError, ValueError) as error:
        raise ScaleError(f"no Dask scheduler answers at {scheduler} ({error}): start `dask scheduler`") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=START)
        except TimeoutError:
            raise ScaleError(f"{scheduler} has no workers: start `dask worker {scheduler}`") from None
        try:
            yield client
        except (OSError, distributed.CancelledError):
            raise ScaleError(f"the scheduler at {scheduler} is lost: the same call goes on from here") from None


def flow(
    client: distributed.Client,
    jobs: Sequence[Job],
    work: Callable[[Any], Result],
    timeout: float | None,
    *,
    alone: bool,
) -> Iterator[tuple[Job, distributed.Future]]:
    """The jobs through a window, so that the scheduler never holds ten thousand of them."""
    waiting, flying, ended = deque(jobs), {}, distributed.as_completed()
    while waiting or flying:
        # Counted anew each time, because workers come and go.
        threads = sum(cast(dict[str, int], client.nthreads()).values())
        while waiting and len(flying) < (1 if alone else max(1, AHEAD * threads)):
            job = waiting.popleft()
            future = client.submit(attempt_within, timeout, work, job.item, job.key, job.fingerprint, pure=False)
            flying[future.key] = job
            ended.add(future)
        future = next(ended)
        yield flying.pop(future.key), future


def attempt_within(
    timeout: float | None, work: Callable[[Any], Result], item: Any, key: str, fingerprint: str
) -> tuple[bytes, str | None]:
    """``attempt`` on a Dask worker -> the file, and the address of the worker if it hangs and must be started anew."""
    start = time.perf_counter()
    answer: list[bytes] = []
    thread = threading.Thread(target=lambda: answer.append(attempt(work, item, key, fingerprint)), daemon=True)
    thread.start()
    thread.join(timeout)
    if answer:
        return answer[0], None
    late = pack(key, fingerprint, f"timeout: longer than {timeout:g} s", time.perf_counter() - start, peak_memory())
    return late, distributed.get_worker().address


def killed(future: distributed.Future) -> str:
    """How an item killed its workers; "" if it did not."""
    error = future.exception() if future.status == "error" else None
    return f"worker died: so did {error.allowed_failures + 1} in turn" if isinstance(error, KilledWorker) else ""


def collect(client: distributed.Client, future: distributed.Future) -> bytes:
    """The file. Exceptions of the work stand in it; any other means that the cluster does not work."""
    try:
        data, hung = future.result()
    except ImportError as error:
        raise ScaleError(f'a worker lacks what it needs ({error}): pip install "jaxephys[prep]" there') from None
    if hung:
        restart(client, future, hung)
    return data


def restart(client: distributed.Client, future: distributed.Future, worker: str) -> None:
    """End a worker with the thread that hangs in it, which may hold a lock that its next items need.

    Dask would do the item again, and hang again, if it still knew of a result that was lost with the worker.
    """
    future.release()
    while future.key in cast(dict[str, list[str]], client.who_has()):
        time.sleep(0.01)
    client.restart_workers([worker], timeout=START, raise_for_error=False)
