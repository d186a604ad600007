"""Figures and tables of the reports on spikes: curves, groups with intervals, recordings, rates and intervals."""

import csv

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from jaxephys.evaluation.intervals import Interval
from jaxephys.reporting.pairs import pair_interval
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.report.curves import (
    RATE_BASELINE,
    RecordingPair,
    curve_points,
    draw_ranking_curves,
    operating_point,
    rank_bins,
    rank_by_training_rate,
    representative_pairs,
)
from jaxephys.spikes.report.generation import draw_rates_and_intervals
from jaxephys.spikes.report.group_bars import draw_group_bars
from jaxephys.spikes.report.recordings import recordings_table
from jaxephys.spikes.spike_statistics import compute_statistics
from jaxephys.spikes.streaming_scores import (
    add_bins,
    choose_threshold,
    compute_scores,
    empty_counts,
    histogram_bin,
    histogram_logit,
)

BINS, UNITS, LEVELS = 1000, 3, 64
RNG = np.random.default_rng(0)
SPIKES = (RNG.random((BINS, UNITS)) < 0.1).astype(np.int32)
INDEX = np.asarray(histogram_bin(RNG.normal(-4, 2, (BINS, UNITS)) + SPIKES, LEVELS))
LOGITS = histogram_logit(INDEX.ravel() + 0.5, LEVELS).reshape(
    INDEX.shape
)  # in the middle of a bin of the histogram, so that scores are exact
PAIR = RecordingPair("in vitro, self", "a", "a")


