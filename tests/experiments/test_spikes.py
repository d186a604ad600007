"""The experiments on spikes, on tiny simulated populations: every pair is scored on the same bins, and reports show the scores."""

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
from jaxephys.engine.grid import RunGrid
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from jaxephys.reporting.settings import Settings
from jaxephys.spikes.baselines import BASELINE_NAMES, baseline_inputs
from jaxephys.spikes.causality import CausalityReport
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.grid import METRICS, TrainedGrid
from jaxephys.spikes.report.transfer import PUBLISHED_AUC, group_table, pair_groups, score_matrix
from jaxephys.spikes.streaming_scores import StreamingCounts, add_bins, empty_counts

SMOKE = spikes_grid.PRESETS["smoke"]
ADD_BINS = jax.jit(add_bins)
TRUE = spikes_grid.TRUE_PROBABILITY


def quiet_folder(path, settings=None) -> RunFolder:
    return RunFolder(path, "test", settings or Settings(), [], Console(quiet=True))


class RunningRateForecaster:
    """A stub of trained networks that predicts the running rate of each unit: no compilation, and known scores."""

    def __init__(self, runs: int) -> None:
        self.runs = runs

    def without_experts(self):
        return self

    def count_outcomes(self, recording, span, *, warm_up, same_bin=None):
        (start, stop), blocks = span, 20
        total = empty_counts(blocks, recording.units)
        for part in baseline_inputs(recording, start, stop, max(start - warm_up, 0)):
            block = (part.start - start + np.arange(len(part.spikes))) * blocks // (stop - start)
            total = ADD_BINS(total, np.log(part.rate / (1 - part.rate)), part.spikes.astype(np.int32), block)
        return StreamingCounts(*(np.repeat(np.asarray(leaf)[None], self.runs, axis=0) for leaf in total))


class RunningRate(SpikeTransformer):
    """A stub of the estimator with this forecaster."""

    def __init__(self, result: Any) -> None:
        self.result_ = result
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
    result: Any = SimpleNamespace(grid=grid, history=dict.fromkeys(spikes_train.CURVES, curves))
    return TrainedGrid(network, RunningRate(result))


def run_untrained(experiment, settings, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "train_grid", untrained)
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
    settings = experiment.PRESETS["smoke"]
    experiment.run(settings, quiet_folder(tmp_path, settings))
    assert "causal; outputs depend" in (tmp_path / "report.md").read_text() or experiment is spikes_generate
    recordings, _ = recordings_of(settings)
    assert set(jaxephys.load(tmp_path).sources_) == {recording.name for recording in recordings}


def test_every_model_is_scored_on_every_pair_and_the_same_bins(finished):
    path, (recordings, best_scores) = finished
    scores = [score for score in read_scores(path / "scores.csv") if score.split == "test"]
    names = [recording.name for recording in recordings]
    assert len(names) == 3 and {recording.domain for recording in recordings} == {"in vitro", "in vivo"}
    for variant in ("population", *BASELINE_NAMES):
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


def test_report_and_figures_are_written(finished):
    path, _ = finished
    report = (path / "report.md").read_text()
    for metric in METRICS:
        assert f"## Groups, {metric_label(metric)}\n" in report
    assert "## Every pair, population and the baselines" in report
    assert (
        "population, causality test at" in report and "causal; outputs depend" in report and "NOT causal" not in report
    )
    assert "training rate (by channel)" in report
    assert {path.stem for path in (path / "figures").glob("*.png")} == {"grid_roc_auc", "grid_roc_auc_within_unit"}


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
    scores = read_scores(grid / "scores.csv")
    names = [recording.name for recording in recordings]
    values = score_matrix(scores, "population", "roc_auc", names)
    best = names[int(np.argmax((values.sum(axis=1) - np.diag(values)) / 2))]
    first = report.split("## Good to train on")[1].split("| ---: |\n")[1].split("|")[1].strip()
    assert first == best
    with pytest.raises(ValueError, match="choose --variant from exponential"):
        spikes_layout.run(replace(settings, variant="nonsense"), quiet_folder(tmp_path))
    with pytest.raises(ValueError, match="finished run of spikes_grid"):
        spikes_layout.run(replace(settings, grid=tmp_path / "none"), quiet_folder(tmp_path))


def test_losses_are_compared_on_the_same_recordings(tmp_path):
    settings = replace(spikes_train.PRESETS["smoke"], seeds=2)
    run_untrained(spikes_train, settings, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "| dice - bce | all recordings | +0.000 |" in report, "equal forecasts do not differ"
    assert "| dice - focal | vivo_theta | +0.000 [0.000, 0.000] |" in report
    scores = read_scores(tmp_path / "scores.csv")
    assert {(s.variant, s.seed) for s in scores} == {(loss, seed) for loss in settings.losses for seed in (0, 1)}
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {"curves", "bars_average_precision"}


def test_one_option_is_changed_at_a_time(tmp_path):
    settings = replace(spikes_sensitivity.PRESETS["smoke"], lengths=(64, 128), depths=(1, 2), seeds=2)
    changes = settings.changes
    assert settings.reference == {"length": 128, "depth": 1, "heads": 2, "dropout": 0.1}
    assert [change.name for change in changes] == ["reference", "length 64", "depth 2", "dropout 0.3"]
    run_untrained(spikes_sensitivity, settings, tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    assert {(s.variant, s.seed) for s in scores} == {(change.name, seed) for change in changes for seed in (0, 1)}
    assert {s.train_on != s.test_on for s in scores} == {True, False}
    report = (tmp_path / "report.md").read_text()
    section = report.split("## On the training recording")[1].split("## On the other recordings")[0]
    row = next(line for line in section.splitlines() if line.startswith("| length 64 |"))
    assert row.count("+0.000") == len(METRICS), "equal forecasts do not differ"
    assert (tmp_path / "figures" / "sizes.png").stat().st_size > 5000


def test_generated_spikes_are_compared_with_the_real_ones(tmp_path):
    settings = spikes_generate.PRESETS["smoke"]
    run_untrained(spikes_generate, settings, tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    names = ("BOUNDED", "FREE", "BEFORE", "POISSON", "REAL")
    assert {score.variant for score in scores} == {getattr(spikes_generate, name) for name in names}
    rate = {s.variant: s.value for s in scores if (s.test_on, s.metric) == ("vitro_bursts", "rate")}
    assert rate[spikes_generate.POISSON] < rate[spikes_generate.BOUNDED], "its rates are those of the test bins"
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {"raster_vitro_bursts", "raster_vivo_theta"}


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
