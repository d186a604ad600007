"""Bins that are predicted one step ahead of real bins, with a threshold."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.forecaster import Forecaster
from jaxephys.spikes.generation import predict_next_bins
from jaxephys.spikes.network import PublishedLayer

UNITS, BINS, SPAN = 8, 300, (100, 260)
SPIKES = (np.random.default_rng(0).random((BINS, UNITS)) < 0.2).astype(np.uint8)


def forecaster_of(runs):
    network = PublishedLayer(UNITS, heads=2, hidden=8)
    keys = jax.random.split(jax.random.key(0), runs)
    variables = jax.jit(jax.vmap(lambda key: network.init(key, jnp.asarray(SPIKES[:4], jnp.float32))))(keys)
    return Forecaster.from_variables(network, variables, length=64)


def test_a_spike_is_predicted_where_the_logit_of_the_run_reaches_its_threshold():
    forecaster, recording = forecaster_of(3), Recording.from_array(SPIKES)
    logits = forecaster.compute_logits(recording, *SPAN)
    thresholds = np.quantile(logits, [0.9, 0.5, 0.7], axis=(1, 2)).diagonal().astype(np.float32)
    predicted = predict_next_bins(forecaster, recording, SPAN, thresholds, [2, 0])
    assert predicted.dtype == np.uint8 and predicted.shape == (2, SPAN[1] - SPAN[0], UNITS)
    for raster, run, share in zip(predicted, (2, 0), (0.3, 0.1), strict=True):
        np.testing.assert_array_equal(raster, logits[run] >= thresholds[run])
        assert abs(raster.mean() - share) < 0.01


def test_a_bin_is_predicted_from_the_real_bins_before_it():
    forecaster, changed, at = forecaster_of(1), SPIKES.copy(), 180
    changed[at:] = 1 - changed[at:]
    logits = forecaster.compute_logits(Recording.from_array(SPIKES), *SPAN)
    thresholds = np.array([np.median(logits)], np.float32)
    plain, other = (
        predict_next_bins(forecaster, Recording.from_array(spikes), SPAN, thresholds, [0])[0]
        for spikes in (SPIKES, changed)
    )
    np.testing.assert_array_equal(plain[: at + 1 - SPAN[0]], other[: at + 1 - SPAN[0]])
    assert (plain != other).any(), "later bins depend on what was changed"
