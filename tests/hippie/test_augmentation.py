"""Augmentations: moments and probabilities of each, SciPy's filter, and no change when off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from jaxephys.hippie import augmentation as module
from jaxephys.hippie.augmentation import LIGHT, OFF, STRENGTHS, STRONG, AugmentationStrength, augment, smooth, warp

KEY = jax.random.key(3)
ROWS = 3000
ALONE = {"noise": 0.0, "scale": 0.0, "warp": 0.0, "baseline": 0.0, "smoothing": 0.0}


def curves(rows=ROWS):
    time = np.linspace(0, 1, 50)
    wave = np.tile(np.sin(5 * time), (rows, 1)).astype(np.float32)
    return {"wave": wave, "isi": np.tile(np.cos(9 * np.linspace(0, 1, 100)), (rows, 1)).astype(np.float32)}


def augmented(strength):
    return jax.jit(lambda *inputs: augment(*inputs))(
        curves(), strength, KEY
    )  # a new function: CHANCES may have changed


def only(monkeypatch, name, strength=LIGHT):
    """One change alone, of every row."""
    monkeypatch.setattr(module, "CHANCES", {**ALONE, name: 1.0})
    return augmented(strength._replace(probability=np.float32(1.0)))


def test_off_is_the_identity_to_the_bit():
    for name, curve in augmented(OFF).items():
        np.testing.assert_array_equal(curve, curves()[name])


def test_the_published_numbers():
    assert [float(x) for x in LIGHT] == pytest.approx([0.3, 0.03, 0.1, 1.5])
    assert [float(x) for x in STRONG] == pytest.approx([0.7, 0.08, 0.3, 3.0])
    assert module.CHANCES == {"noise": 0.5, "scale": 0.5, "warp": 0.3, "baseline": 0.4, "smoothing": 0.3}


@pytest.mark.parametrize("name", ["light", "strong"])
def test_rows_change_with_the_given_probability_and_modalities_independently(name):
    plain, changed = curves(), augmented(STRENGTHS[name])
    moved = {which: (np.asarray(changed[which]) != plain[which]).any(axis=1) for which in plain}
    p = float(STRENGTHS[name].probability)
    some = 1 - (1 - 0.5) * (1 - 0.5) * (1 - 0.3) * (1 - 0.4) * (1 - 0.3)  # of five changes at least one
    for share in moved.values():
        assert share.mean() == pytest.approx(p * some, abs=0.03)
    # A row is chosen once for all its modalities; then each modality draws independently.
    assert (moved["wave"] & moved["isi"]).mean() == pytest.approx(p * some**2, abs=0.03)


def test_noise_has_its_sd(monkeypatch):
    change = np.asarray(only(monkeypatch, "noise")["wave"]) - curves()["wave"]
    assert change.std() == pytest.approx(0.03, rel=0.02) and abs(change.mean()) < 0.001


def test_scale_is_one_uniform_factor_a_row(monkeypatch):
    factor = np.asarray(only(monkeypatch, "scale")["wave"])[:, 1:] / curves()["wave"][:, 1:]
    assert np.ptp(factor, axis=1).max() < 1e-4
    assert factor[:, 0].min() >= 0.9 and factor[:, 0].max() <= 1.1
    assert factor[:, 0].std() == pytest.approx(0.2 / 12**0.5, rel=0.05)


def test_the_baseline_is_one_uniform_shift_a_row(monkeypatch):
    shift = np.asarray(only(monkeypatch, "baseline")["isi"]) - curves()["isi"]
    assert np.ptp(shift, axis=1).max() < 1e-6 and np.abs(shift).max() <= 0.0501
    assert shift[:, 0].std() == pytest.approx(0.1 / 12**0.5, rel=0.05)


def test_smoothing_is_scipys_filter():
    noisy = np.random.default_rng(0).normal(size=(9, 50)).astype(np.float32)
    sds = np.linspace(0.5, 3.0, 9, dtype=np.float32)
    for row, sd, ours in zip(noisy, sds, jax.jit(smooth)(jnp.asarray(noisy), jnp.asarray(sds)), strict=True):
        np.testing.assert_allclose(ours, gaussian_filter1d(row, float(sd)), atol=1e-5)


def test_the_warp_samples_each_curve_at_times_displaced_by_a_twentieth_at_most():
    ramp = jnp.tile(jnp.arange(100.0), (500, 1))  # the value of the curve is the time at which it was sampled
    moves = jax.random.uniform(KEY, (500, 10), minval=-1.0)
    moved = np.asarray(warp(ramp, moves)) - np.asarray(ramp)
    assert 4.0 < np.abs(moved).max() <= 5.0
    between = (7 * moved[:, 44] + 4 * moved[:, 55]) / 11  # ten knots: 0, 11, 22, ...
    np.testing.assert_allclose(moved[:, 48], between, atol=1e-4)
    assert moved[:, 44].std() == pytest.approx(10 / 12**0.5, rel=0.1)
    short = ramp[:, :30]
    np.testing.assert_array_equal(warp(short, moves[:, :3]), short)  # too short to move by two samples


def test_runs_of_different_strength_train_in_one_program():
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), OFF, LIGHT)
    both = jax.jit(jax.vmap(lambda s: augment(curves(50), AugmentationStrength(*s), KEY)["wave"]))(stacked)
    np.testing.assert_array_equal(both[0], curves(50)["wave"])
    assert (np.asarray(both[1]) != curves(50)["wave"]).any()
