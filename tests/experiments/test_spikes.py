"""The experiments on spikes, on tiny simulated populations: every pair is scored on the same bins, and reports show the scores."""

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxephys
from data_prep.spikes.load import read_folder, read_or_simulate
from data_prep.spikes.simulate import simulate_recording
from experiments import spikes_attention, spikes_generate, spikes_grid, spikes_layout, spikes_sensitivity, spikes_train
from experiments.spikes_layout import choose_network
from jaxephys.engine.grid import RunGrid
from jaxephys.reporting.labels import in_sentence, metric_label
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from jaxephys.reporting.settings import Settings
from jaxephys.spikes.baselines import ADAPTIVE_NAMES, BASELINE_NAMES, baseline_inputs
from jaxephys.spikes.causality import CausalityReport
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.forecaster import PartCounts
from jaxephys.spikes.grid import METRICS, TrainedGrid
from jaxephys.spikes.network import NetworkOptions
from jaxephys.spikes.report.transfer import PUBLISHED_AUC, group_table, pair_groups, score_matrix
from jaxephys.spikes.streaming_scores import StreamingCounts, add_bins, empty_counts

SMOKE = replace(spikes_grid.PRESETS["smoke"], networks=("population",))
TINY: dict[str, Any] = dict(populations=2, minutes=0.2, units=16, length=128, max_epochs=2, resamples=0)
ADD_BINS = jax.jit(add_bins)
TRUE = spikes_grid.TRUE_PROBABILITY


def quiet_folder(path, settings=None) -> RunFolder:
    return RunFolder(path, "test", settings or Settings(), [], Console(quiet=True))


class RunningRateForecaster:
    """A stub of trained networks that predicts the running rate of each unit: no compilation, and known scores."""

    config = SimpleNamespace(mixes_experts=False)

    def __init__(self, runs: int) -> None:
        self.runs = runs

    def count_parts(self, recording, span, *, warm_up, same_bin=None):
        scored = self.count_outcomes(recording, span, warm_up=warm_up)
        past = self.count_outcomes(recording, (max(span[0] - warm_up, 0), span[0]), warm_up=0, blocks=1)
        parts = zip(scored, past, strict=True)
        counts = StreamingCounts(*(np.concatenate(part, axis=1) for part in parts))
        return PartCounts(counts, counts)

    def without_experts(self):
        return self

    def count_outcomes(self, recording, span, *, warm_up, same_bin=None, blocks=20):
        start, stop = span
        total = empty_counts(blocks, recording.units)
        for part in baseline_inputs(recording, start, stop, max(start - warm_up, 0)):
            block = (part.start - start + np.arange(len(part.spikes))) * blocks // (stop - start)
            total = ADD_BINS(total, np.log(part.rate / (1 - part.rate)), part.spikes.astype(np.int32), block)
        return StreamingCounts(*(np.repeat(np.asarray(leaf)[None], self.runs, axis=0) for leaf in total))


class RunningRate(SpikeTransformer):
    """A stub of the estimator with this forecaster."""

    def __init__(self, result: Any) -> None:
        self.result_, self.network, self.thresholds_ = result, "population", np.zeros(len(result.grid), np.float32)
        self.forecaster_: Any = RunningRateForecaster(len(result.grid))
        self.causality_ = CausalityReport(0.0, 0.0, 7, (3, 5))

    @property
    def n_parameters_(self):
        return 5

    def generate(self, X: Any, n_bins, *, seed=0, network=0, bounded=True):
        rate = X.bits(*X.span("train")).mean(axis=0)
        return (np.random.default_rng(seed + network).random((n_bins, X.units)) < rate).astype(np.uint8)

    def save(self, folder, *, overwrite=False):
        Path(folder).mkdir()
        return Path(folder)


def untrained(folder, recordings, settings, network, losses, name=None, **fields):
    grid = RunGrid.cross(loss=losses, train_on=[r.name for r in recordings], seed=range(settings.seeds))
    curves = np.random.default_rng(0).random((len(grid), settings.max_epochs)).astype(np.float32)
    metrics = (*spikes_train.CURVES, "train_loss", "valid_objective", "valid_roc_auc")
    result: Any = SimpleNamespace(
        grid=grid, history=dict.fromkeys(metrics, curves), run_seconds=6.0, execution="a stub"
    )
    result.run_results = SimpleNamespace(best_epoch=np.ones(len(grid), int), epochs=np.ones(len(grid), int))
    return TrainedGrid(network, RunningRate(result))


