"""Preprocessing: the published numbers, the two orders, counts and densities, and rows without information."""

from pathlib import Path

import numpy as np
import pytest

from jaxephys.hippie.preprocessing import (
    NOMINAL_INTERVALS,
    Preparation,
    interval_scale,
    prepare,
    preprocess_acg,
    preprocess_isi,
    preprocess_waveform,
    resample,
)
from jaxephys.schemas.unit_table import informative

ROOT = Path(__file__).parents[2]
PARITY = ROOT.parent / "shared" / "parity" / "hippie_width8.npz"
PUBLISHED = Preparation(intervals="stored")
RNG = np.random.default_rng(0)
RAW = {
    "wave": RNG.normal(size=(6, 90)).astype(np.float32),
    "isi": RNG.poisson(20.0, size=(6, 70)).astype(np.float32),
    "acg": RNG.poisson(9.0, size=(6, 201)).astype(np.float32),
}


def resampled_by_hand(row, length):
    """One sample after the other, from the definition."""
    new = []
    for i in range(length):
        position = min(max((i + 0.5) * len(row) / length - 0.5, 0.0), len(row) - 1.0)
        left = int(position)
        right = min(left + 1, len(row) - 1)
        new.append(row[left] + (position - left) * (row[right] - row[left]))
    return np.array(new)


def spread(row):
    return 2 * (row - row.min()) / (row.max() - row.min()) - 1


@pytest.mark.parametrize(("old", "new"), [(90, 50), (46, 50), (51, 100), (201, 100), (7, 7)])
def test_resampling_follows_its_definition(old, new):
    row = np.random.default_rng(old).normal(size=old)
    np.testing.assert_allclose(resample(row[None], new)[0], resampled_by_hand(row, new), atol=1e-12)


@pytest.mark.skipif(not PARITY.exists(), reason="the reference arrays of HIPPIE are not beside this checkout")
def test_the_published_order_gives_the_published_numbers():
    with np.load(PARITY) as file:
        raw = {name: file[f"raw/{name}"] for name in RAW}
        wanted = {name: file[f"in/{name}"][:, 0] for name in RAW}
    for name, curves in prepare(raw, PUBLISHED).curves.items():
        np.testing.assert_allclose(curves, wanted[name], atol=3e-5)  # the original loses digits in 1 + x in float32


def test_each_order_against_its_description():
    for order in ("train", "card"):
        curves = prepare(RAW, Preparation(order=order, intervals="stored")).curves
        row = np.log1p(RAW["isi"][3].astype(float))
        wanted = resampled_by_hand(spread(row), 100) if order == "train" else spread(resampled_by_hand(row, 100))
        np.testing.assert_allclose(curves["isi"][3], wanted, atol=1e-6)


def test_the_functions_of_the_card_resample_and_then_scale():
    functions = {"wave": preprocess_waveform, "isi": preprocess_isi, "acg": preprocess_acg}
    prepared = prepare(RAW, Preparation("card", "stored")).curves
    for name, function in functions.items():
        made = function(RAW[name])
        assert made.dtype == np.float32 and made.shape == prepared[name].shape
        np.testing.assert_allclose(made, prepared[name], atol=1e-6)
        np.testing.assert_array_equal(function(RAW[name][2]), made[2], "one curve without an axis of units")
        assert function(RAW[name], 7).shape == (6, 7)
    row = RAW["wave"][1].astype(float)
    np.testing.assert_allclose(preprocess_waveform(row), spread(resampled_by_hand(row, 50)), atol=1e-6)


def test_the_functions_of_the_card_on_curves_without_information():
    assert (preprocess_waveform(np.full(90, 3.0)) == -1).all() and (preprocess_acg(np.zeros((2, 201))) == -1).all()
    missing = np.full(100, np.nan)
    assert (preprocess_isi(missing) == -1).all() and (preprocess_acg(missing) == -1).all()
    assert np.isnan(preprocess_waveform(missing)).all()
    for wrong in (np.zeros((2, 0)), np.zeros((2, 1, 50)), np.array(1.0)):
        with pytest.raises(ValueError, match="give one curve, or one in each row"):
            preprocess_waveform(wrong)


