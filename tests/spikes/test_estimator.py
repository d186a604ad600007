"""The estimator: learns the echo, streams as it scores, is calibrated, saved, carried to other units, and generates;
and its verb: a file of spikes, and how far they lie from the test bins."""

import argparse
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone

from jaxephys import SpikeTransformer, load
from jaxephys.schemas.recording import Recording
from jaxephys.spikes import cli
from jaxephys.spikes.expert_mixture import BELIEVED, HALF_LIFE, PRIOR, Earned, mix
from jaxephys.spikes.forecaster import Forecaster, begin, fit_scale_and_shift, forecast, run_of
from jaxephys.spikes.generation import generate
from jaxephys.spikes.history import Filters
from jaxephys.spikes.network import PopulationTransformer
from jaxephys.spikes.streaming_scores import PLACES, place_of, scores
from tests.spikes.synthetic import AGAIN, LAG, RATE, SMALL, planted

ONE, OTHER = planted(0), planted(1)


@pytest.fixture(scope="module")
def model():
    """Two networks, one a recording, trained once for all tests that only ask them."""
    return SpikeTransformer(**SMALL, learning_rate=0.02, progress=False).fit([ONE, OTHER])


def test_it_finds_the_echo_and_knows_where_it_does(model):
    rows = model.score_table(ONE)
    assert [(row["train_on"], row["test_on"]) for row in rows] == [
        ("planted 0", "planted 0"),
        ("planted 1", "planted 0"),
    ]
    assert all(row["bits_per_spike"] > 1.4 and row["roc_auc_within_unit"] > 0.75 and row["ece"] < 0.01 for row in rows)
    assert model.score(ONE) == pytest.approx(np.mean([row["bits_per_spike"] for row in rows]))
    said = model.predict_proba(ONE)
    start, stop = ONE.span("test")
    echo = ONE.bits(start - LAG, stop - LAG) == 1
    assert said.shape == (stop - start, ONE.units)
    assert said[echo].mean() == pytest.approx(AGAIN, abs=0.1) and said[~echo].mean() == pytest.approx(RATE, abs=0.005)
    assert model.leak_.causal and "causal" in model.describe() and "planted 0, planted 1" in model.describe()


def test_the_grid_has_a_row_for_each_training_recording_and_a_column_for_each_test(model):
    grid = model.transfer_grid([OTHER, ONE])
    assert grid["roc_auc"].shape == (2, 2)
    assert grid["roc_auc"][1, 0] == model.score_table(OTHER)[1]["roc_auc"]


def test_streamed_scores_are_those_of_the_probabilities(model):
    bins = ONE.bits(*ONE.span("test"))
    said = model.predict_proba(ONE, per_network=True)[0]
    found = scores(run_of(model.tally(ONE), 0))
    nats = np.log(np.where(bins == 1, said, 1 - said)).sum()
    rate = bins.mean(axis=0)
    null = np.log(np.where(bins == 1, rate, 1 - rate)).sum()
    assert found["bits_per_spike"] == pytest.approx((nats - null) / np.log(2) / bins.sum(), abs=1e-3)


def test_a_forecast_in_windows_is_one_in_single_bins(model):
    forecaster = model.forecaster_
    fitted = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), forecaster.fitted)
    bins = jnp.asarray(ONE.bits(0, 60), jnp.float32)

    @jax.jit
    def singly(state):
        def one(state, spikes):
            logits, state = forecast(forecaster.manner, fitted, spikes[None], state)
            return state, logits[0]

        return jax.lax.scan(one, state, bins)[1]

    state = begin(forecaster.manner, fitted.variables, ONE.units)
    whole, _ = jax.jit(forecast, static_argnums=0)(forecaster.manner, fitted, bins, state)
    np.testing.assert_allclose(singly(state), whole, atol=1e-3)


def test_it_takes_units_in_any_order(model):
    """Of the network itself to the last bit, see its own tests; the mixture behind it may round otherwise."""
    order = np.random.default_rng(0).permutation(ONE.units)
    turned = Recording.from_array(ONE.bits(0, len(ONE))[:, order])
    np.testing.assert_allclose(model.predict_proba(turned), model.predict_proba(ONE)[:, order], atol=1e-6)


def test_what_is_loaded_says_the_same(model, tmp_path):
    again: Any = load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(ONE), model.predict_proba(ONE))
    assert again.describe() == model.describe() and again.get_params() == model.get_params()
    assert again.score_table(ONE) == model.score_table(ONE)
    copy: Any = clone(model)
    assert copy.get_params() == model.get_params()


def test_what_it_generates_echoes_too(model):
    drawn = model.generate(ONE, 3000, seed=3)
    np.testing.assert_array_equal(drawn, model.generate(ONE, 3000, seed=3))
    assert drawn.shape == (3000, ONE.units) and (drawn != model.generate(ONE, 3000, seed=4)).any()
    after = drawn[LAG:][drawn[:-LAG] == 1].mean()
    assert after > 0.4 > 0.1 > drawn.mean() > 0.5 * RATE


