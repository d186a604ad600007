"""Progress: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0  # between lines where there is no terminal


class Report:
    """``items: 120 of 300, 2 failed, 4.1 a second``. Use it as a context and call it after each item."""

    def __init__(self, title: str, total: int, earlier: int, failed: int) -> None:
        self.title, self.total, self.earlier = title, total, earlier
        self.done, self.failed = earlier, failed
        self.console = Console(file=sys.stderr)
        self.began = self.spoke = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Report:
        if self.console.is_terminal:
            columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=self.console)
            self._line = self._bar.add_task(self.text(), total=self.total, completed=self.done)
            self._bar.start()
        else:
            self.say()
        return self

    def __call__(self, *, failed: bool) -> None:
        self.done, self.failed = self.done + 1, self.failed + failed
        if self._bar is not None:
            self._bar.update(self._line, description=self.text(), completed=self.done)
        elif time.monotonic() - self.spoke >= PLAIN_SECONDS:
            self.say()

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self.say()

    def text(self) -> str:
        rate = (self.done - self.earlier) / max(time.monotonic() - self.began, 1e-9)
        return f"{self.title}: {self.done} of {self.total}, {self.failed} failed, {rate:.1f} a second"

    def say(self) -> None:
        self.console.print(self.text(), highlight=False, markup=False, soft_wrap=True)
        self.spoke = time.monotonic()