def test_the_orders_differ_and_only_one_spans_the_whole_range():
    train, card = (prepare(RAW, Preparation(order=order)).curves["acg"] for order in ("train", "card"))
    assert np.abs(train - card).max() > 0.01
    np.testing.assert_allclose([card.min(axis=1), card.max(axis=1)], np.array([[-1.0] * 6, [1.0] * 6]), atol=1e-6)


def test_counts_and_densities_of_one_unit_give_the_same_result_unless_used_as_stored():
    density = {**RAW, "isi": RAW["isi"] / RAW["isi"].sum(axis=1, keepdims=True)}
    common, stored = ([prepare(raw, how).curves["isi"] for raw in (RAW, density)] for how in (Preparation(), PUBLISHED))
    np.testing.assert_allclose(*common, atol=1e-5)
    assert np.abs(stored[0] - stored[1]).max() > 0.1
    wanted = np.log1p(NOMINAL_INTERVALS * density["isi"][0].astype(float))
    np.testing.assert_allclose(common[0][0], resampled_by_hand(spread(wanted), 100), atol=1e-5)


def test_the_scale_of_intervals_is_determined_row_by_row():
    counts, one = RAW["isi"], np.eye(70, dtype=np.float32)[:1]  # a single interval: whole as a count and as a density
    density = counts / counts.sum(axis=1, keepdims=True)
    assert interval_scale(np.concatenate([counts, one])) == "counts"
    assert interval_scale(np.concatenate([density, one])) == "density"
    mixed = {name: np.concatenate([rows, rows]) for name, rows in RAW.items()} | {
        "isi": np.concatenate([counts, density])
    }
    assert interval_scale(mixed["isi"]) == "mixed"
    with pytest.raises(ValueError, match="counts in some rows and densities in others"):
        prepare(mixed, PUBLISHED)
    assert np.isfinite(prepare(mixed).curves["isi"]).all()


def test_a_constant_or_missing_curve_is_absent_and_becomes_minus_one():
    raw = {name: rows.copy() for name, rows in RAW.items()}
    raw["wave"][1], raw["isi"][2], raw["acg"][3] = 4.0, np.nan, 0.0
    curves, present = prepare(raw)
    wanted = np.ones((6, 3), bool)
    wanted[1, 0] = wanted[2, 1] = wanted[3, 2] = False
    np.testing.assert_array_equal(present, wanted)
    np.testing.assert_array_equal(curves["wave"][1], -1.0)
    np.testing.assert_array_equal(curves["isi"][2], -1.0)
    whole = prepare(RAW).curves["wave"]
    np.testing.assert_array_equal(np.delete(curves["wave"], 1, axis=0), np.delete(whole, 1, axis=0))


def test_a_modality_that_no_unit_has():
    curves, present = prepare({**RAW, "wave": np.zeros((6, 0), np.float32)})
    assert curves["wave"].shape == (6, 50) and not present[:, 0].any() and present[:, 1:].all()
    assert not informative(np.zeros((6, 0), np.float32)).any()


def test_settings_survive_json_and_another_version_is_refused():
    ours = Preparation(order="card", lengths=(("wave", 40), ("acg", 20)))
    config = ours.to_dict()
    listed = {**config, "lengths": [list(pair) for pair in config["lengths"]]}
    assert Preparation.from_dict(listed) == ours
    with pytest.raises(ValueError, match="version 0, this is 1"):
        Preparation.from_dict({**config, "version": 0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "both"}, "'both' is unknown: choose one of train, card"),
        ({"intervals": "log"}, "'log' is unknown: choose one of common, stored"),
        ({"lengths": (("spikes", 10),)}, "no modality 'spikes'"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Preparation(**settings)


def test_a_modality_that_the_units_lack_is_named():
    with pytest.raises(ValueError, match="the units have no acg"):
        prepare({"wave": RAW["wave"], "isi": RAW["isi"]})
