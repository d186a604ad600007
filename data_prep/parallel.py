"""Apply one function to thousands of items on this machine or on a Dask cluster, and resume after a kill.

::

    results = process_items(paths, extract_features, "features", workers=8, timeout=600)
    for result in results:                     # one for every item, in the order of the items
        print(result.key, result.reason or result.load()[1])

Start reading at `process_items`. The files that it writes are described in `data_prep.result_store`.

Local workers and remote clusters are both Dask's, so that there is one path for both. Four things are added to Dask:

* At most one item per worker thread is in flight. A local worker that dies is thereby identified with its item; the
  exit status comes from the worker's nanny. A remote worker may have several threads, and Dask blames each item that
  it held: items that Dask gave up are repeated alone, and only one that kills its workers again is recorded as failed.
* A timeout is measured on the worker, and the worker that hangs is restarted. Code that hangs without releasing the
  interpreter lock (for example in the HDF5 library) is ended by `faulthandler` a few seconds later.
* Results are stored by this process as they arrive, and reused by the next run.
* Local workers compute with one thread each, ignore Ctrl-C (this process ends them), and accept encrypted connections
  only, where the package ``cryptography`` is installed.

Compared with the hand-written worker processes that this module replaced (one pipe for each, 2 shared CPU cores): 24
simulated cells took 12.2 to 12.8 s instead of 10.6 s with one worker, 12.6 to 14.1 s instead of 10.6 to 11.7 s with two, at 0.4 s of
work for each cell. The difference is 0.7 s instead of 0.2 s to start the workers, and about 16 ms instead of 1 ms for each
item, which is 1 % of the 1.3 to 2.5 s that a cell takes with IPFX's full set of sweeps. A worker needs 26 MB more memory.
For very short items, group several into one.

A remote ``dask worker`` returns memory to the system eagerly, which makes numerical work slower (see `LOCAL_CONFIG`); start
it as ``MALLOC_TRIM_THRESHOLD_=134217728 dask worker tcp://host:8786``.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import itertools
import logging
import os
import pickle
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from unittest import mock

from data_prep.progress import ProgressReport
from data_prep.result_store import (
    ItemOutput,
    ItemResult,
    ParallelError,
    file_fingerprint,
    pack_result,
    read_result,
    result_file_name,
    write_result,
)

if TYPE_CHECKING:
    from distributed import Client, Future, KilledWorker

Item = TypeVar("Item")
Work = Callable[[Any], ItemOutput]

START_TIMEOUT = 60.0  # seconds that a scheduler or a worker may take to start
POLL_INTERVAL = 1.0  # seconds after which the workers are counted again while items wait
GRACE = 5.0  # seconds after a timeout before a worker that holds the interpreter lock is ended
LONGEST_REASON = 300  # characters
THREAD_LIMITS: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
LOCAL_CONFIG = {
    "distributed.scheduler.worker-ttl": None,  # a worker that holds the interpreter lock for minutes is not lost
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.http.routes": [],  # no web page: it would be open to all users of the machine
    "distributed.worker.http.routes": [],
    # Dask's default returns memory to the system after each use, which made the extraction of features 1.4 times as long.
    "distributed.nanny.pre-spawn-environ": {},
}
IGNORE_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


class Job(NamedTuple):
    """One item to process.

    Parameters
    ----------
    item : object
        The item.
    key, fingerprint : str
        Its unique name and the version of its input.
    path : Path
        File of its result.
    """

    item: Any
    key: str
    fingerprint: str
    path: Path


def process_items(
    items: Sequence[Item],
    work: Callable[[Item], ItemOutput],
    folder: str | Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    key: Callable[[Item], str] = str,
    fingerprint: Callable[[Item], str] = file_fingerprint,
    timeout: float | None = None,
    retry_failed: bool = False,
    title: str = "items",
) -> list[ItemResult]:
    """Apply a function to every item in parallel and store each result as soon as it is known.

    An item that raises an exception, kills its worker or exceeds the timeout is recorded as failed; the others continue.
    An item that has a stored result with the same key and fingerprint is not processed again.

    Parameters
    ----------
    items : sequence
        Items, for example paths.
    work : callable
        Function that takes an item and returns ``(arrays, facts)``: a mapping of names to arrays, and a mapping of JSON
        values. It must be importable by the workers.
    folder : path
        Folder of the results, created if needed.
    workers : int, default 1
        Number of processes on this machine, each with one thread.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://host:8786"``; its workers are then used instead of local processes.
        They need this package and the files that the items name, but not ``folder``.
    key : callable, default str
        Returns the unique name of an item.
    fingerprint : callable, default `data_prep.result_store.file_fingerprint`
        Returns the version of an item's input; by default size and modification time of a file. Include the version and
        the settings of ``work`` if they may change.
    timeout : float, optional
        Seconds after which an item is given up; by default never.
    retry_failed : bool, default False
        Whether to process items again that failed in an earlier run.
    title : str, default "items"
        What the items are, for the progress line.

    Returns
    -------
    list of ItemResult
        One for every item, in the order of the items.

    Raises
    ------
    ParallelError
        If keys are not unique, ``work`` cannot be sent to the workers, or there is no worker.
    KeyboardInterrupt
        After Ctrl-C, with a message that gives the number of stored results.
    """
    if workers < 1:
        raise ParallelError(f"workers={workers}: at least one worker is needed")
    Path(folder).mkdir(parents=True, exist_ok=True)
    keys = [key(item) for item in items]
    repeated, count = max(collections.Counter(keys).items(), key=lambda pair: pair[1], default=("", 0))
    if count > 1:
        raise ParallelError(f"{count} items have the key {repeated!r}: keys must be unique")
    jobs = [
        Job(item, name, fingerprint(item), Path(folder) / result_file_name(name))
        for item, name in zip(items, keys, strict=True)
    ]
    results: dict[str, ItemResult] = {}
    for job in jobs:
        stored = read_result(job.path)
        if stored is None or (stored.key, stored.fingerprint) != (job.key, job.fingerprint):
            continue
        if stored.succeeded or not retry_failed:
            results[job.key] = stored
    remaining = [job for job in jobs if job.key not in results]
    failed = sum(not result.succeeded for result in results.values())
    try:
        with ProgressReport(title, len(jobs), n_finished=len(results), n_failed=failed) as progress:
            if remaining:
                with contextlib.closing(_run(remaining, work, workers, scheduler, timeout)) as finished:
                    for job, content in finished:
                        results[job.key] = write_result(job.path, content)
                        progress.advance(failed=not results[job.key].succeeded)
    except KeyboardInterrupt:
        message = f"stopped with {len(results)} of {len(jobs)} {title} in {folder}: the same call resumes from there"
        raise KeyboardInterrupt(message) from None
    return [results[job.key] for job in jobs]


# The calling process.


def _run(
    jobs: Sequence[Job], work: Work, workers: int, scheduler: str | None, timeout: float | None
) -> Generator[tuple[Job, bytes]]:
    """Yield each job with the content of its file, in the order in which they finish."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ParallelError('parallel processing needs Dask: pip install "jaxephys[prep]"') from None
    exit_reasons: dict[str, str] = {}  # address of a dead local worker -> how it ended
    local = _local_client(min(workers, len(jobs)), exit_reasons)
    suspects: list[Job] = []  # items that Dask gave up; each is repeated when no other item is in flight
    with _remote_client(scheduler) if scheduler else local as client:
        for batch in itertools.chain([jobs], ([job] for job in suspects)):
            for job, future, seconds in _submit(client, batch, work, timeout, remote=bool(scheduler)):
                error = _killed_error(future)
                if error is None:
                    yield job, _collect(client, future)
                elif scheduler and batch is jobs:
                    suspects.append(job)
                else:
                    if scheduler:
                        reason = f"worker died: {error.allowed_failures + 1} workers in turn"
                    elif timeout is not None and seconds > timeout + GRACE:
                        reason = f"timeout: longer than {timeout:g} s"
                    else:
                        reason = f"worker died: {_exit_reason(exit_reasons, error.last_worker.address)}"
                    yield job, pack_result(job.key, job.fingerprint, reason, seconds)


