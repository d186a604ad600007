"""The estimator: learning a known dependence, streaming, calibration, parameters, saving, other units, generation; and its command."""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone

from jaxephys import SpikeTransformer, load
from jaxephys.engine.config import StepDecay, TrainConfig
from jaxephys.schemas.recording import Recording
from jaxephys.spikes import cli
from jaxephys.spikes.calibration import fit_scale_and_shift
from jaxephys.spikes.expert_mixture import (
    HALF_LIFE,
    N_FAVORED,
    PRIOR_NATS,
    ExpertWeights,
    expert_logits,
    initial_expert_weights,
    mix_experts,
)
from jaxephys.spikes.forecaster import Forecaster, counts_of_run, forecast, initial_state
from jaxephys.spikes.generation import generate
from jaxephys.spikes.history import Filters, compute_features, initial_history, trace_history
from jaxephys.spikes.linear_expert import linear_logits
from jaxephys.spikes.network import NetworkOptions, PopulationTransformer
from jaxephys.spikes.streaming_scores import HISTOGRAM_BINS, compute_scores, histogram_bin, split_past
from jaxephys.spikes.task import N_ENTRIES, Objective
from tests.spikes.synthetic import AGAIN, LAG, RATE, SMALL, SMALL_NETWORK, synthetic_recording

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
ONE, OTHER = synthetic_recording(0), synthetic_recording(1)


@pytest.fixture(scope="module")
def model():
    """Two networks, one per recording, trained once for all tests that only predict."""
    return SpikeTransformer(SMALL_NETWORK, **SMALL, learning_rate=0.02, progress=False).fit([ONE, OTHER])


def test_it_learns_the_dependence_on_the_past(model):
    rows = model.score_table(ONE)
    assert [(row["train_on"], row["test_on"]) for row in rows] == [
        ("synthetic 0", "synthetic 0"),
        ("synthetic 1", "synthetic 0"),
    ]
    assert all(row["bits_per_spike"] > 1.4 and row["roc_auc_within_unit"] > 0.75 and row["ece"] < 0.01 for row in rows)
    assert model.score(ONE) == pytest.approx(np.mean([row["bits_per_spike"] for row in rows]))
    probability = model.predict_proba(ONE)
    start, stop = ONE.span("test")
    echo = ONE.bits(start - LAG, stop - LAG) == 1
    assert probability.shape == (stop - start, ONE.units)
    assert probability[echo].mean() == pytest.approx(AGAIN, abs=0.1) and probability[~echo].mean() == pytest.approx(
        RATE, abs=0.005
    )
    assert model.causality_.causal and "causal" in model.describe() and "synthetic 0, synthetic 1" in model.describe()


def test_the_transfer_grid_has_a_row_per_training_recording_and_a_column_per_test_recording(model):
    grid = model.transfer_grid([OTHER, ONE])
    assert grid["roc_auc"].shape == (2, 2)
    assert grid["roc_auc"][1, 0] == model.score_table(OTHER)[1]["roc_auc"]


def test_streamed_scores_equal_those_of_the_probabilities(model):
    bins = ONE.bits(*ONE.span("test"))
    probability = model.predict_proba(ONE, per_network=True)[0]
    found = compute_scores(counts_of_run(model.count_outcomes(ONE), 0))
    nats = np.log(np.where(bins == 1, probability, 1 - probability)).sum()
    rate = bins.mean(axis=0)
    null = np.log(np.where(bins == 1, rate, 1 - rate)).sum()
    assert found["bits_per_spike"] == pytest.approx((nats - null) / np.log(2) / bins.sum(), abs=1e-3)


def losses(logits, bins):
    """Sum of the log losses of each run and unit."""
    return np.logaddexp(0, np.where(bins == 1, -logits, logits)).sum(axis=1)


def test_mixture_and_network_alone_are_counted_in_one_pass(model):
    forecaster, (start, stop) = model.forecaster_, ONE.span("test")
    parts = forecaster.count_parts(ONE)
    for part, single in zip(parts, (forecaster, forecaster.without_experts()), strict=True):
        logits = single.compute_logits(ONE, start, stop)
        scored, past = zip(*(split_past(counts_of_run(part, run)) for run in range(2)), strict=True)
        found = np.stack([counts.loss.sum(axis=0) for counts in scored])
        np.testing.assert_allclose(found, losses(logits, ONE.bits(start, stop)), rtol=1e-3)
        assert all(counts.histogram.sum() == (stop - start) * ONE.units for counts in scored)
        assert all(counts.histogram.sum() == (start - 1) * ONE.units for counts in past), "bin 0 has no forecast"
    assert np.abs(np.asarray(parts.forecast.loss) - np.asarray(parts.network.loss)).max() > 0.1


