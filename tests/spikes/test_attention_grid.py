"""Networks with altered attention and shuffled units, on their own and on other recordings, and the report of the analysis."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.grid import RunGrid
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attention_analysis import RATES, RUNNING_RATE, WITHOUT_ATTENTION
from jaxephys.spikes.attention_grid import AttentionRuns, altered_groups, analyze_runs, score_altered, variant_name
from jaxephys.spikes.attribution import AlteredAttention, wrap_variables
from jaxephys.spikes.grid import METRICS
from jaxephys.spikes.network import PublishedLayer
from jaxephys.spikes.report.attention import attention_figures, attention_tables

UNITS, LENGTH, LOSSES = 8, 70, ("dice", "bce")
DOMAINS = {"slice": "in vitro", "slice two": "in vitro", "mouse": "in vivo"}
SIZES: dict[str, Any] = {"length": LENGTH, "n_windows": 4}


def recording_of(name):
    bits = (np.random.default_rng(len(name)).random((1200, UNITS)) < 0.2).astype(np.uint8)
    splits = [[0, 600], [600, 900], [900, 1200]]
    return Recording.from_array(bits, name=name, domain=DOMAINS[name], splits=splits)


RECORDINGS = [recording_of(name) for name in DOMAINS]


@pytest.fixture(scope="module")
def runs() -> AttentionRuns:
    """Untrained networks, a different one for each loss and recording."""
    network = PublishedLayer(UNITS, heads=2, hidden=8)
    grid = RunGrid.cross(loss=LOSSES, train_on=list(DOMAINS), seed=[0])
    keys = jax.random.split(jax.random.key(0), len(grid))
    best = jax.jit(jax.vmap(lambda key: network.init(key, jnp.zeros((4, UNITS)))))(keys)
    ones = np.ones(len(grid), np.float32)
    parameters = SimpleNamespace(scale=2 * ones, shift=-ones)
    forecaster = SimpleNamespace(config=SimpleNamespace(network=network), parameters=parameters)
    result = SimpleNamespace(grid=grid, best=best)
    model: Any = SimpleNamespace(result_=result, forecaster_=forecaster, thresholds_=3 * ones)
    without: Any = SimpleNamespace(grid=grid, best=wrap_variables(best))
    return AttentionRuns(model, AlteredAttention(network, "none"), without)


@pytest.fixture(scope="module")
def finished(runs):
    scores, intervals, analyses = [], {}, {loss: {} for loss in LOSSES}
    for recording in RECORDINGS:
        of_losses, correlations = analyze_runs(runs, recording, **SIZES)
        for loss, of_seeds in of_losses.items():
            analyses[loss][recording.name] = of_seeds
        altered, found = score_altered(runs, RECORDINGS, recording, **SIZES, shares=(0.5, 0.95), resamples=5)
        scores += altered + correlations
        intervals |= found
    return scores, intervals, analyses


@pytest.mark.slow
def test_the_threshold_is_that_of_logits_before_calibration(runs):
    assert runs.threshold(0) == pytest.approx((3 + 1) / 2)


@pytest.mark.slow
def test_networks_are_scored_on_their_recording_and_on_other_domains(finished):
    scores, intervals, _ = finished
    pairs = {(score.train_on, score.test_on) for score in scores if score.metric == "roc_auc"}
    assert pairs == {pair for pairs in altered_groups(RECORDINGS).values() for pair in pairs}
    assert ("slice", "mouse") in pairs and ("slice", "slice two") not in pairs
    value = {(s.variant, s.train_on, s.test_on): s.value for s in scores if s.metric == "roc_auc"}
    key = "slice", "mouse"
    names = [variant_name(name, "dice") for name in ("trained", "trained, 50% shuffled", "trained, 95% shuffled")]
    assert len({value[name, *key] for name in names}) == 3, "shuffled input gives other scores"
    assert value[RUNNING_RATE, "slice", "mouse"] == value[RUNNING_RATE, "slice two", "mouse"], "it is not trained"
    without = value[variant_name(WITHOUT_ATTENTION, "dice"), *key]
    assert without == value[variant_name("attention: none", "dice"), *key], "the stub has the same weights"
    assert value[names[0], *key] != value[variant_name("trained", "bce"), *key]
    interval = intervals["mouse", "mouse", names[0], "roc_auc"]
    assert interval.estimate == pytest.approx(value[names[0], "mouse", "mouse"], abs=1e-6)


@pytest.mark.slow
def test_tables_and_figures_have_every_loss_and_recording(finished, tmp_path):
    scores, intervals, analyses = finished
    tables = attention_tables(scores, intervals, analyses, RECORDINGS)
    for metric in ("ROC AUC", "average precision"):
        table = tables[f"Altered attention and shuffled units, {metric}"]
        assert list(table.columns) == [
            "model",
            "in vitro, self (2)",
            "in vivo, self (1)",
            "in vitro -> in vivo (2)",
            "in vivo -> in vitro (2)",
        ]
        texts = [cell.text for cell in table.columns["in vivo, self (1)"]]
        assert all("[" in text for text in texts), "one pair has an interval over windows"
        assert len(texts) == 2 * 7 + 3
    for loss in LOSSES:
        for name in DOMAINS:
            assert len(tables[f"{name}, {loss}: correlation with rates"].columns["r"]) == 5 * len(RATES)
    figures = attention_figures(tmp_path, scores, intervals, analyses, RECORDINGS, (0.5, 0.95))
    assert len(figures) == 2 * (1 + 3) and all(path.stat().st_size > 5000 for path in figures.values())
    assert set(METRICS) <= {score.metric for score in scores}