def _killed_error(future: Future) -> KilledWorker | None:
    """Return the error of an item whose workers died."""
    from distributed import KilledWorker

    error = future.exception() if future.status == "error" else None
    return error if isinstance(error, KilledWorker) else None


def _submit(
    client: Client, jobs: Sequence[Job], work: Work, timeout: float | None, *, remote: bool
) -> Iterator[tuple[Job, Future, float]]:
    """Yield each job with its finished future and the seconds since its submission; a thread has at most one item."""
    import cloudpickle
    from distributed import wait

    waiting = collections.deque(jobs)
    in_flight: dict[Future, tuple[Job, str, float]] = {}  # -> job, address of its worker, time of its submission
    while waiting or in_flight:
        threads = cast(dict[str, int], client.nthreads())  # counted each time, because workers come and go
        if not threads:
            _wait_for_worker(client)
            continue
        busy = collections.Counter(address for _, address, _ in in_flight.values())
        free = [address for address, count in threads.items() for _ in range(count - busy[address])]
        while waiting and free:
            job, address = waiting.popleft(), free.pop()
            try:  # packed here, because a worker that cannot unpack an argument of Dask's is lost
                packed = cloudpickle.dumps((work, job.item))
            except Exception as error:
                raise ParallelError(
                    f"{work!r} cannot be sent to a worker ({error}): use a function of a module"
                ) from None
            # A local item goes to an idle worker; another one may hold a result that has not arrived here yet, and that
            # would be lost with it. (Dask may forget items that are bound to workers when all remote workers are lost.)
            bound = None if remote else [address]
            future = client.submit(_attempt, packed, job.key, job.fingerprint, timeout, pure=False, workers=bound)
            in_flight[future] = job, address, time.monotonic()
        try:
            finished = cast(Any, wait(list(in_flight), POLL_INTERVAL if waiting else None, "FIRST_COMPLETED")).done
        except TimeoutError:
            continue  # a worker may have joined or restarted
        for future in finished:
            job, _, submitted = in_flight.pop(future)
            yield job, future, time.monotonic() - submitted