def test_without_the_network_the_linear_expert_replaces_it(model):
    forecaster, (start, stop) = model.forecaster_, ONE.span("test")
    experts = forecaster.without_network()
    logits = experts.compute_logits(ONE, start, stop)
    filters, weights = experts.config.network.filters, experts.parameters.linear_weights[1]
    spikes = jnp.asarray(ONE.bits(0, stop), jnp.float32)
    assert filters is not None

    @jax.jit
    def mix(spikes):
        features = compute_features(filters, trace_history(filters, initial_history(filters, ONE.units), spikes))
        experts = expert_logits(filters, features, linear_logits(weights, features), weights)
        return mix_experts(initial_expert_weights(filters, ONE.units), experts, spikes)[0]

    np.testing.assert_allclose(logits[1], mix(spikes)[start - 1 : stop - 1], atol=5e-3)
    kept = experts.keep_runs([1]).parameters
    assert kept.scale.shape == (1,) and kept.linear_weights[0].tolist() == weights.tolist()
    published = NetworkOptions("published", heads=2).build(ONE.units, 1.0)
    with pytest.raises(ValueError, match="it mixes no experts"):
        Forecaster.from_variables(published, {"scale": np.zeros(1)}).without_network()


def test_a_forecast_in_windows_equals_one_in_single_bins(model):
    forecaster = model.forecaster_
    parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), forecaster.parameters)
    bins = jnp.asarray(ONE.bits(0, 60), jnp.float32)

    @jax.jit
    def singly(state):
        def one(state, spikes):
            logits, state = forecast(forecaster.config, parameters, spikes[None], state)
            return state, logits[0]

        return jax.lax.scan(one, state, bins)[1]

    state = initial_state(forecaster.config, parameters.variables, ONE.units)
    whole, _ = jax.jit(forecast, static_argnums=0)(forecaster.config, parameters, bins, state)
    np.testing.assert_allclose(singly(state), whole, atol=1e-3)


def test_units_may_be_in_any_order(model):
    """The network is exact, see its own tests; the mixture behind it may be rounded differently."""
    order = np.random.default_rng(0).permutation(ONE.units)
    permuted = Recording.from_array(ONE.bits(0, len(ONE))[:, order])
    np.testing.assert_allclose(model.predict_proba(permuted), model.predict_proba(ONE)[:, order], atol=1e-6)


def test_a_loaded_model_predicts_the_same(model, tmp_path):
    again: Any = load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(ONE), model.predict_proba(ONE))
    assert again.describe() == model.describe() and again.get_params() == model.get_params()
    assert again.score_table(ONE) == model.score_table(ONE)
    copy: Any = clone(model)
    assert copy.get_params() == model.get_params()


def test_generated_spikes_have_the_dependence_too(model):
    generated = model.generate(ONE, 3000, seed=3)
    np.testing.assert_array_equal(generated, model.generate(ONE, 3000, seed=3))
    assert generated.shape == (3000, ONE.units) and (generated != model.generate(ONE, 3000, seed=4)).any()
    after = generated[LAG:][generated[:-LAG] == 1].mean()
    assert after > 0.4 > 0.1 > generated.mean() > 0.5 * RATE


def test_bounded_generation_stays_near_the_past():
    """A network that predicts half of the rate: unbounded it fades to silence, bounded it continues at half of the rate."""
    network = PopulationTransformer(width=8, depth=0, hidden=8, unit_width=8, filters=Filters((2.0, 5.0, 20.0, 300.0)))
    past = ONE.bits(0, 2000)
    silent = jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0), past[:10].astype(np.float32)))
    one = Forecaster.from_variables(network, jax.tree.map(lambda leaf: leaf[None], silent), adaptive=False, length=100)
    halved = replace(one, parameters=one.parameters._replace(shift=np.full(1, np.log(0.5), np.float32)))
    bounded, free = (
        generate(halved, past, 3000, bounded=bounded)[1000:].mean() / past.mean() for bounded in (True, False)
    )
    assert 0.3 < bounded < 0.7 and free < 0.15


def test_attention_sums_to_one_over_the_lags_of_its_window(model):
    profile = model.attention(ONE)
    assert profile.shape == (1, 2, 17)
    np.testing.assert_allclose(profile.sum(axis=-1), 1.0, atol=0.1)  # the first bins of a window have fewer


