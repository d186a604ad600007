"""Scores of one fitted model on successive windows of a recording, and their spread.

One window of test bins may be easier than others. The origin of the forecasts therefore rolls on: :func:`scored_windows` lists the test
split and all windows of its length after it, each of which is read after the bins before it, and :func:`summarize_windows` gives mean,
spread and an interval over them. The models are fitted once, on bins before the first window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxephys.evaluation.intervals import Interval, mean_sd
from jaxephys.reporting.files import write_csv
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.streaming_scores import centered_interval

SHORTEST = 0.5  # of the test split: a shorter rest of a recording is no window
Windows = dict[
    tuple[str, str, str, str], "WindowSummary"
]  # training recording, test recording, model or "a - b", metric


class WindowSummary(NamedTuple):
    """A score on several windows of a recording.

    Parameters
    ----------
    n_windows : int
        Number of windows.
    mean, sd : float
        Mean and sample standard deviation over windows; the latter is nan for one window.
    lowest, highest : float
        Range over windows.
    interval : Interval or None
        The mean with its 95 % interval, see `summarize_windows`; None without resamples.
    """

    n_windows: int
    mean: float
    sd: float
    lowest: float
    highest: float
    interval: Interval | None


def scored_windows(recording: Recording) -> list[tuple[int, int]]:
    """Return the test split and the windows of its length that follow it.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    list of (int, int)
        First bin, and bin after the last, of each window. They end with the recording, or before a later split or seam. The last
        may be shorter, down to half the length.

    Examples
    --------
    >>> import numpy as np
    >>> recording = Recording.from_array(np.eye(260, 3), splits=[[0, 60], [60, 90], [100, 150]])
    >>> scored_windows(recording)
    [(100, 150), (150, 200), (200, 250)]
    """
    start, stop = recording.span("test")
    length = stop - start
    limits = [bound for bound in (*recording.splits[:, 0].tolist(), *recording.seams) if bound >= stop]
    end = min([*limits, len(recording)])
    windows = [(first, min(first + length, end)) for first in range(start, end, length)]
    return [window for window in windows if window[1] - window[0] >= SHORTEST * length]


def summarize_windows(
    samples: Sequence[Mapping[tuple[str, str], Float[np.ndarray, "resample"]]], seed: int = 0
) -> dict[tuple[str, str], WindowSummary]:
    """Summarize scores, and differences between models, over windows.

    Parameters
    ----------
    samples : sequence of mapping of (str, str) to float array of shape (1 + resamples,)
        For each window the result of :func:`jaxephys.spikes.streaming_scores.resample_blocks`; a score
        that was not resampled in every window has no interval.
    seed : int
        Seed of the draws of windows.

    Returns
    -------
    dict of (str, str) to WindowSummary
        By (model, score) and ("a - b", score).

    Notes
    -----
    A resample draws windows with replacement, and blocks within each of them: the interval of the mean covers the differences between
    windows as well. With few windows it is a rough one.
    """
    n_windows, summaries = len(samples), {}
    for key in (key for key in samples[0] if all(key in window for window in samples)):
        n_resamples = min(len(window[key]) for window in samples) - 1
        values = np.array([window[key][: 1 + n_resamples] for window in samples])
        by_window = values[np.isfinite(values[:, 0]), 0]  # without spikes a window has no score
        if not len(by_window):
            continue
        mean, sd = mean_sd(by_window)
        interval = None
        if n_resamples:  # the same draws for all models
            draws = np.random.default_rng(seed).integers(n_windows, size=(n_resamples, n_windows))
            resampled = np.nanmean(values[draws, np.arange(1, n_resamples + 1)[:, None]], axis=1)
            interval = centered_interval(mean, resampled)
        summaries[key] = WindowSummary(len(by_window), mean, sd, by_window.min(), by_window.max(), interval)
    return summaries


def write_windows(path: Path, windows: Windows) -> None:
    """Write scores over windows to a CSV file.

    Parameters
    ----------
    path : Path
        File to write.
    windows : dict
        Summaries by training recording, test recording, model and metric.
    """
    columns = ("train_on", "test_on", "model", "metric", "windows", "mean", "sd", "lowest", "highest", "low", "high")
    rows = []
    for key, (*spread, interval) in windows.items():
        rows.append((*key, *spread, *(interval[1:] if interval else (np.nan, np.nan))))
    write_csv(path, columns, rows)