def _collect(client: Client, future: Future) -> bytes:
    """Return the content of an item's file. Exceptions of the work are inside; others mean that the worker is broken."""
    try:
        content, hanging_worker = future.result()
    except (ImportError, AttributeError) as error:
        raise ParallelError(
            f'a worker cannot import the work ({error}): install it there, with "jaxephys[prep]"'
        ) from None
    if hanging_worker:
        # Dask would repeat the item if it knew of a result that is lost with the worker.
        future.release()
        while future.key in cast(dict, client.who_has()):
            time.sleep(0.01)
        client.restart_workers([hanging_worker], timeout=START_TIMEOUT, raise_for_error=False)
    return content


@contextlib.contextmanager
def _local_client(workers: int, exit_reasons: dict[str, str]) -> Iterator[Client]:
    """Start processes of one thread each, and record how they end."""
    from dask import config
    from distributed import Client, LocalCluster

    def record_exit(process: Any, forward: Callable[[int], None], code: int) -> None:
        exit_reasons[process.worker_address] = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        forward(code)

    # New processes inherit the variables. All are restored at the end, since Dask sets some too.
    with mock.patch.dict(os.environ, THREAD_LIMITS), config.set(LOCAL_CONFIG):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                preload=[IGNORE_INTERRUPT],
                security=find_spec("cryptography") is not None,
                scheduler_kwargs={"allowed_failures": 0},
            )
        except RuntimeError as error:
            raise ParallelError(
                f"a worker cannot start ({error}); a script that starts workers needs `if __name__ == '__main__':` "
                "around its code"
            ) from None
        with cluster, Client(cluster) as client:
            for nanny in cluster.workers.values():
                nanny.process.on_exit = partial(record_exit, nanny.process, nanny.process.on_exit)
            yield client


@contextlib.contextmanager
def _remote_client(scheduler: str) -> Iterator[Client]:
    """Connect to a scheduler that has workers."""
    from distributed import CancelledError, Client

    try:
        client = Client(scheduler, timeout=START_TIMEOUT)
    except (OSError, ValueError) as error:
        raise ParallelError(f"no Dask scheduler answers at {scheduler} ({error}): start `dask scheduler`") from None
    with client:
        _wait_for_worker(client)
        try:
            yield client
        except (OSError, CancelledError):
            raise ParallelError(f"the scheduler at {scheduler} is lost: the same call resumes from here") from None


def _wait_for_worker(client: Client) -> None:
    try:
        client.wait_for_workers(1, timeout=START_TIMEOUT)
    except TimeoutError:
        raise ParallelError("the scheduler has no workers: start `dask worker ADDRESS` with its address") from None


def _exit_reason(exit_reasons: dict[str, str], address: str) -> str:
    """Return how a local worker ended; its nanny may learn it a moment after the scheduler."""
    deadline = time.monotonic() + GRACE
    while address not in exit_reasons and time.monotonic() < deadline:
        time.sleep(0.01)
    return exit_reasons.get(address, "unknown exit status")


# The workers.


def _attempt(packed: bytes, key: str, fingerprint: str, timeout: float | None) -> tuple[bytes, str | None]:
    """Process one item -> the content of its file, and the address of the worker if it hangs and must be restarted."""
    from distributed import get_worker

    started, contents = time.perf_counter(), list[bytes]()
    work, item = pickle.loads(packed)
    thread = threading.Thread(target=lambda: contents.append(_attempt_now(work, item, key, fingerprint)), daemon=True)
    # A process has one such timer, which therefore cannot serve a worker of several threads.
    single = get_worker().state.nthreads == 1
    if timeout is not None and single:
        faulthandler.dump_traceback_later(timeout + GRACE, exit=True)
    thread.start()
    thread.join(timeout)
    if timeout is not None and single:
        faulthandler.cancel_dump_traceback_later()
    if contents:
        return contents[0], None
    reason = f"timeout: longer than {timeout:g} s"
    return pack_result(key, fingerprint, reason, time.perf_counter() - started, peak_memory()), get_worker().address


def _attempt_now(work: Work, item: Any, key: str, fingerprint: str) -> bytes:
    """Process one item; an exception is the reason of a failed result."""
    started = time.perf_counter()
    try:
        arrays, facts = work(item)
        return pack_result(key, fingerprint, "", time.perf_counter() - started, peak_memory(), arrays, facts)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST_REASON]
        return pack_result(key, fingerprint, reason, time.perf_counter() - started, peak_memory())


def peak_memory() -> int:
    """Return the largest resident memory that this process has had.

    Returns
    -------
    int
        Bytes.

    Notes
    -----
    On Linux ``ru_maxrss`` includes what the parent held when it started the process, so that a worker of a large parent
    would seem large. The high-water mark in ``/proc`` begins with the process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
