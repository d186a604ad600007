"""Watchers: plain callables that hear a Report after each chunk. The checkpointer is the third, in its own file."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jaxephys.engine.run_log import ProgressEvent
from jaxephys.engine.task import Status

PLAIN_SECONDS = 10.0  # between lines where there is no terminal


class ProgressBar:
    """One line for the whole grid: ``37 runs live, 13 ended, best macro_f1 0.880 ± 0.020, 4.1 epochs/s``.

    On a terminal a bar; elsewhere a plain line every ten seconds. Use it as a context.
    """

    def __init__(self, title: str = "training", console: Console | None = None) -> None:
        self.title = title
        self.console = console or Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._spoke = 0.0

    def __enter__(self) -> ProgressBar:
        if self.console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.fields[title]}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self.console)
            self._bar.start()
            self._line = self._bar.add_task("compiling", title=self.title, total=None)
        else:
            self._say(f"{self.title}: compiling")
        return self

    def __call__(self, report: ProgressEvent) -> None:
        text = describe(report)
        if self._bar is not None:
            self._bar.update(
                self._line, description=text, completed=report.epochs, total=report.epochs + report.most_epochs
            )
        elif time.monotonic() - self._spoke > PLAIN_SECONDS or report.live + report.waiting == 0:
            self._say(f"{self.title}: {text}")

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)
        self._spoke = time.monotonic()


def describe(report: ProgressEvent) -> str:
    """The report as one line."""
    ended = int((report.status != Status.RUNNING).sum())
    diverged = int((report.status == Status.DIVERGED).sum())
    parts = [f"{report.live} runs live", f"{ended} ended"]
    if report.waiting:
        parts.append(f"{report.waiting} waiting")
    if diverged:
        parts.append(f"{diverged} DIVERGED")
    if np.isfinite(report.best_score).any():
        parts.append(f"best {report.monitor} {np.nanmean(report.best_score):.3f} ± {np.nanstd(report.best_score):.3f}")
    parts.append(f"{report.epochs / max(report.run_seconds, 1e-9):.1f} epochs/s")
    return ", ".join(parts)
