"""Feature views: invariances, measured numbers, and units without a curve."""

import numpy as np
import pytest

from jaxephys.hippie.feature_views import compute_feature_views

COUNT = 12
TIME = np.linspace(-1.0, 1.0, 30)  # with ten samples on both sides, 50: as many as the network reads
EMPTY = np.zeros((COUNT, 0), np.float32)


def make_raw(shift=0):
    """Troughs of widths that grow with the unit, gamma intervals, and a flat correlogram with a gap in the middle."""
    rng = np.random.default_rng(0)
    width = np.linspace(0.08, 0.2, COUNT)[:, None]
    wave = -np.exp(-((TIME / width) ** 2)) + 0.3 * np.exp(-(((TIME - 0.4) / 0.2) ** 2))
    wave = np.roll(np.pad(wave, ((0, 0), (10, 10)), mode="edge"), shift, axis=1)
    isi = rng.poisson(40 * np.exp(-np.arange(80) / 20), size=(COUNT, 80)) + 1.0
    acg = np.tile(np.where(np.abs(np.arange(-50, 51)) <= 5, 1.0, 20.0), (COUNT, 1)) + rng.random((COUNT, 101))
    return {"wave": wave.astype(np.float32), "isi": isi.astype(np.float32), "acg": acg.astype(np.float32)}


RAW = make_raw()
VIEWS = compute_feature_views(RAW)


def test_the_views_of_all_three_curves():
    assert list(VIEWS) == [
        *("shape", "slope", "spectrum", "intervals", "density", "cumulative", "lags", "near", "numbers")
    ]
    assert all(len(view) == COUNT and np.isfinite(view).all() for view in VIEWS.values())


def test_views_depend_neither_on_amplitude_nor_on_the_number_of_spikes():
    factors = np.linspace(0.5, 30, COUNT)[:, None]
    louder = compute_feature_views({name: (rows * factors).astype(np.float32) for name, rows in RAW.items()})
    for name, view in VIEWS.items():
        np.testing.assert_allclose(louder[name], view, atol=2e-3, err_msg=name)


def test_a_shifted_spike_has_the_same_shape_slope_and_spectrum():
    moved = compute_feature_views(make_raw(shift=3))
    for name in ("shape", "slope", "spectrum"):
        np.testing.assert_allclose(moved[name], VIEWS[name], atol=0.02, err_msg=name)
    trough = np.abs(moved["shape"] - np.median(moved["shape"], axis=1, keepdims=True)).argmax(axis=1)
    assert (trough == moved["shape"].shape[1] // 2).all()


def test_the_width_of_a_spike_and_the_direction_it_points_in_are_measured():
    sign, width = VIEWS["numbers"][:, 0], VIEWS["numbers"][:, 4]
    assert (sign == -1).all() and (np.diff(width) >= 0).all() and width[-1] > width[0] + 3
    upward = compute_feature_views({**RAW, "wave": -RAW["wave"]})["numbers"]
    assert (upward[:, 0] == 1).all()
    np.testing.assert_allclose(upward[:, 1:8], VIEWS["numbers"][:, 1:8], atol=1e-4)


def test_intervals_are_shares_and_quantiles_are_counted():
    np.testing.assert_allclose(VIEWS["cumulative"][:, -1], 1)
    assert (np.diff(VIEWS["cumulative"], axis=1) >= 0).all()
    share = RAW["isi"][3] / RAW["isi"][3].sum()
    median = int((share.cumsum() < 0.5).sum())
    assert VIEWS["numbers"][3, 8 + 4 + 2] == pytest.approx(np.log(median + 0.5), abs=1e-5)
    assert VIEWS["numbers"][3, 8] == pytest.approx((share * np.log(np.arange(80) + 0.5)).sum(), abs=1e-4)


def test_the_two_sides_of_an_autocorrelogram_are_added():
    mirrored = compute_feature_views({**RAW, "acg": RAW["acg"][:, ::-1].copy()})
    np.testing.assert_allclose(mirrored["near"], VIEWS["near"], atol=1e-6)
    quiet = VIEWS["near"][:, 0] - VIEWS["near"][:, -1]
    assert (quiet < -1).all(), "the gap in the middle has an effect"


def test_a_unit_without_a_curve_has_nan_in_its_views_alone():
    raw = {name: rows.copy() for name, rows in RAW.items()}
    raw["isi"][4] = np.nan
    views = compute_feature_views(raw)
    for name in ("intervals", "density", "cumulative"):
        assert np.isnan(views[name][4]).all()
        np.testing.assert_array_equal(np.delete(views[name], 4, axis=0), np.delete(VIEWS[name], 4, axis=0))
    np.testing.assert_array_equal(views["shape"], VIEWS["shape"])
    assert np.isnan(views["numbers"][4]).sum() == 9
    assert "lags" not in compute_feature_views({**RAW, "acg": EMPTY})


def test_units_without_any_curve_are_refused():
    with pytest.raises(ValueError, match="no unit has a curve with information"):
        compute_feature_views({"wave": EMPTY, "isi": EMPTY, "acg": EMPTY})
