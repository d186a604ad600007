"""Workers on this machine: each works on one item at a time, so whoever dies or hangs is known by its item.

``concurrent.futures`` would break the whole pool over one dead worker and not say which item it was on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from data_prep.scale.outcome import Job, Result, ScaleError, attempt, pack

# Never fork: a lock that a thread of the parent holds would stay locked in the child.
SPAWN = multiprocessing.get_context("spawn")
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
READY = b"ready"
GRACE = 5.0  # seconds that a worker has to end by itself


def over_processes(
    jobs: Sequence[Job], work: Callable[[Any], Result], workers: int, timeout: float | None
) -> Generator[tuple[Job, bytes]]:
    """Each job with the file of its outcome, as they end."""
    check_sendable(work)
    waiting = deque(jobs)
    pool: list[Worker] = []
    try:
        while waiting or any(worker.job for worker in pool):
            wanted = min(workers, len(waiting) + sum(worker.job is not None for worker in pool))
            pool += [Worker(work) for _ in range(wanted - len(pool))]
            for worker in pool:
                if waiting and worker.ready and worker.job is None:
                    worker.give(waiting.popleft())
            wait([end for worker in pool for end in worker.ends()], _patience(pool, timeout))
            for worker in list(pool):
                job, data = worker.job, worker.answer(timeout)
                if worker.stopped:
                    pool.remove(worker)
                if job is not None and data is not None:
                    yield job, data
    finally:
        for worker in pool:
            worker.stop(0.0 if worker.job else GRACE)


class Worker:
    """One process. It says when it is ready: who dies before that has an error in its start, and no item is to blame."""

    def __init__(self, work: Callable[[Any], Result]) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(theirs, work), daemon=True)
        with one_thread_each():
            self.process.start()
        theirs.close()
        self.ready = self.stopped = False
        self.job: Job | None = None
        self.began = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def ends(self) -> tuple[Connection, int]:
        """What stirs when there is an answer, or none to come."""
        return self.pipe, self.process.sentinel

    def give(self, job: Job) -> None:
        self.job, self.began = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has just died, which ``answer`` will see
            self.pipe.send((job.item, job.key, job.fingerprint))

    def answer(self, timeout: float | None) -> bytes | None:
        """The file of its item, or None while it is at work. One that died or is late is stopped."""
        late = self.job is not None and timeout is not None and self.seconds >= timeout
        with contextlib.suppress(EOFError, ConnectionResetError):  # how the pipe of a dead worker ends
            if self.pipe.poll():
                message = self.pipe.recv_bytes()
                self.ready, self.job = True, None
                return None if message == READY else message
            if self.process.is_alive() and not late:
                return None
        self.stop(0.0 if late else GRACE)
        if not self.ready:
            raise ScaleError(
                f"a worker cannot start ({self._end()}): its error stands above; a script that starts workers needs "
                "`if __name__ == '__main__':` around its own part"
            )
        if self.job is None:
            return None
        reason = f"timeout: longer than {timeout:g} s" if late else f"worker died: {self._end()}"
        return pack(self.job.key, self.job.fingerprint, reason, self.seconds)

    def stop(self, grace: float) -> None:
        """An idle worker leaves when its pipe ends; one at work, or hung, is killed."""
        self.pipe.close()
        self.process.join(grace)
        self.process.kill()
        self.process.join(GRACE)  # not for ever: a read that hangs in the kernel outlives even SIGKILL
        self.stopped = True

    def _end(self) -> str:
        code = self.process.exitcode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def serve(pipe: Connection, work: Callable[[Any], Result]) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends us
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    pipe.send_bytes(READY)
    with contextlib.suppress(EOFError):
        while True:
            pipe.send_bytes(attempt(work, *pipe.recv()))


def _leave_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would go on beside those of the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that begin in here compute with one thread: n workers of n threads would stand in each other's way.

    The libraries read these names when they are loaded, which in a worker is before any code of ours.
    """
    before = {name: os.environ[name] for name in THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name in THREADS:
            del os.environ[name]
        os.environ.update(before)


def check_sendable(work: Callable[[Any], Result]) -> None:
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError):
        raise ScaleError(f"{work!r} cannot be sent to a worker: give a function at the top of a module") from None


def _patience(pool: Sequence[Worker], timeout: float | None) -> float | None:
    """Seconds until the next worker is late; None if none can be."""
    busy = [worker.seconds for worker in pool if worker.job]
    return max(0.0, timeout - max(busy)) if busy and timeout is not None else None
