"""Windows of test bins, and the summary of scores over them."""

import csv

import numpy as np
import pytest

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.streaming_scores import centered_interval
from jaxephys.spikes.windows import scored_windows, summarize_windows, write_windows

BITS: tuple[str, str] = ("a", "bits_per_spike")


def windows_of(bins, splits, seams=()):
    return scored_windows(Recording.from_array(np.eye(bins, 2), splits=splits, provenance={"seams": list(seams)}))


def test_windows_follow_the_test_split_and_end_where_other_bins_begin():
    splits = [[0, 50], [50, 80], [100, 150]]
    assert windows_of(150, splits) == [(100, 150)]
    assert windows_of(174, splits) == [(100, 150)], "a rest shorter than half a window"
    assert windows_of(175, splits) == [(100, 150), (150, 175)]
    assert windows_of(300, splits, [210]) == [(100, 150), (150, 200)], "no window contains a seam"
    assert windows_of(300, [[220, 300], [50, 80], [100, 150]]) == [(100, 150), (150, 200)], "nor training bins"


def test_the_summary_has_the_spread_and_an_interval_that_covers_it():
    rng = np.random.default_rng(0)
    alike = [{BITS: rng.normal(0.5, 0.01, 301)} for _ in range(4)]
    unlike = [{BITS: sample[BITS] + shift} for sample, shift in zip(alike, (-0.2, -0.1, 0.1, 0.2), strict=True)]
    for samples in (alike, unlike):
        values = [sample[BITS][0] for sample in samples]
        found = summarize_windows(samples)[BITS]
        assert found[:5] == pytest.approx((4, np.mean(values), np.std(values, ddof=1), min(values), max(values)))
        assert found.interval is not None and found.interval.estimate == found.mean
    narrow, wide = (summarize_windows(samples)[BITS].interval for samples in (alike, unlike))
    assert narrow is not None and wide is not None
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_one_window_has_the_interval_of_its_blocks_and_no_resamples_give_none(tmp_path):
    values = np.random.default_rng(0).normal(size=201)
    (found,) = summarize_windows([{BITS: values}]).values()
    assert found.interval == centered_interval(values[0], values[1:]) and np.isnan(found.sd)
    undefined = [{BITS: np.array([value]), ("b", "roc_auc"): np.array([np.nan])} for value in (1.0, 3.0)]
    summaries = summarize_windows(undefined)
    assert list(summaries) == [BITS] and summaries[BITS].interval is None
    write_windows(tmp_path / "windows.csv", {("x", "y", *key): summary for key, summary in summaries.items()})
    with open(tmp_path / "windows.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["model"], row["windows"], float(row["mean"]), float(row["lowest"])) == ("a", "2", 2.0, 1.0)