@pytest.fixture(scope="module")
def counts():
    return add_bins(empty_counts(2, UNITS, LEVELS), LOGITS, SPIKES, np.arange(BINS) // 500)


def read_csv(png):
    with open(png.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


def recording_of(name, domain, seconds=1.0, rate=0.1, provenance=None):
    bins = round(4000 * seconds)
    splits = [[0, bins // 2], [bins // 2, 3 * bins // 4], [3 * bins // 4, bins]]
    spikes = np.random.default_rng(len(name)).random((bins, UNITS)) < rate * np.array([0.2, 1, 2])
    return Recording.from_array(spikes, name=name, domain=domain, splits=splits, provenance=provenance)


def test_curves_are_those_of_scikit_learn(counts):
    (ranked,) = rank_bins([PAIR], "a", "a", {"model": counts})
    points = curve_points(ranked.histogram)
    spikes, logits = SPIKES.ravel(), LOGITS.ravel()
    false_positive_rate, recall, _ = roc_curve(spikes, logits, drop_intermediate=False)
    np.testing.assert_allclose(points.false_positive_rate, false_positive_rate[1:])
    np.testing.assert_allclose(points.recall, recall[1:])
    precision = precision_recall_curve(spikes, logits)[0]
    np.testing.assert_allclose(points.precision, precision[:-1][::-1])
    scores = compute_scores(counts)
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(spikes, logits))
    assert scores["average_precision"] == pytest.approx(average_precision_score(spikes, logits))


def test_the_operating_point_is_that_of_the_thresholded_predictions(counts):
    points = curve_points(rank_bins([PAIR], "a", "a", {"model": counts})[0].histogram)
    for threshold in (choose_threshold(counts), float(np.float32(choose_threshold(counts))), -4.0, -30.0):
        predicted = threshold <= LOGITS
        found = operating_point(points, threshold)
        expected = predicted[SPIKES == 0].mean(), predicted[SPIKES == 1].mean(), SPIKES[predicted].mean()
        np.testing.assert_allclose(found, expected)
    assert operating_point(points, 1e9)[:2] == (0, 0)


def test_only_chosen_pairs_are_kept_and_the_first_recording_represents_its_domain(counts):
    recordings = [recording_of(*names) for names in (("a", "in vitro"), ("bb", "in vivo"), ("ccc", "in vivo"))]
    pairs = representative_pairs(recordings)
    assert [(pair.group, *pair[1:]) for pair in pairs] == [
        ("in vitro, self", "a", "a"),
        ("in vivo, self", "bb", "bb"),
        ("in vitro -> in vivo", "a", "bb"),
        ("in vivo -> in vitro", "bb", "a"),
    ]
    assert representative_pairs(recordings, transfer=False) == pairs[:2]
    assert rank_bins(pairs, "ccc", "ccc", {"model": counts}) == []
    assert [one.model for one in rank_bins(pairs, "a", "bb", {"x": counts, "y": counts})] == ["x", "y"]


def test_the_training_rate_is_ranked_as_a_constant_of_each_unit():
    recording = recording_of("a", "in vitro")
    ranked = rank_by_training_rate(PAIR, recording)
    rate = recording.bits(*recording.span("train")).mean(axis=0)
    spikes = recording.bits(*recording.span("test"))
    points = curve_points(ranked.histogram)
    area = np.trapezoid(np.append(0, points.recall), np.append(0, points.false_positive_rate))
    assert area == pytest.approx(roc_auc_score(spikes.ravel(), np.broadcast_to(rate, spikes.shape).ravel()))


def test_curves_are_drawn_with_the_threshold(counts, tmp_path):
    threshold = choose_threshold(counts)
    ranked = rank_bins([PAIR], "a", "a", {"model": counts, RATE_BASELINE: counts}, {"model": threshold})
    rows = read_csv(draw_ranking_curves(tmp_path, ranked, published={PAIR.group: "0.93 ± 0.05"}))
    (marked,) = [row for row in rows if row["drawn as"] == "threshold"]
    predicted = threshold <= LOGITS
    assert marked["model"] == "model" and float(marked["recall"]) == pytest.approx(predicted[SPIKES == 1].mean())
    last = [row for row in rows if row["model"] == RATE_BASELINE][-1]
    assert (float(last["false_positive_rate"]), float(last["recall"])) == (1, 1)


NAMES = ("a", "b", "c", "x", "y", "z")
MATRIX = np.random.default_rng(1).uniform(0.5, 1, (6, 6))
SELF = [(name, name) for name in NAMES[:3]]
OTHERS = [(i, j) for i in NAMES[:3] for j in NAMES[:3] if i != j]
ACROSS = [(i, j) for i in NAMES[:3] for j in NAMES[3:]]


def group_interval(matrix, names, pairs):
    return pair_interval({(i, j): matrix[names.index(i), names.index(j)] for i, j in pairs})


@pytest.mark.parametrize("pairs", [SELF, OTHERS, ACROSS])
def test_an_interval_over_recordings_contains_the_mean_over_pairs(pairs):
    values = [MATRIX[NAMES.index(i), NAMES.index(j)] for i, j in pairs]
    interval = group_interval(MATRIX, NAMES, pairs)
    assert interval is not None and interval.estimate == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= interval.low < interval.estimate < interval.high <= max(values) + 1e-9
    assert interval == group_interval(MATRIX, NAMES, pairs)
    constant = group_interval(np.full((6, 6), 0.7), NAMES, pairs)
    assert constant is not None and (constant.low, constant.high) == pytest.approx((0.7, 0.7))


def test_recordings_of_one_domain_are_drawn_as_source_and_target_together():
    interval = group_interval(MATRIX, NAMES, OTHERS)
    both = [(MATRIX[i, j] + MATRIX[j, i]) / 2 for i, j in ((0, 1), (0, 2), (1, 2))]  # what is left if one is not drawn
    assert interval is not None and (interval.low, interval.high) == pytest.approx((min(both), max(both)))


def test_an_interval_is_wider_if_recordings_differ_than_if_only_pairs_do():
    effect = np.array([-1, 0, 1, -1, 0, 1]) * 0.1
    of_sources = 0.7 + effect[:, None] + 0 * MATRIX
    shuffled = 0.7 + np.random.default_rng(0).permutation(np.resize(effect, 36)).reshape(6, 6)
    wide, narrow = (group_interval(matrix, NAMES, ACROSS) for matrix in (of_sources, shuffled))
    assert wide is not None and narrow is not None
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    missing = MATRIX.copy()
    missing[0, 3] = np.nan
    assert group_interval(missing, NAMES, ACROSS) is None and group_interval(MATRIX, NAMES, SELF[:2]) is None


def test_bars_show_means_intervals_and_published_values(tmp_path):
    groups = {"in vitro, self": SELF[:1], "in vitro -> in vivo": ACROSS}
    blocks = {("a", "a", "network", "roc_auc"): Interval(0.8, 0.7, 0.9)}
    matrices = {"network": MATRIX, "training rate": MATRIX - 0.1}
    options = {"baselines": ("training rate",), "published": {"in vitro, self": "0.93 ± 0.05"}}
    rows = read_csv(draw_group_bars(tmp_path, matrices, NAMES, groups, "roc_auc", block_intervals=blocks, **options))
    by_key = {(row["group"], row["model"]): row for row in rows}
    single = by_key["in vitro, self", "network"]
    assert (float(single["mean"]), float(single["low"]), float(single["high"])) == (MATRIX[0, 0], 0.7, 0.9)
    assert single["published"] == "0.93 ± 0.05" and by_key["in vitro, self", "training rate"]["low"] == "nan"
    across = by_key["in vitro -> in vivo", "training rate"]
    assert float(across["mean"]) == pytest.approx(MATRIX[:3, 3:].mean() - 0.1)
    assert float(across["low"]) < float(across["mean"]) < float(across["high"])


def test_the_table_of_recordings_warns_of_short_test_parts():
    short = recording_of("short", "in vitro", 40, 0.01, {"region": "cortex", "identifier": "slice 1"})
    long = recording_of("long", "in vivo", 150, 0.01)
    simulated = recording_of("made", "in vivo", 1, 0.01, {"source": "simulated"})
    table = recordings_table([short, long, simulated])
    texts = {heading: [cell.text for cell in cells] for heading, cells in table.columns.items()}
    assert texts["region"] == ["cortex", "unknown", "simulated"] and texts["identifier"][0] == "slice 1"
    assert texts["test (s)"] == ["40", "150", "1"] and texts["train (s)"][0] == "80"
    assert table.notes[0].startswith("Warning: the test parts of short, made have 1 to 40 s, less than the 150 s")
    assert "--long-test" in table.notes[0] and "--minutes 10" in table.notes[0]
    assert recordings_table([long]).notes == ["All test parts have the 150 s of the paper or more."]
    assert "--long-test" not in recordings_table([simulated]).notes[0]


def test_rates_and_intervals_are_drawn_for_every_raster(tmp_path):
    recording = recording_of("a", "in vitro")
    statistics = {
        "real": compute_statistics(recording.bits(*recording.span("test")), 1.0),
        "generated": compute_statistics(recording.bits(*recording.span("validation")), 1.0),
    }
    rows = read_csv(draw_rates_and_intervals(tmp_path, recording, statistics))
    for name, of_name in statistics.items():
        rates = [float(row["value"]) for row in rows if (row["spikes"], row["quantity"]) == (name, "rate (Hz)")]
        np.testing.assert_allclose(rates, of_name.rate)
        shares = [row for row in rows if (row["spikes"], row["quantity"]) == (name, "share of intervals per decade")]
        longest = max(intervals.max() for one in statistics.values() for intervals in one.intervals)
        edges = np.log10([*(float(row["unit or interval"]) for row in shares), longest + 0.5])
        density = np.array([float(row["value"]) for row in shares])
        assert density @ np.diff(edges) == pytest.approx(1), "every interval is in the histogram"
