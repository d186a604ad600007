"""Progress of a long command on standard error: a bar on a terminal, otherwise one line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_INTERVAL = 10.0  # seconds between lines where there is no terminal


class ProgressReport:
    """Count finished items, and optionally bytes, and show how many are left.

    Use it as a context manager and call `advance` after each item. A line reads
    ``recordings: 120 of 300, 2 failed, 4.1 per second, 0:00:44 left``, or for downloads
    ``files: 3 of 12, 0 failed, 75.0 MB of 301.2 MB, 0:01:10 left``. Methods may be called from several threads.

    Parameters
    ----------
    title : str
        What the items are, in the plural.
    total : int
        Number of items.
    n_finished : int, default 0
        Items that an earlier run finished; they do not count for the speed.
    n_failed : int, default 0
        How many of ``n_finished`` had failed.
    total_bytes : int, optional
        Size of all items in bytes. If given, progress is measured in bytes (see `add_bytes`) instead of items.

    Examples
    --------
    >>> with ProgressReport("files", 2) as progress:
    ...     for name in ("a.nwb", "b.nwb"):
    ...         progress.advance()
    """

    def __init__(
        self, title: str, total: int, *, n_finished: int = 0, n_failed: int = 0, total_bytes: int | None = None
    ) -> None:
        self.title, self.total, self.total_bytes = title, total, total_bytes
        self.n_finished, self.n_failed, self.n_bytes = n_finished, n_failed, 0
        self._finished_before = n_finished
        self._console = Console(file=sys.stderr)
        self._started = self._last_line = time.monotonic()
        self._lock = threading.Lock()
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._row = self._bar.add_task(title, total=total if total_bytes is None else total_bytes)

    def __enter__(self) -> ProgressReport:
        self._bar.start()
        self._update(force_line=True)
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._update(force_line=True)
        self._bar.stop()

    def advance(self, *, failed: bool = False) -> None:
        """Count one more finished item.

        Parameters
        ----------
        failed : bool, default False
            Whether the item failed.
        """
        with self._lock:
            self.n_finished, self.n_failed = self.n_finished + 1, self.n_failed + failed
            self._update()

    def add_bytes(self, count: int) -> None:
        """Count bytes that have arrived.

        Parameters
        ----------
        count : int
            Number of bytes; negative where bytes were discarded.
        """
        with self._lock:
            self.n_bytes += count
            self._update()

    def print_message(self, text: str) -> None:
        """Print a line without disturbing the bar.

        Parameters
        ----------
        text : str
            The line.
        """
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _update(self, *, force_line: bool = False) -> None:
        current = self.n_finished if self.total_bytes is None else self.n_bytes
        if not self._bar.disable:
            self._bar.update(self._row, description=self._text(), completed=current)
        elif force_line or time.monotonic() - self._last_line >= LINE_INTERVAL:
            left = self.total - self.n_finished if self.total_bytes is None else self.total_bytes - self.n_bytes
            known = left > 0 and self._speed() > 0 and self.n_finished < self.total
            time_left = f", {timedelta(seconds=round(left / self._speed()))} left" if known else ""
            self.print_message(self._text() + time_left)
            self._last_line = time.monotonic()

    def _text(self) -> str:
        counted = f"{self.title}: {self.n_finished} of {self.total}, {self.n_failed} failed, "
        if self.total_bytes is not None:
            return f"{counted}{decimal(self.n_bytes)} of {decimal(self.total_bytes)}"
        return f"{counted}{self._speed():.1f} per second"

    def _speed(self) -> float:
        """Return finished items, or bytes, per second of this run."""
        finished = self.n_finished - self._finished_before if self.total_bytes is None else self.n_bytes
        return finished / max(time.monotonic() - self._started, 1e-9)