def test_what_is_drawn_is_kept_near_what_the_past_has_shown():
    """A network that says half of the rate: by itself it fades to silence, kept it goes on at half of the rate."""
    network = PopulationTransformer(width=8, depth=0, hidden=8, cell=8, filters=Filters((2.0, 5.0, 20.0, 300.0)))
    past = ONE.bits(0, 2000)
    silent = jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0), past[:10].astype(np.float32)))
    one = Forecaster.of(network, jax.tree.map(lambda leaf: leaf[None], silent), adaptive=False, length=100)
    halved = replace(one, fitted=one.fitted._replace(shift=np.full(1, np.log(0.5), np.float32)))
    kept, free = (generate(halved, past, 3000, kept=kept)[0, 1000:].mean() / past.mean() for kept in (True, False))
    assert 0.3 < kept < 0.7 and free < 0.15


def test_attention_sums_to_one_over_the_lags_of_its_window(model):
    profile = model.attention(ONE)
    assert profile.shape == (1, 2, 17)
    np.testing.assert_allclose(profile.sum(axis=-1), 1.0, atol=0.1)  # the first bins of a window have fewer


def test_scale_and_shift_mend_logits_that_were_bent():
    rng = np.random.default_rng(0)
    true = rng.normal(-3, 1.5, 400_000)
    target = (rng.random(len(true)) < expit(true)).astype(int)
    bent = (true + 1.0) / 0.5
    count = np.zeros((PLACES, 2))
    np.add.at(count, (np.asarray(place_of(bent, PLACES)), target), 1)
    scale, shift = fit_scale_and_shift(count)
    assert scale == pytest.approx(0.5, rel=0.03) and shift == pytest.approx(-1.0, abs=0.05)
    assert fit_scale_and_shift(np.tile([1.0, 0.0], (8, 1))) == (1.0, 0.0)


def test_the_mixture_is_bayes_rule_with_a_fading_memory():
    rng = np.random.default_rng(1)
    said = rng.normal(-1, 1, (50, 3, 4)).astype(np.float32)
    spikes = (rng.random((50, 3)) < 0.3).astype(np.float32)
    earned = Earned(jnp.zeros((3, 4)), jnp.zeros((3, 4)))
    mix_once = jax.jit(mix)
    first, between = mix_once(earned, jnp.asarray(said[:20]), jnp.asarray(spikes[:20]))
    second, _ = mix_once(between, jnp.asarray(said[20:]), jnp.asarray(spikes[20:]))
    got = np.concatenate([first, second])
    nats = np.zeros((3, 4))
    for t in range(50):
        if t:
            p = expit(said[t - 1])
            nats = nats + np.log(np.where(spikes[t][:, None] == 1, p, 1 - p))
        else:
            nats = nats + np.log(0.5)
        nats = nats * 2 ** (-1 / HALF_LIFE)
        weight = np.exp(nats + np.array([PRIOR] * BELIEVED + [0]))
        p = (weight * expit(said[t])).sum(axis=1) / weight.sum(axis=1)
        np.testing.assert_allclose(expit(got[t]), p, atol=1e-4)


def test_the_legacy_network_reconstructs_and_says_so():
    legacy = SpikeTransformer(
        "legacy", loss="published_dice", **{**SMALL, "max_epochs": 20}, learning_rate=0.01, progress=False
    )
    with pytest.raises(ValueError, match="heads do not part"):
        legacy.fit(ONE)
    wide = planted(3, bins=2000, units=32)
    legacy.fit(wide)
    assert not legacy.leak_.causal and "a reconstruction" in legacy.describe() and "LEAKS" in legacy.describe()
    with pytest.raises(ValueError, match="cannot generate"):
        legacy.generate(wide, 10)
    same = scores(run_of(legacy.tally(wide), 0))["roc_auc"]
    honest = scores(run_of(legacy.forecaster_.tally(wide, same_bin=False), 0))["roc_auc"]
    assert same > honest + 0.1
    with pytest.raises(ValueError, match="has 6 units, and a 'legacy' network knows 32"):
        legacy.predict_proba(ONE)


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match=r"bins of 2 ms, and the networks were trained on bins of\s+1 ms"):
        model.predict_proba(replace(ONE, bin_ms=2.0))
    with pytest.raises(ValueError, match="network 'deep' is unknown"):
        SpikeTransformer("deep").fit(ONE)


# The verb.


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("spikes")
    model.save(place / "model")
    splits, units = ONE.splits, ONE.units
    np.savez(
        place / "planted.npz",
        schema="jaxephys spikes 1",
        name=ONE.name,
        domain="",
        packed=ONE.packed,
        units=units,
        unit_id=ONE.unit_id,
        bin_ms=1.0,
        splits=splits,
        split_sha256=ONE.sha256,
    )
    return place


def called(*words):
    parser = argparse.ArgumentParser()
    cli.add_verbs(parser.add_subparsers())
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.call(arguments)


def test_generate_writes_spikes_and_says_how_true_they_are(folder):
    out = folder / "new" / "drawn.npz"
    said = called("generate", folder / "model", folder / "planted.npz", "--bins", 400, "--out", out)
    with np.load(out) as file:
        assert file["packed"].shape == (400, 1) and int(file["units"]) == 6
        assert np.unpackbits(file["packed"], axis=1, bitorder="little").sum() > 0
    lines = said.splitlines()
    assert "leak test at 6 times: causal" in said and lines[-1] == f"-> {out}"
    assert {line.split()[0] for line in lines} >= {"rate", "intervals", "cv2", "autocorrelation", "population_coupling"}


def test_another_kind_of_model_is_refused(folder, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda path: object())
    with pytest.raises(ValueError, match="is a object: generate needs a SpikeTransformer"):
        called("generate", folder / "model", folder / "planted.npz")