def test_scale_and_shift_correct_miscalibrated_logits():
    rng = np.random.default_rng(0)
    true = rng.normal(-3, 1.5, 400_000)
    target = (rng.random(len(true)) < expit(true)).astype(int)
    miscalibrated = (true + 1.0) / 0.5
    count = np.zeros((HISTOGRAM_BINS, 2))
    np.add.at(count, (np.asarray(histogram_bin(miscalibrated, HISTOGRAM_BINS)), target), 1)
    scale, shift = fit_scale_and_shift(count)
    assert scale == pytest.approx(0.5, rel=0.03) and shift == pytest.approx(-1.0, abs=0.05)
    assert fit_scale_and_shift(np.tile([1.0, 0.0], (8, 1))) == (1.0, 0.0)


def test_the_mixture_is_bayesian_averaging_in_which_older_bins_count_less():
    rng = np.random.default_rng(1)
    probability = rng.normal(-1, 1, (50, 3, 4)).astype(np.float32)
    spikes = (rng.random((50, 3)) < 0.3).astype(np.float32)
    weights = ExpertWeights(jnp.zeros((3, 4)), jnp.zeros((3, 4)))
    mix_once = jax.jit(mix_experts)
    first, between = mix_once(weights, jnp.asarray(probability[:20]), jnp.asarray(spikes[:20]))
    second, _ = mix_once(between, jnp.asarray(probability[20:]), jnp.asarray(spikes[20:]))
    got = np.concatenate([first, second])
    nats = np.zeros((3, 4))
    for t in range(50):
        nats = nats * 2 ** (-1 / HALF_LIFE)
        if t:
            p = expit(probability[t - 1])
            nats = nats + np.log(np.where(spikes[t][:, None] == 1, p, 1 - p))
        else:
            nats = nats + np.log(0.5)
        weight = np.exp(nats + np.array([PRIOR_NATS] * N_FAVORED + [0]))
        p = (weight * expit(probability[t])).sum(axis=1) / weight.sum(axis=1)
        np.testing.assert_allclose(expit(got[t]), p, atol=1e-4)


def test_the_legacy_network_is_reported_as_a_reconstruction():
    legacy = SpikeTransformer(
        "legacy",
        objective="published_dice",
        **{**SMALL, "max_epochs": 20, "entries_per_window": None},
        learning_rate=0.01,
        progress=False,
    )
    with pytest.raises(ValueError, match="heads cannot divide"):
        legacy.fit(ONE)
    wide = synthetic_recording(3, bins=2000, units=32)
    legacy.fit(wide)
    assert (
        not legacy.causality_.causal and "a reconstruction" in legacy.describe() and "NOT causal" in legacy.describe()
    )
    with pytest.raises(ValueError, match="cannot generate"):
        legacy.generate(wide, 10)
    same = compute_scores(counts_of_run(legacy.count_outcomes(wide), 0))["roc_auc"]
    honest = compute_scores(counts_of_run(legacy.forecaster_.count_outcomes(wide, same_bin=False), 0))["roc_auc"]
    assert same > honest + 0.1
    with pytest.raises(ValueError, match="has 6 units, but a 'legacy' network takes the 32 units"):
        legacy.predict_proba(ONE)


def test_invalid_recordings_and_networks_are_refused(model):
    with pytest.raises(ValueError, match=r"bins of 2 ms, but the networks were trained on bins of 1 ms"):
        model.predict_proba(replace(ONE, bin_ms=2.0))
    with pytest.raises(ValueError, match="network 'deep' is unknown"):
        SpikeTransformer("deep").fit(ONE)


def test_the_described_training_is_plain_adam_in_the_order_of_time(tmp_path):
    options = NetworkOptions("published", depth=2, heads=3, window=16, hidden=8)
    described: Any = SpikeTransformer(
        options, objective="dice", optimizer="published", select_by="last", length=100, max_epochs=3, progress=False
    )
    config = described.train_config()
    assert (config.optimizer, config.learning_rate, config.weight_decay, config.clip_norm) == ("adam", 0.005, 0, None)
    assert (config.decay, config.shuffle, config.warmup_steps) == (StepDecay(0.9, 5, 2.5e-5), False, 0)
    described.fit(ONE)
    assert described.result_.run_results.best_epoch.tolist() == [3]
    assert described.causality_.causal and described.causality_.reach == 2 * 16 + 1, "two windows and the bin itself"
    described.save(tmp_path / "model")
    loaded: Any = load(tmp_path / "model")
    assert loaded.network_options == options and (loaded.optimizer, loaded.select_by) == ("published", "last")
    np.testing.assert_allclose(loaded.predict_proba(ONE), described.predict_proba(ONE), atol=1e-6)