def training_rate_bins(forecaster, recording, span, thresholds, runs):
    """A stub of predictions one step ahead: random spikes with the training rates."""
    assert len(thresholds) == forecaster.runs > max(runs)
    rate = recording.bits(*recording.span("train")).mean(axis=0)
    uniform = np.random.default_rng(0).random((len(runs), span[1] - span[0], recording.units))
    return (uniform < rate).astype(np.uint8)


def run_untrained(experiment, settings, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "train_grid", untrained)
        patch.setattr(experiment, "predict_next_bins", training_rate_bins, raising=False)
        experiment.run(settings, quiet_folder(path, settings))


def recordings_of(settings):
    return read_or_simulate(settings.data, settings.populations, settings.minutes, settings.units)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid")
    run_untrained(spikes_grid, SMOKE, path)
    return path, recordings_of(SMOKE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "experiment", [spikes_grid, spikes_train, spikes_generate, spikes_attention, spikes_sensitivity]
)
def test_networks_are_trained_and_saved(experiment, tmp_path):
    check_training(experiment, experiment.PRESETS["smoke"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("preset", ["paper", "legacy"])
def test_the_described_and_the_published_protocol_run_end_to_end(preset, tmp_path):
    """Everything of the preset but its size."""
    settings = replace(spikes_grid.PRESETS[preset], **TINY, seeds=2)
    check_training(spikes_grid, settings, tmp_path)
    report, scores = (tmp_path / "report.md").read_text(), read_scores(tmp_path / "scores.csv")
    names = {"paper": {spikes_grid.DESCRIBED}, "legacy": {spikes_grid.FORECAST, spikes_grid.RECONSTRUCTION}}[preset]
    tested = {score.variant for score in scores if score.split == "test"}
    assert names == {name for name in tested - {*BASELINE_NAMES, *ADAPTIVE_NAMES, TRUE} if "adapted" not in name}
    assert {score.seed for score in scores if score.variant in names} == {0, 1}
    assert "Adam as published, windows in the order of time; windows of 128 bins, 16 a step" in report
    chosen = {"paper": "the best accuracy on validation bins of the training recording", "legacy": "the last epoch"}
    assert f"Epoch: {chosen[preset]}. Threshold: on validation bins" in report
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 and all(np.isfinite(float(row["train_loss"])) for row in rows)


def check_training(experiment, settings, tmp_path):
    experiment.run(settings, quiet_folder(tmp_path, settings))
    causality = "NOT causal (outputs change by" if settings.networks == ("legacy",) else "causal; outputs depend"
    assert causality in (tmp_path / "report.md").read_text() or experiment is spikes_generate
    recordings, _ = recordings_of(settings)
    assert set(jaxephys.load(tmp_path).sources_) == {recording.name for recording in recordings}


def test_every_model_is_scored_on_every_pair_and_the_same_bins(finished):
    path, (recordings, best_scores) = finished
    scores = [score for score in read_scores(path / "scores.csv") if score.split == "test"]
    names = [recording.name for recording in recordings]
    assert len(names) == 3 and {recording.domain for recording in recordings} == {"in vitro", "in vivo"}
    for variant in ("population", "population, adapted", *BASELINE_NAMES, *ADAPTIVE_NAMES):
        for metric in METRICS:
            assert np.isfinite(score_matrix(scores, variant, metric, names)).all(), (variant, metric)
    assert len({score.n for score in scores if score.variant != TRUE}) == 1
    for name, best in best_scores.items():
        on_itself = [s for s in scores if (s.train_on, s.test_on, s.metric) == (name, name, "bits_per_spike")]
        assert max(score.value for score in on_itself if score.variant != TRUE) <= best["bits_per_spike"] + 0.02
    of_constants = [s.value for s in scores if (s.variant, s.metric) == ("training rate", "roc_auc_within_unit")]
    assert of_constants == [0.5] * 9
    for metric in METRICS:  # the stub of the networks is one of the baselines
        network, rate = (score_matrix(scores, name, metric, names) for name in ("population", "running rate"))
        np.testing.assert_allclose(network, rate, atol=1e-3)


def test_every_window_is_scored_and_thresholds_are_named(finished):
    path, (recordings, _) = finished
    scores = [score for score in read_scores(path / "scores.csv") if score.split == "window"]
    assert {score.fold for score in scores} == {0}, "simulated recordings end with their test bins"
    labels = {score.variant for score in scores if score.metric == "accuracy_on_1"}
    assert labels >= {"population, threshold of the source", "population, threshold at the target's rate"}
    assert "shared GLM, threshold of the source" not in labels
    with open(path / "windows.csv", newline="") as file:
        rows = {(row["train_on"], row["test_on"], row["model"]): row for row in csv.DictReader(file)}
    assert len({key[:2] for key in rows}) == len(recordings) ** 2
    assert any(model == "population - per-unit GLM, mixed" for _, _, model in rows)
    assert "## All test windows, population and what it consists of" in (path / "report.md").read_text()


def test_report_and_figures_are_written(finished):
    path, _ = finished
    report = (path / "report.md").read_text()
    for metric in METRICS:
        assert f"## Groups, {metric_label(metric)}\n" in report
        assert f"## Every pair, population and the best baseline, {in_sentence(metric)}\n" in report
    assert (
        "population, causality test at" in report and "causal; outputs depend" in report and "NOT causal" not in report
    )
    assert "(by channel)" in report and "| in vitro, self |" in report and "**Published.** Table 2" in report
    assert {path.stem for path in (path / "figures").glob("*.png")} == {
        "grid_roc_auc",
        "grid_roc_auc_within_unit",
        "groups_roc_auc",
        "groups_roc_auc_within_unit",
        "roc_precision_recall",
    }
    assert "## Recordings" in report and "Warning: the test parts have 2 s, less than the 150 s of the paper" in report


def test_curves_have_the_areas_of_the_scores(finished):
    path, (recordings, _) = finished
    with open(path / "figures" / "roc_precision_recall.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    first = {recording.domain: recording.name for recording in reversed(recordings)}
    pairs = {(row["train_on"], row["test_on"]) for row in rows}
    assert pairs == {(i, j) for i in first.values() for j in first.values()}
    i, j = first["in vitro"], first["in vivo"]
    of_curve = [row for row in rows if (row["model"], row["train_on"], row["test_on"]) == ("exponential", i, j)]
    x, y = ([0.0, *(float(row[key]) for row in of_curve)] for key in ("false_positive_rate", "recall"))
    scores = read_scores(path / "scores.csv")
    expected = score_matrix(scores, "exponential", "roc_auc", (i, j))[0, 1]
    assert np.trapezoid(y, x) == pytest.approx(expected, abs=5e-3), "curves are thinned"
    assert [row["model"] for row in rows if row["drawn as"] == "threshold"] == ["population"] * 4


def test_groups_are_means_over_their_pairs(finished):
    path, (recordings, _) = finished
    scores, names = read_scores(path / "scores.csv"), [recording.name for recording in recordings]
    groups = pair_groups(recordings)
    assert set(groups) <= set(PUBLISHED_AUC) and sum(len(v) for k, v in groups.items() if "training" not in k) == 9
    found = group_table(scores, recordings, ("exponential",), "roc_auc")
    row = [cell.text for cell in found.columns["group"]].index("in vitro -> in vivo")
    grid = score_matrix(scores, "exponential", "roc_auc", names)
    values = [grid[names.index(i), names.index(j)] for i, j in groups["in vitro -> in vivo"]]
    assert found.columns["exponential"][row].text == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert found.columns["published"][row].text == "0.70 ± 0.09"


def test_a_map_of_the_grid(finished, tmp_path):
    grid, (recordings, _) = finished
    settings = replace(spikes_layout.PRESETS["smoke"], grid=grid)
    spikes_layout.run(settings, quiet_folder(tmp_path, settings))
    report = (tmp_path / "report.md").read_text()
    assert "## Good to train on, easy to predict" in report and "of 4 starts found this map" in report
    assert (tmp_path / "figures" / "map.png").stat().st_size > 5000
    rows = [line for line in report.split("## Methods")[1].splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| smacof", "| gradient descent"]
    scores = read_scores(grid / "scores.csv")
    names = [recording.name for recording in recordings]
    values = score_matrix(scores, "population", "roc_auc", names)
    best = names[int(np.argmax((values.sum(axis=1) - np.diag(values)) / 2))]
    first = report.split("## Good to train on")[1].split("| ---: |\n")[1].split("|")[1].strip()
    assert first == best
    assert choose_network(["exponential", "published layer", "true probability"]) == "published layer"
    assert choose_network(["exponential", "legacy, next bin", "training rate"]) == "legacy, next bin"
    assert choose_network(["exponential"]) == "exponential" and choose_network([]) == ""
    with pytest.raises(ValueError, match="choose --variant from exponential"):
        spikes_layout.run(replace(settings, variant="nonsense"), quiet_folder(tmp_path))
    with pytest.raises(ValueError, match="finished run of spikes_grid"):
        spikes_layout.run(replace(settings, grid=tmp_path / "none"), quiet_folder(tmp_path))


@pytest.mark.slow
def test_losses_are_compared_on_the_same_recordings(tmp_path):
    settings = replace(spikes_train.PRESETS["smoke"], seeds=2)
    run_untrained(spikes_train, settings, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "| dice - bce | all recordings | +0.000 |" in report, "equal forecasts do not differ"
    assert "| dice - focal | all in vitro | +0.000 |" in report and "| dice - focal | all in vivo | +0.000 |" in report
    assert "## Recordings" in report
    assert "| dice - focal | vivo_theta | +0.000 [0.000, 0.000] |" in report
    scores = read_scores(tmp_path / "scores.csv")
    assert {(s.variant, s.seed) for s in scores} == {(loss, seed) for loss in settings.losses for seed in (0, 1)}
    figures = {"curves", "losses", "roc_precision_recall", "bars_average_precision"}
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == figures
    with open(tmp_path / "figures" / "losses.csv", newline="") as file:
        drawn = {(row["loss"], row["part"]) for row in csv.DictReader(file)}
    assert drawn == {(loss, part) for loss in settings.losses for part in ("train_loss", "valid_objective")}


def test_one_option_is_changed_at_a_time(tmp_path):
    settings = replace(spikes_sensitivity.PRESETS["smoke"], lengths=(64, 128), heads=(4, 16), seeds=2)
    changes = settings.changes
    assert settings.reference == {"length": 128, "depth": 1, "heads": 16, "dropout": 0.1}
    others = ["length 64", "depth 1", "depth 2", "heads 4", "dropout 0.3"]
    assert [change.name for change in changes] == ["reference", *others], "depth 1 is wider than the reference"
    assert [change.name for change in replace(settings, matched=False).changes] == [
        "reference",
        *others[:1],
        *others[2:],
    ]
    parameters = [settings.parameters(change, 16) for change in changes]
    assert parameters[0] == {} and parameters[1] == {"length": 64} and parameters[4] == {"network__heads": 4}
    assert parameters[3] == {"network__depth": 2, "network__hidden": 128}
    networks = [
        NetworkOptions("published", depth=depth, hidden=parameters[depth + 1]["network__hidden"]) for depth in (1, 2)
    ]
    sizes = [network.count_parameters(16) for network in networks]
    assert abs(sizes[0] - sizes[1]) < 40, "the nearest width"
    run_untrained(spikes_sensitivity, settings, tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    assert {(s.variant, s.seed) for s in scores} == {(change.name, seed) for change in changes for seed in (0, 1)}
    assert {s.train_on != s.test_on for s in scores} == {True, False}
    report = (tmp_path / "report.md").read_text()
    section = report.split("## On the training recording")[1].split("## On the other recordings")[0]
    row = next(line for line in section.splitlines() if line.startswith("| length 64 |"))
    assert row.count("+0.000") == len(METRICS), "equal forecasts do not differ"
    for name in ("sizes", "panels", "run_times"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
    with open(tmp_path / "figures" / "panels.csv", newline="") as file:
        drawn = {(row["size"], row["value"], row["split"], row["metric"]) for row in csv.DictReader(file)}
    assert {("depth", "1", "validation", "roc_auc"), ("heads", "16", "test", "average_precision")} < drawn
    times = (tmp_path / "figures" / "run_times.csv").read_text().splitlines()
    assert times[1:] == ["1,1.5", "2,1.5"], "six seconds of four runs of an epoch"


def test_described_presets_are_the_default():
    grid, train, sizes = (module.PRESETS for module in (spikes_grid, spikes_train, spikes_sensitivity))
    for settings in (
        grid["default"],
        grid["paper"],
        train["default"],
        train["paper"],
        sizes["default"],
        sizes["paper"],
    ):
        assert (settings.networks, settings.optimizer, settings.select_by) == (("published",), "published", "accuracy")
        assert settings.batch_size == 16
    assert grid["default"].loss == grid["paper"].loss == sizes["paper"].loss == "dice"
    for settings in (grid["paper"], train["paper"], sizes["paper"]):
        assert (settings.length, settings.units, settings.minutes) == (3125, 128, 10)
        assert (settings.max_epochs, settings.seeds) == (200, 10)
    assert grid["published"] is grid["legacy"] and grid["legacy"].networks == ("legacy",)
    assert grid["population"].networks == ("population", "units") and grid["population"].loss == "bce"


def test_attention_and_rasters_are_those_of_the_described_layer_by_default():
    for presets in (spikes_attention.PRESETS, spikes_generate.PRESETS):
        for settings in (presets["default"], presets["paper"]):
            assert (settings.networks, settings.optimizer, settings.batch_size) == (("published",), "published", 16)
        paper = presets["paper"]
        assert (paper.length, paper.units, paper.max_epochs, paper.seeds) == (3125, 128, 200, 10)
    assert spikes_attention.PRESETS["paper"].losses == ("dice",) and spikes_generate.PRESETS["paper"].loss == "dice"
    assert spikes_attention.PRESETS["paper"].shares == (0.5, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["published", "population"])
def test_generated_spikes_are_compared_with_the_real_ones(tmp_path, kind):
    settings = replace(spikes_generate.PRESETS["smoke"], networks=(kind,))
    run_untrained(spikes_generate, settings, tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    names = {"ONE_STEP", "BOUNDED", "FREE", "BEFORE", "POISSON", "REAL"} - (
        {"BOUNDED"} if kind == "published" else set()
    )
    assert {score.variant for score in scores} == {getattr(spikes_generate, name) for name in names}
    rate = {s.variant: s.value for s in scores if (s.test_on, s.metric) == ("vitro_bursts", "rate")}
    assert rate[spikes_generate.POISSON] < rate[spikes_generate.FREE], "its rates are those of the test bins"
    assert rate[spikes_generate.ONE_STEP] < 2 * rate[spikes_generate.FREE], "both stubs have the training rates"
    figures = {f"{figure}_{name}" for figure in ("raster", "rates") for name in ("vitro_bursts", "vivo_theta")}
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == figures
    with open(tmp_path / "figures" / "raster_vitro_bursts.csv", newline="") as file:
        panels = [row["panel"] for row in csv.DictReader(file)]
    assert list(dict.fromkeys(panels))[:2] == ["real", spikes_generate.ONE_STEP]
    assert "## Recordings" in (tmp_path / "report.md").read_text()


def test_recordings_are_read_from_a_folder(tmp_path):
    with pytest.raises(ValueError, match="data_prep spikes build"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        read_or_simulate(tmp_path / "none", 1, 0.1, 4)
    recording, _ = simulate_recording("vivo_theta", 0.2, 8, 0)
    recording.write(tmp_path)
    np.savez(tmp_path / "clusters.npz", depth=np.arange(3))  # other files are ignored
    (found,) = read_folder(tmp_path)
    assert (found.name, found.units, found.sha256) == ("vivo_theta", 8, recording.sha256)
