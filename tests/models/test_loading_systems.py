"""Runs of grids of HIPPIE and of the spike transformer are loaded from checkpoints and predict what their networks have predicted.

The same is tested for the Patch-seq classifier with the files of a whole experiment, in ``tests/experiments/test_command.py``.
"""

import numpy as np
import pytest
from rich.console import Console

import jaxephys
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.grid import train_grid as train_hippie
from jaxephys.hippie.protocol import NetworkSettings
from jaxephys.hippie.synthetic import make_synthetic_units
from jaxephys.hippie.task import OURS, PUBLISHED
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.spikes.grid import SpikeSettings
from jaxephys.spikes.grid import train_grid as train_spikes
from tests.spikes.synthetic import synthetic_recording


def make_folder(path):
    return RunFolder(path, "test", Settings(), [], Console(quiet=True))


@pytest.fixture(scope="module")
def hippie(tmp_path_factory):
    """Two objectives on other rows each: the folder of checkpoints, the units and the trained grid."""
    folder, units = make_folder(tmp_path_factory.mktemp("hippie")), make_synthetic_units(60)
    grid = RunGrid.cross(objective=("ours", "published"), seed=range(1))
    rows = np.arange(60)
    splits = [Split(rows[:30], rows[30:40], rows[40:]), Split(rows[20:50], rows[50:], rows[:20])]
    settings = NetworkSettings(trunk="dense", width=2, latent=4, max_epochs=2, batch_size=16)
    trained = train_hippie(folder, [units], grid, splits, [OURS, PUBLISHED], settings, "small")
    return folder.path / "checkpoints_small", units, trained


@pytest.mark.parametrize("run", [0, 1])
def test_a_run_of_hippie_embeds_as_in_the_grid(hippie, run):
    folder, units, trained = hippie
    model = jaxephys.load(folder, run=run)
    np.testing.assert_allclose(model.embed(units), trained.embed()[run], rtol=1e-5, atol=1e-6)
    split = trained.splits[run]
    assert np.flatnonzero(~model.seen(units)).tolist() == split.test.tolist()
    assert model.objective == (OURS, PUBLISHED)[run] and model.max_epochs == 2 and model.network_ == trained.network


def test_a_run_of_hippie_is_calibrated_with_its_test_units(hippie, tmp_path):
    folder, units, trained = hippie
    model = jaxephys.load(folder, run={"objective": "ours"})
    test = units.rows(trained.splits[0].test)
    assert np.isnan(model.impute(test, "acg").sd).all()
    model.calibrate(test)
    assert (model.impute(test, "acg").sd > 0).all()
    again = jaxephys.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.impute(test, "acg").sd, model.impute(test, "acg").sd)


@pytest.fixture(scope="module")
def spikes(tmp_path_factory):
    """Two losses and two recordings: the run folder, the recordings and the trained grid."""
    folder, recordings = (
        make_folder(tmp_path_factory.mktemp("spikes")),
        [synthetic_recording(0), synthetic_recording(1)],
    )
    settings = SpikeSettings(length=64, max_epochs=1, batch_size=8)
    small = {
        "network__width": 8,
        "network__window": 16,
        "entries_per_window": 64,
        "calibration_bins": 500,
        "progress": False,
    }
    trained = train_spikes(folder, recordings, settings, "population", ["bce", "dice"], **small)
    return folder.path, recordings, trained.model


@pytest.mark.parametrize("run", range(4))
def test_a_run_of_the_spike_transformer_predicts_as_in_the_grid(spikes, run):
    folder, recordings, trained = spikes
    level = trained.result_.grid[run]
    model = jaxephys.load(folder, run=dict(level))
    assert model.sources_ == [level["train_on"]] and model.objective.loss == level["loss"]
    assert "not calibrated" in model.describe() and np.isnan(model.thresholds_).all()
    raw = model.predict_proba(recordings[0])
    model.calibrate(recordings)
    expected = trained.predict_proba(recordings[0], per_network=True)[run]
    np.testing.assert_allclose(model.predict_proba(recordings[0]), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.thresholds_, trained.thresholds_[[run]], rtol=1e-5)
    assert np.abs(raw - expected).max() > 1e-4 and model.causality_ is not None and model.causality_.causal


def test_an_uncalibrated_spike_transformer_is_saved_and_calibrated_with_its_recordings(spikes, tmp_path):
    folder, recordings, _ = spikes
    model = jaxephys.load(folder, run={"train_on": recordings[1].name, "loss": "dice"})
    again = jaxephys.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(recordings[0]), model.predict_proba(recordings[0]))
    assert again.causality_ is None
    with pytest.raises(ValueError, match=f"the recording {recordings[1].name} is missing"):
        model.calibrate(recordings[0])