def test_options_of_training_are_obeyed_or_refused():
    assert SpikeTransformer().train_config() == TrainConfig(
        8,
        None,
        monitor="bits_per_spike",
        batch_size=8,
        learning_rate=3e-3,
        weight_decay=1e-3,
        warmup_steps=30,
        chunk_epochs=1,
    )
    changed = SpikeTransformer(
        objective="dice", learning_rate=0.1, weight_decay=0.2, select_by="accuracy"
    ).train_config()
    assert (changed.learning_rate, changed.weight_decay, changed.monitor) == (0.1, 0.2, "accuracy")
    with pytest.raises(ValueError, match="optimizer 'sgd' is unknown: choose one of adamw, published"):
        SpikeTransformer(optimizer="sgd").train_config()
    with pytest.raises(ValueError, match="weight_decay is 0.1, but Adam has no weight decay"):
        SpikeTransformer(optimizer="published", weight_decay=0.1).train_config()
    with pytest.raises(ValueError, match="'published' takes no width"):
        SpikeTransformer().set_params(network__kind="published", network__width=8)


@pytest.mark.parametrize("kind", ["published", "legacy"])
def test_saved_options_without_effect_on_the_published_layer_are_left_out(kind):
    """Earlier versions saved them, although the layer had its published sizes."""
    saved = {"kind": kind, "width": 32, "depth": 3, "heads": 2, "window": 128, "dropout": 0.2}
    without_effect = {"adaptive": True, "entries_per_window": 64}
    decoded = SpikeTransformer._decoded_parameters({"network": saved, "seeds": 2, **without_effect})
    left = {"adaptive": None, "entries_per_window": N_ENTRIES}
    assert decoded == {"network": NetworkOptions(kind, dropout=0.2), "seeds": 2, **left}
    new = asdict(NetworkOptions(kind, depth=3, heads=2))
    assert SpikeTransformer._decoded_parameters({"network": new})["network"] == NetworkOptions(kind, depth=3, heads=2)
    ours = {**saved, "kind": "units"}
    assert SpikeTransformer._decoded_parameters({"network": ours})["network"].heads == 2


def test_parameters_of_network_and_loss_have_nested_names():
    model = SpikeTransformer("units", objective="focal", seeds=3)
    assert model.network_options == NetworkOptions("units") and model.loss_options == Objective("focal")
    params = model.get_params()
    assert (params["network"], params["network__kind"], params["objective__gamma"]) == ("units", "units", 2.0)
    model.set_params(network__heads=4, objective__gamma=1.0, seeds=2)
    assert model.network == NetworkOptions("units", heads=4) and model.objective == Objective("focal", gamma=1.0)
    copy: Any = clone(model)
    assert copy.get_params() == model.get_params() and copy.seeds == 2
    with pytest.raises(ValueError, match="parameter 'network__layers' is unknown"):
        model.set_params(network__layers=2)


def test_old_parameters_are_grouped():
    config = json.loads((CHECKPOINTS / "0.1.0" / "spikes" / "config.json").read_text())
    model: Any = load(CHECKPOINTS / "0.1.0" / "spikes")
    assert config["parameters"]["width"] == 8 and model.network_options.width == 8
    assert model.entries_per_window == config["parameters"]["cells"]
    with np.load(CHECKPOINTS / "0.1.0" / "spikes_predictions.npz") as file:
        np.testing.assert_array_equal(model.thresholds_, file["thresholds"])


# The command.


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("spikes")
    model.save(path / "model")
    splits, units = ONE.splits, ONE.units
    np.savez(
        path / "synthetic.npz",
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
    return path


def run_command(*words):
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.call(arguments)


def test_generate_writes_spikes_and_their_distances(folder):
    out = folder / "new" / "generated.npz"
    text = run_command("generate", folder / "model", folder / "synthetic.npz", "--bins", 400, "--out", out)
    with np.load(out) as file:
        assert file["packed"].shape == (400, 1) and int(file["units"]) == 6
        assert np.unpackbits(file["packed"], axis=1, bitorder="little").sum() > 0
    lines = text.splitlines()
    assert "causality test at 6 bins: causal" in text and lines[-1] == f"-> {out}"
    assert {line.split()[0] for line in lines} >= {"rate", "intervals", "cv2", "autocorrelation", "population_coupling"}


def test_another_kind_of_model_is_refused(folder, monkeypatch):
    monkeypatch.setattr("jaxephys.models.base.load", lambda path, run, step: object())
    with pytest.raises(ValueError, match="is a object: give the folder of a SpikeTransformer"):
        run_command("generate", folder / "model", folder / "synthetic.npz")
