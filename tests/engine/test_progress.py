"""Progress is shown on terminals of 80 columns, and as lines elsewhere."""

import io
import time

import numpy as np
import pytest
from rich.console import Console

from jaxephys.engine import callbacks, progress
from jaxephys.engine.callbacks import ProgressBar
from jaxephys.engine.run_log import ProgressEvent
from jaxephys.engine.task import Status

EVENT = ProgressEvent(
    live=37,
    waiting=3,
    status=np.array([Status.RUNNING] * 37 + [Status.STOPPED_EARLY] * 13),
    best_score=np.full(50, 0.88, np.float32),
    epochs=100,
    most_epochs=300,
    run_seconds=50.0,
    compile_seconds=9.0,
    monitor="macro_f1",
    snapshot=None,
)


def make_console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)


def printed(console: Console) -> str:
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_bar_of_80_columns_shows_share_and_times():
    console = make_console(terminal=True)
    with ProgressBar("a training with a very long name", console) as bar:
        bar.announce("compiling the training of 50 runs")
        bar(EVENT)
        assert bar._bars is not None
        bar._bars.refresh()
    line = [line for line in printed(console).replace("\r", "\n").splitlines() if "25%" in line][-1]
    assert len(line.rstrip()) <= 90 and "0:00:0" in line and "left" in line, "control characters aside"
    assert "37 runs" in line and "…" in line, "only the text is cut"
    assert progress._Display.bars is None


def test_lines_name_the_longest_time_that_is_left():
    console = make_console(terminal=False)
    with ProgressBar("grid", console) as bar:
        bar.announce("compiling the training of 50 runs")
        bar._last_print = -100.0
        bar(EVENT)
    first, second = printed(console).splitlines()
    assert first == "grid: compiling the training of 50 runs"
    assert second.startswith("grid: 37 runs live, 13 ended, 3 waiting") and second.endswith(
        "2.0 epochs/s, at most 2.5 min left"
    )


def test_slow_loops_print_lines_and_fast_ones_none(monkeypatch):
    console, clock = make_console(terminal=False), iter(np.arange(0.0, 1000.0, 4.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.track(range(6), "probes", console)) == list(range(6))
    assert printed(console).splitlines() == [
        "probes: 2 of 6, about 16 s left",
        "probes: 5 of 6, about 4 s left",
        "probes: 6 of 6 in 28 s",
    ]
    fast = make_console(terminal=False)
    monkeypatch.undo()
    assert list(progress.track("ab", "letters", fast)) == ["a", "b"] and printed(fast) == ""


def test_library_code_shows_progress_only_where_a_command_has_chosen_a_console(monkeypatch):
    monkeypatch.setattr(progress, "SLOW_SECONDS", -1.0)
    console = make_console(terminal=False)
    assert list(progress.track([1], "silent")) == [1]
    progress.show_on(console)
    try:
        assert list(progress.track([1, 2], "shown")) == [1, 2]
    finally:
        progress.show_on(None)
    assert printed(console).splitlines()[-1] == "shown: 2 of 2 in 0 s"


def test_a_step_without_parts_has_a_heartbeat(monkeypatch):
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.01)
    console = make_console(terminal=False)
    with progress.step("clusters", console):
        time.sleep(0.1)
    lines = printed(console).splitlines()
    assert lines[0] == "clusters: running for 0 s" and lines[-1] == "clusters: 0 s"


def test_nested_bars_share_one_display():
    console = make_console(terminal=True)
    for _ in progress.track([1, 2], "outer", console):
        with ProgressBar("inner", console) as bar:
            assert bar._bars is progress._Display.bars is not None
        with progress.step("step", console):
            pass
    with pytest.raises(ValueError), progress.step("failing", console):
        raise ValueError
    assert progress._Display.bars is None


def test_a_training_without_an_epoch_has_no_estimate():
    assert callbacks._remaining(EVENT._replace(epochs=0)) == "" == callbacks._remaining(EVENT._replace(most_epochs=0))
