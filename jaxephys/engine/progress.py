"""Progress of long steps: one bar on a terminal, and a line every ten seconds elsewhere. Start with `track`.

Library code calls `track` or `step` without a console; they show nothing until a command has called `show_on`. Bars that are nested share
one display. Times are printed before the free text, so that a narrow terminal cuts the text and not the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

LINE_SECONDS = 10.0  # between two lines where there is no terminal
SLOW_SECONDS = 5.0  # a step that takes longer has a line
HEARTBEAT_SECONDS = 30.0  # between two lines of a step without parts
TITLE_WIDTH = 22  # characters
T = TypeVar("T")


class _Display:
    """What is shown now: the console of the command, and the bars that are open on a terminal."""

    console: Console | None = None
    bars: Progress | None = None


def show_on(console: Console | None) -> None:
    """Choose where `track` and `step` show progress when they are called without a console.

    Parameters
    ----------
    console : rich.console.Console or None
        The console; None shows nothing.
    """
    _Display.console = console


@contextmanager
def shared_bars(console: Console) -> Iterator[Progress]:
    """Open the bars of a terminal, or join those that are open already.

    Parameters
    ----------
    console : rich.console.Console
        The terminal.

    Yields
    ------
    rich.progress.Progress
        Columns: title, bar, share, elapsed and remaining time, and the field ``text``. At 80 columns the text is cut.
    """
    if _Display.bars is not None:
        yield _Display.bars
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=TITLE_WIDTH, overflow="ellipsis")),
        BarColumn(bar_width=10),
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as bars:
        _Display.bars = bars
        try:
            yield bars
        finally:
            _Display.bars = None


def track(items: Collection[T], title: str, console: Console | None = None) -> Iterator[T]:
    """Iterate over items and show how many are done and how long the rest will take.

    Parameters
    ----------
    items : collection
        What is iterated over.
    title : str
        Name of the step.
    console : rich.console.Console, optional
        Where to show it; by default the console of `show_on`, or nothing.

    Yields
    ------
    object
        The items.

    Examples
    --------
    >>> sum(track([1, 2, 3], "adding"))
    6
    """
    console = console or _Display.console
    if console is None or console.quiet:
        yield from items
    elif console.is_terminal:
        with shared_bars(console) as bars:
            task = bars.add_task(title, total=len(items), text="")
            for item in items:
                yield item
                bars.advance(task)
            bars.remove_task(task)
    else:
        yield from _print_lines(items, title, console)


@contextmanager
def step(title: str, console: Console | None = None) -> Iterator[None]:
    """Show that a step without countable parts is running, and for how long.

    Parameters
    ----------
    title : str
        Name of the step.
    console : rich.console.Console, optional
        Where to show it; by default the console of `show_on`, or nothing.

    Yields
    ------
    None
        Nothing; the step is the body of the ``with`` statement.
    """
    console = console or _Display.console
    if console is None or console.quiet:
        yield
    elif console.is_terminal:
        with shared_bars(console) as bars:
            task = bars.add_task(title, total=None, text="")
            yield
            bars.remove_task(task)
    else:
        start, done = time.monotonic(), threading.Event()
        thread = threading.Thread(target=_print_heartbeat, args=(title, console, start, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if (seconds := time.monotonic() - start) > SLOW_SECONDS:
            _print(console, f"{title}: {format_seconds(seconds)}")


def format_seconds(seconds: float) -> str:
    """Return a duration in words.

    Parameters
    ----------
    seconds : float
        Duration in seconds.

    Returns
    -------
    str
        Seconds up to a minute and a half, minutes up to an hour and a half, then hours.

    Examples
    --------
    >>> format_seconds(42.3), format_seconds(150.0), format_seconds(9000.0)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"


def _print_lines(items: Collection[T], title: str, console: Console) -> Iterator[T]:
    """Yield the items; print a line after five seconds and then every ten, and one at the end of a slow step."""
    start = time.monotonic()
    next_line = start + SLOW_SECONDS
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now >= next_line and done < len(items):
            left = (now - start) / done * (len(items) - done)
            _print(console, f"{title}: {done} of {len(items)}, about {format_seconds(left)} left")
            next_line = now + LINE_SECONDS
    if (seconds := time.monotonic() - start) > SLOW_SECONDS:
        _print(console, f"{title}: {len(items)} of {len(items)} in {format_seconds(seconds)}")


def _print_heartbeat(title: str, console: Console, start: float, done: threading.Event) -> None:
    wait = SLOW_SECONDS
    while not done.wait(wait):
        _print(console, f"{title}: running for {format_seconds(time.monotonic() - start)}")
        wait = HEARTBEAT_SECONDS


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
