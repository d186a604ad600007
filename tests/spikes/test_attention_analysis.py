"""The analysis of attention: profiles, shuffled units, correlations, importance and the running rate against direct computations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attention_analysis import (
    EARLY_BINS,
    MEASURES,
    RATES,
    ComparedModel,
    analyze_attention,
    count_window_outcomes,
    cut_windows,
    mean_correlation,
    running_rate_logits,
    shuffle_units,
    t_test_correlations,
    uniform_lag_profile,
    window_correlations,
)
from jaxephys.spikes.attribution import attention_map
from jaxephys.spikes.losses import LOSSES
from jaxephys.spikes.network import PublishedLayer
from jaxephys.spikes.report.attention import PUBLISHED_SIGNS, correlation_table, domain_correlation_table
from jaxephys.spikes.streaming_scores import compute_scores

UNITS, LENGTH = 8, 100
NETWORK = PublishedLayer(UNITS, heads=2, hidden=8)
WINDOWS = (np.random.default_rng(5).random((4, LENGTH + 1, UNITS)) < 0.2).astype(np.float32)
TRAINING = (np.random.default_rng(6).random((5, LENGTH + 1, UNITS)) < 0.2).astype(np.float32)
THRESHOLD = -0.5


@pytest.fixture(scope="module")
def variables():
    initial = jax.jit(NETWORK.init)(jax.random.key(0), jnp.asarray(WINDOWS[0, :4]))
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), initial)


@pytest.fixture(scope="module")
def analysis(variables):
    return analyze_attention(NETWORK, variables, WINDOWS, TRAINING, "dice", THRESHOLD)


def test_the_uniform_lag_profile_is_that_of_the_whole_matrix():
    weight = np.tril(np.ones((9, 9))) / np.arange(1, 10)[:, None]
    expected = [np.diag(weight, -lag).mean() for lag in range(5)]
    np.testing.assert_allclose(uniform_lag_profile(9, 5), expected)


def test_shuffled_units_keep_their_bins_and_the_first_part_its_units():
    windows = (np.random.default_rng(0).random((3, 40, 8)) < 0.3).astype(np.float32)
    for window, changed in zip(windows, shuffle_units(windows, 0.5), strict=True):
        np.testing.assert_array_equal(changed[:20], window[:20])
        np.testing.assert_array_equal(changed[20:].sum(axis=1), window[20:].sum(axis=1))
        np.testing.assert_array_equal(np.sort(changed[20:].sum(axis=0)), np.sort(window[20:].sum(axis=0)))
        assert not np.array_equal(changed[20:], window[20:])


def test_correlations_are_those_of_numpy_within_windows():
    values, rate = np.random.default_rng(0).normal(size=(2, 4, 200))
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(values[:, 64:], rate[:, 64:], strict=True)]
    found = window_correlations(values, rate)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(window_correlations(1e-12 * values, rate), expected)
    values[1] = 3.0
    found = window_correlations(values, rate)
    assert np.isnan(found[1]) and mean_correlation(found) == pytest.approx(np.mean(np.delete(expected, 1)))
    assert np.isnan(mean_correlation(window_correlations(0 * values, rate)))


def test_correlations_are_tested_by_their_fisher_transforms():
    r, control = np.array([0.4, 0.1, np.nan, 0.3]), np.array([0.3, 0.15, 0.2, 0.1])
    used = np.isfinite(r)
    expected: Any = ttest_1samp(np.arctanh(r[used]), 0)
    assert t_test_correlations(r) == pytest.approx(expected.pvalue)
    paired: Any = ttest_rel(np.arctanh(r[used]), np.arctanh(control[used]))
    assert t_test_correlations(r, control) == pytest.approx(paired.pvalue)
    assert np.isnan(t_test_correlations(r[:2])) and np.isnan(t_test_correlations(r, r))
    assert t_test_correlations(np.array([1.0, 1.0, 0.99])) < 0.1, "a correlation of 1 is finite"


def test_the_running_rate_counts_the_spikes_so_far():
    bins = (np.random.default_rng(0).random((50, 3)) < 0.3).astype(np.float32)
    rate = 1 / (1 + np.exp(-np.asarray(running_rate_logits(bins))))
    np.testing.assert_allclose(rate[20], (bins[:21].sum(axis=0) + 1) / 121, rtol=1e-4)


def importance_of(variables, window, loss):
    def loss_of(bins):
        return LOSSES[loss](NETWORK.apply(variables, bins)[0], window[1:])

    return np.abs(jax.grad(loss_of)(jnp.asarray(window[:-1]))).sum(axis=1)


def test_importance_is_the_gradient_of_the_loss_that_was_trained_with(variables, analysis):
    importance = importance_of(variables, WINDOWS[0], "dice")
    weight = np.asarray(attention_map(NETWORK, variables, jnp.asarray(WINDOWS[0, :-1])))
    np.testing.assert_allclose(analysis.map, weight, rtol=1e-4)
    np.testing.assert_allclose(analysis.awi_map, weight * importance, rtol=1e-3)
    np.testing.assert_allclose(analysis.first_window["awi_row"], weight @ importance, rtol=1e-3)
    np.testing.assert_allclose(analysis.first_window["awi_column"], weight.sum(axis=0) * importance, rtol=1e-3)
    np.testing.assert_array_equal(analysis.first_window["spikes"], WINDOWS[0, :-1].sum(axis=1))
    other = importance_of(variables, WINDOWS[0], "bce")
    assert np.abs(other / other.sum() - importance / importance.sum()).max() > 1e-4, "losses have different gradients"


def test_measures_are_correlated_with_training_test_and_generated_rates(variables, analysis):
    assert set(analysis.correlations) == {(measure, rate) for measure in MEASURES for rate in RATES}
    for rate, windows in (("training spikes", TRAINING), ("spikes", WINDOWS), ("generated", WINDOWS)):
        of_windows, _ = analysis.correlations["awi_row", rate]
        assert of_windows.shape == (len(windows),)
        logits = np.asarray(NETWORK.apply(variables, jnp.asarray(windows[2, :-1]))[0])
        values = (logits >= THRESHOLD).sum(axis=1) if rate == "generated" else windows[2, :-1].sum(axis=1)
        weight = np.asarray(attention_map(NETWORK, variables, jnp.asarray(windows[2, :-1])))
        awi_row = weight @ importance_of(variables, windows[2], "dice")
        expected = np.corrcoef(awi_row[EARLY_BINS:], values[EARLY_BINS:])[0, 1]
        assert of_windows[2] == pytest.approx(expected, abs=1e-3)


def test_tables_of_correlations_have_the_published_signs_and_tests(analysis):
    (table, over_recordings) = correlation_table([analysis]), domain_correlation_table(dict.fromkeys("abc", analysis))
    texts = {heading: [cell.text for cell in cells] for heading, cells in table.columns.items()}
    row = list(zip(texts["measure"], texts["rate"], strict=True)).index(("awi_column", "training spikes"))
    r, uniform = analysis.correlations["awi_column", "training spikes"]
    assert texts["published"][row] == PUBLISHED_SIGNS["awi_column", "training spikes"] == "negative"
    assert texts["r"][row] == f"{r.mean():+.3f}" and texts["r, uniform"][row] == f"{uniform.mean():+.3f}"
    p_value = t_test_correlations(r)
    assert texts["p"][row] == f"{p_value:.2g}" + ("*" if p_value < 0.01 else "")
    assert over_recordings.columns["p"][row].text == "-", "three equal recordings have no variance"


def test_scores_of_shuffled_units_are_those_of_the_shuffled_input():
    counts = count_window_outcomes(ComparedModel(None, {}, 0.5), WINDOWS)
    shuffled = shuffle_units(WINDOWS[:, :-1], 0.5)
    logits = np.stack([running_rate_logits(window) for window in shuffled])[:, LENGTH // 2 :]
    spikes = WINDOWS[:, 1:][:, LENGTH // 2 :]
    loss = np.logaddexp(0, np.where(spikes == 1, -logits, logits))
    np.testing.assert_allclose(np.sum(counts.loss), loss.sum(), rtol=1e-4)
    assert compute_scores(counts)["prevalence"] == pytest.approx(spikes.mean())
    plain = count_window_outcomes(ComparedModel(None, {}), WINDOWS)
    assert np.sum(plain.loss) != np.sum(counts.loss)


def test_windows_are_cut_out_of_the_requested_split():
    bits = (np.random.default_rng(0).random((900, 2)) < 0.3).astype(np.uint8)
    recording = Recording.from_array(bits, splits=[[0, 400], [400, 600], [600, 900]])
    train, test = (cut_windows(recording, 50, 3, split) for split in ("train", "test"))
    np.testing.assert_array_equal(train[0], bits[:51])
    np.testing.assert_array_equal(train[-1], bits[349:400])
    np.testing.assert_array_equal(test[0], bits[600:651])
