"""The spike experiments on tiny simulated populations: every pair is scored, on the same bins, and the tables say what is in the scores."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxephys
from data_prep.spikes.recording import write_recording
from data_prep.spikes.simulate import simulate_one
from experiments import spikes_attention, spikes_generate, spikes_grid, spikes_layout, spikes_sensitivity, spikes_train
from jaxephys.engine.grid import RunGrid
from jaxephys.reporting.run_folder import RunFolder, Settings
from jaxephys.reporting.score_table import read_scores
from jaxephys.spikes.baselines import NAMES, gather
from jaxephys.spikes.causality import Leak
from jaxephys.spikes.grid import (
    METRICS,
    SpikeSettings,
    check_same_bins,
    intervals_of,
    label,
    read_folder,
    read_recordings,
    scored_bins,
    training_bins,
)
from jaxephys.spikes.report import PUBLISHED, grid_of, group_table, groups_of, pair_table, paired
from jaxephys.spikes.streaming_scores import Tally, empty_tally, fold

SMOKE = spikes_grid.PRESETS["smoke"]
FOLD = jax.jit(fold)


def quiet_folder(path, settings=None) -> RunFolder:
    return RunFolder(path, "test", settings or Settings(), [], Console(quiet=True))


class RunningRate:
    """Stands where trained networks do, and says the running rate of each unit: no compilation, and known scores."""

    leak_ = Leak(0.0, 0.0, 7, (3, 5))

    def __init__(self, runs: int) -> None:
        self.runs, self.forecaster_ = runs, self
        self.fitted = SimpleNamespace(variables={"params": np.zeros((runs, 5))})

    def plain(self):
        return self

    def tally(self, recording, span, *, warm_up, same_bin=None):
        (start, stop), blocks = span, 20
        total = empty_tally(blocks, recording.units)
        for part in gather(recording, start, stop, max(start - warm_up, 0)):
            block = (part.start - start + np.arange(len(part.spikes))) * blocks // (stop - start)
            total = FOLD(total, np.log(part.rate / (1 - part.rate)), part.spikes.astype(np.int32), block)
        return Tally(*(np.repeat(np.asarray(leaf)[None], self.runs, axis=0) for leaf in total))

    def generate(self, recording, bins, *, seed, network, kept):
        rate = recording.bits(*recording.span("train")).mean(axis=0)
        return (np.random.default_rng(seed + network).random((bins, recording.units)) < rate).astype(np.uint8)

    def save(self, path, overwrite):
        path.mkdir()


def untrained(folder, recordings, settings, network, losses, name=None, **fields):
    axis = RunGrid.cross(loss=losses, train_on=[r.name for r in recordings], seed=range(settings.seeds))
    curves = np.random.default_rng(0).random((len(axis), settings.max_epochs)).astype(np.float32)
    return RunningRate(len(axis)), SimpleNamespace(axis=axis, history=dict.fromkeys(spikes_train.CURVES, curves))


def run_untrained(experiment, settings, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "train_networks", untrained)
        experiment.run(settings, quiet_folder(path, settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid")
    run_untrained(spikes_grid, SMOKE, path)
    return path, read_recordings(SMOKE, quiet_folder(path))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "experiment", [spikes_grid, spikes_train, spikes_generate, spikes_attention, spikes_sensitivity]
)
def test_the_networks_train_and_are_saved(experiment, tmp_path):
    settings = experiment.PRESETS["smoke"]
    experiment.run(settings, quiet_folder(tmp_path, settings))
    assert "causal; outputs depend" in (tmp_path / "report.md").read_text() or experiment is spikes_generate
    recordings, _ = read_recordings(settings, quiet_folder(tmp_path))
    assert set(jaxephys.load(tmp_path).sources_) == {recording.name for recording in recordings}


def test_every_model_is_scored_on_every_pair_and_the_same_bins(finished):
    path, (recordings, truth) = finished
    scores = [score for score in read_scores(path / "scores.csv") if score.split == "test"]
    names = [recording.name for recording in recordings]
    assert len(names) == 3 and {recording.domain for recording in recordings} == {"in vitro", "in vivo"}
    for variant in ("population", *NAMES):
        for metric in METRICS:
            assert np.isfinite(grid_of(scores, variant, metric, names)).all(), (variant, metric)
    assert len({score.n for score in scores if score.variant != "truth"}) == 1
    for name, best in truth.items():
        own = [s for s in scores if (s.train_on, s.test_on, s.metric) == (name, name, "bits_per_spike")]
        assert max(score.value for score in own if score.variant != "truth") <= best["bits_per_spike"] + 0.02
    of_constants = [s.value for s in scores if (s.variant, s.metric) == ("training rate", "roc_auc_within_unit")]
    assert of_constants == [0.5] * 9
    for metric in METRICS:  # what stands in for networks is one of the baselines
        np.testing.assert_allclose(
            *(grid_of(scores, name, metric, names) for name in ("population", "running rate")), atol=1e-3
        )


def test_the_report_and_its_figures_are_there(finished):
    path, _ = finished
    report = (path / "report.md").read_text()
    for metric in METRICS:
        assert f"## Groups, {metric}\n" in report
    assert "## Every pair, population beside the baselines" in report
    assert "population, leak test at" in report and "causal; outputs depend" in report and "LEAKS" not in report
    assert "training rate (by channel)" in report
    assert {path.stem for path in (path / "figures").glob("*.png")} == {"grid_roc_auc", "grid_roc_auc_within_unit"}


def test_the_groups_are_means_over_their_pairs(finished):
    path, (recordings, _) = finished
    scores, names = read_scores(path / "scores.csv"), [recording.name for recording in recordings]
    groups = groups_of(recordings)
    assert set(groups) <= set(PUBLISHED) and sum(len(v) for k, v in groups.items() if "training" not in k) == 9
    found = group_table(scores, recordings, ("exponential",), "roc_auc")
    row = [cell.text for cell in found.columns["group"]].index("in vitro -> in vivo")
    grid = grid_of(scores, "exponential", "roc_auc", names)
    values = [grid[names.index(i), names.index(j)] for i, j in groups["in vitro -> in vivo"]]
    assert found.columns["exponential"][row].text == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert found.columns["published"][row].text == "0.70 ± 0.09"


def test_the_map_of_the_grid(finished, tmp_path):
    grid, (recordings, _) = finished
    settings = replace(spikes_layout.PRESETS["smoke"], grid=grid)
    spikes_layout.run(settings, quiet_folder(tmp_path, settings))
    report = (tmp_path / "report.md").read_text()
    assert "## Good to train on, easy to predict" in report and "of 4 starts found this map" in report
    assert (tmp_path / "figures" / "map.png").stat().st_size > 5000
    scores = read_scores(grid / "scores.csv")
    names = [recording.name for recording in recordings]
    values = grid_of(scores, "population", "roc_auc", names)
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
    assert "| dice - bce | all recordings | +0.000 |" in report, "the same forecasts do not differ"
    assert "| dice - focal | vivo_theta | +0.000 [0.000, 0.000] |" in report
    scores = read_scores(tmp_path / "scores.csv")
    assert {(s.variant, s.seed) for s in scores} == {(loss, seed) for loss in settings.losses for seed in (0, 1)}
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {"curves", "bars_average_precision"}


def test_one_size_is_changed_at_a_time(tmp_path):
    settings = replace(spikes_sensitivity.PRESETS["smoke"], lengths=(64, 128), depths=(1, 2), seeds=2)
    reference, trials = spikes_sensitivity.settings_of(settings)
    assert reference == {"length": 128, "depth": 1, "heads": 2, "dropout": 0.1}
    assert [trial.name for trial in trials] == ["reference", "length 64", "depth 2", "dropout 0.3"]
    run_untrained(spikes_sensitivity, settings, tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    assert {(s.variant, s.seed) for s in scores} == {(trial.name, seed) for trial in trials for seed in (0, 1)}
    assert {s.train_on != s.test_on for s in scores} == {True, False}
    report = (tmp_path / "report.md").read_text()
    own = report.split("## On its own recording")[1].split("## On the others")[0]
    row = next(line for line in own.splitlines() if line.startswith("| length 64 |"))
    assert row.count("+0.000") == len(METRICS), "the same forecasts do not differ"
    assert (tmp_path / "figures" / "sizes.png").stat().st_size > 5000


def test_a_difference_between_losses_has_its_p_value():
    a = np.array([0.5, 0.6, 0.7, 0.9])
    assert paired(a, a - [0.1, 0.12, 0.09, 0.11]) == "+0.105, p = 0.00051"
    assert paired(a[:2], a[:2] - 0.1) == "+0.100"
    assert paired(a, a) == "+0.000"


def test_generated_spikes_are_compared_with_the_real_ones(tmp_path):
    settings = spikes_generate.PRESETS["smoke"]
    run_untrained(spikes_generate, settings, tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    names = ("NETWORK", "FREE", "BEFORE", "POISSON", "REAL")
    assert {score.variant for score in scores} == {getattr(spikes_generate, name) for name in names}
    rate = {s.variant: s.value for s in scores if (s.test_on, s.metric) == ("vitro_bursts", "rate")}
    assert rate[spikes_generate.POISSON] < rate[spikes_generate.NETWORK], "it has its rates from the very bins"
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {"raster_vitro_bursts", "raster_vivo_theta"}


def test_recordings_are_read_from_a_folder(tmp_path):
    with pytest.raises(ValueError, match="data_prep spikes build"):
        read_folder(tmp_path, quiet_folder(tmp_path))
    with pytest.raises(ValueError, match="there is no folder"):
        read_recordings(SpikeSettings(data=tmp_path / "none"), quiet_folder(tmp_path))
    prepared, _ = simulate_one("vivo_theta", 0.2, 8, 0)
    write_recording(prepared, tmp_path)
    np.savez(tmp_path / "clusters.npz", depth=np.arange(3))  # what else lies there is not read
    (found,) = read_folder(tmp_path, quiet_folder(tmp_path))
    assert (found.name, found.units, found.sha256) == ("vivo_theta", 8, prepared.sha256)


def test_the_scored_bins_are_the_test_split(finished):
    _, (recordings, _) = finished
    recording = recordings[0]
    bins = scored_bins(recording, 1000)
    assert (bins.start, bins.stop) == recording.span("test") and bins.span == (bins.start - 1000, bins.stop)
    block_of = bins.block_of(len(recording))
    assert (np.flatnonzero(block_of >= 0) == np.arange(bins.start, bins.stop)).all()
    assert (np.diff(block_of[bins.start : bins.stop]) >= 0).all() and block_of.max() == 19
    known = training_bins(recording, 10**9)
    assert known.span[0] == 0 and known.stop == recording.span("train")[1]
    assert known.stop - known.start == bins.stop - bins.start


def planted(seed: int, shift: float = 0.0):
    rng = np.random.default_rng(0)
    truth = rng.normal(-3, 1.5, (4000, 3)).astype(np.float32)
    spikes = (rng.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.int32)
    logit = truth + shift * np.random.default_rng(seed).normal(size=truth.shape).astype(np.float32)
    return FOLD(empty_tally(5, 3), jnp.asarray(logit), jnp.asarray(spikes), jnp.arange(4000) * 5 // 4000)


def test_differences_are_paired_and_models_must_share_their_bins():
    good, same, bad = planted(0), planted(0), planted(1, 2.0)
    found = intervals_of({"population": good, "twin": same, "shared GLM": bad}, "a", "b", 20)
    assert found["a", "b", "population - twin", "roc_auc"] == (0, 0, 0)
    assert found["a", "b", "population - shared GLM", "roc_auc"].low > 0
    assert not any(name.startswith("shared GLM -") for _, _, name, _ in found)
    table = pair_table([], found, ["a", "b"][:0], ["population", "twin"])
    assert set(table.columns) >= {"model", "population minus it, AUC"}
    check_same_bins({"one": good, "two": bad})
    fewer = FOLD(empty_tally(5, 3), jnp.zeros((10, 3)), jnp.zeros((10, 3), jnp.int32), jnp.zeros(10, jnp.int32))
    with pytest.raises(RuntimeError, match="two was not scored on the bins of one"):
        check_same_bins({"one": good, "two": fewer})


def test_what_pairs_strangers_says_so():
    assert label("per-unit GLM", "a", "b") == "per-unit GLM (by channel)"
    assert label("per-unit GLM", "a", "a") == "per-unit GLM"
    assert label("shared GLM", "a", "b") == "shared GLM"


# What attention looks at.


def test_a_profile_spread_evenly_is_that_of_the_whole_matrix():
    weight = np.tril(np.ones((9, 9))) / np.arange(1, 10)[:, None]
    expected = [np.diag(weight, -lag).mean() for lag in range(5)]
    np.testing.assert_allclose(spikes_attention.even_profile(9, 5), expected)


def test_shuffled_cells_keep_their_bins_and_the_first_part_its_cells():
    windows = (np.random.default_rng(0).random((3, 40, 8)) < 0.3).astype(np.float32)
    for window, changed in zip(windows, spikes_attention.shuffle_cells(windows, 0.5), strict=True):
        np.testing.assert_array_equal(changed[:20], window[:20])
        np.testing.assert_array_equal(changed[20:].sum(axis=1), window[20:].sum(axis=1))
        np.testing.assert_array_equal(np.sort(changed[20:].sum(axis=0)), np.sort(window[20:].sum(axis=0)))
        assert not np.array_equal(changed[20:], window[20:])


def test_correlations_are_those_of_numpy_within_windows():
    values, rate = np.random.default_rng(0).normal(size=(2, 4, 200))
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(values[:, 64:], rate[:, 64:], strict=True)])
    assert spikes_attention.correlate(values, rate) == pytest.approx(expected)
    assert np.isnan(spikes_attention.correlate(0 * values, rate))


def test_the_running_rate_counts_what_it_has_seen():
    bins = (np.random.default_rng(0).random((50, 3)) < 0.3).astype(np.float32)
    rate = 1 / (1 + np.exp(-np.asarray(spikes_attention.running_rate(bins))))
    np.testing.assert_allclose(rate[20], (bins[:21].sum(axis=0) + 1) / 121, rtol=1e-4)
