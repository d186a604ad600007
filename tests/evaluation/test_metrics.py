"""Metrics equal those of scikit-learn, whatever the padding rows contain."""

import warnings
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxephys.evaluation import metrics

CLASSES = 4
ROWS = 48  # one shape for the property tests, so that they compile once
GARBAGE = (np.nan, np.inf, -np.inf, 1e30)

close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
scores_of = jax.jit(metrics.classification_scores)
binary_roc_auc = jax.jit(metrics.binary_roc_auc)
binary_average_precision = jax.jit(metrics.binary_average_precision)


class Rows(NamedTuple):
    label: np.ndarray
    prob: np.ndarray
    weight: np.ndarray


def draw(seed, rows=60, classes=CLASSES, levels=None, absent=(), fractional=False):
    """Random rows; `levels` rounds the probabilities to a few values, so that many of them tie."""
    rng = np.random.default_rng(seed)
    prob = rng.dirichlet(np.ones(classes), rows).astype(np.float32)
    if levels:
        prob = np.maximum(np.round(prob * levels), 0.25)
        prob = (prob / prob.sum(1, keepdims=True)).astype(np.float32)
    label = rng.choice([k for k in range(classes) if k not in absent], rows).astype(np.int32)
    weight = rng.uniform(0.1, 3.0, rows) if fractional else np.ones(rows)
    return Rows(label, prob, weight.astype(np.float32))


def pad(rows, extra, seed=0):
    """Scatter `extra` rows of weight 0 among the rows: labels from -7 to 99, any number as prob."""
    rng = np.random.default_rng(seed)
    length = len(rows.label) + extra
    index = np.sort(rng.choice(length, len(rows.label), replace=False))
    label = rng.integers(-7, 100, length).astype(np.int32)
    prob = rng.choice(GARBAGE, (length, rows.prob.shape[1])).astype(np.float32)
    weight = np.zeros(length, np.float32)
    label[index], prob[index], weight[index] = rows
    return Rows(label, prob, weight)


def on_device(rows):
    return tuple(jnp.asarray(part) for part in rows)


def macro(score, rows):
    """scikit-learn's binary score, averaged over the classes in which it is defined."""
    classes = range(rows.prob.shape[1])
    truth = [rows.label == k for k in classes]
    defined = [k for k in classes if 0 < truth[k].sum() < len(rows.label)]
    each = [score(truth[k], rows.prob[:, k], sample_weight=rows.weight) for k in defined]
    return np.mean(each) if each else np.nan


def ece_by_loop(rows, bins=15):
    total = 0.0
    edges = (np.arange(bins + 1) / bins).astype(np.float32)
    confidence = rows.prob.max(1)
    right = rows.prob.argmax(1) == rows.label
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            w = rows.weight[inside].astype(np.float64)
            gap = np.average(right[inside], weights=w) - np.average(confidence[inside], weights=w)
            total += w.sum() / rows.weight.sum() * abs(gap)
    return total


def expected(rows):
    """Every score of `classification_scores`, by scikit-learn where it has it."""
    classes = list(range(rows.prob.shape[1]))
    guess, weighted = rows.prob.argmax(1), {"sample_weight": rows.weight}
    truth = np.eye(len(classes))[rows.label]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are predicted but never true
        balanced = sk.balanced_accuracy_score(rows.label, guess, **weighted)
    return {
        "macro_f1": sk.f1_score(rows.label, guess, labels=classes, average="macro", zero_division=0, **weighted),
        "accuracy": sk.accuracy_score(rows.label, guess, **weighted),
        "balanced_accuracy": balanced,
        "roc_auc": macro(sk.roc_auc_score, rows),
        "average_precision": macro(sk.average_precision_score, rows),
        "ece": ece_by_loop(rows),
        "brier": np.average(((rows.prob - truth) ** 2).sum(1), weights=rows.weight),
        "log_loss": sk.log_loss(rows.label, rows.prob, labels=classes, **weighted),
    }


def assert_same(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for name in wanted:
        close(found[name], wanted[name], err_msg=name, **tolerance)


CASES = {
    "plain": {},
    "ties": {"levels": 3},
    "nearly all tied": {"levels": 1},
    "class absent": {"absent": (1,)},
    "two classes absent, ties": {"absent": (0, 3), "levels": 4},
    "one class only": {"absent": (0, 1, 3)},
    "fractional weights": {"fractional": True},
    "fractional weights, ties": {"fractional": True, "levels": 3},
    "two classes": {"classes": 2},
    "many rows": {"rows": 5000, "classes": 11},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("extra", [0, 17])
def test_scores_equal_scikit_learn(case, extra):
    rows = draw(seed=len(case), **CASES[case])
    assert_same(scores_of(*on_device(pad(rows, extra))), expected(rows))


@pytest.mark.parametrize("seed", range(5))
def test_confusion_and_class_scores_equal_scikit_learn(seed):
    rows = draw(seed, absent=(2,), fractional=bool(seed % 2))
    label, prob, weight = on_device(pad(rows, 9))
    guess = prob.argmax(-1)
    args, truth = (label, guess, weight, CLASSES), (rows.label, rows.prob.argmax(1))
    options = {"labels": range(CLASSES), "sample_weight": rows.weight}
    close(metrics.confusion(*args), sk.confusion_matrix(*truth, **options))
    found = metrics.class_scores(*args)
    wanted = sk.precision_recall_fscore_support(*truth, average=None, zero_division=np.nan, **options)
    close(found["precision"], wanted[0])
    close(found["recall"], wanted[1])
    close(found["f1"], np.nan_to_num(wanted[2]))
    assert np.isnan(found["recall"][2]), "class 2 has no true row"
    wanted = expected(rows)
    close(metrics.accuracy(*args[:3]), wanted["accuracy"])
    close(metrics.balanced_accuracy(*args), wanted["balanced_accuracy"])
    close(metrics.macro_f1(*args), wanted["macro_f1"])


def test_a_class_absent_from_truth_and_prediction_counts_zero_in_macro_f1():
    label = jnp.array([0, 0, 1, 1])
    assert metrics.macro_f1(label, label, jnp.ones(4), 4) == 0.5
    assert metrics.balanced_accuracy(label, label, jnp.ones(4), 4) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_binary_scores_with_ties_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 50).astype(np.int32)
    score = rng.integers(-3, 3, 50).astype(np.float32)  # at most six distinct scores
    weight = rng.choice([0.0, 1.0] if seed % 2 else [0.0, 0.5, 2.7], 50).astype(np.float32)
    keep = weight > 0
    dirty = np.where(keep, score, rng.choice(GARBAGE, 50)).astype(np.float32)
    for ours, theirs in [
        (binary_roc_auc, sk.roc_auc_score),
        (binary_average_precision, sk.average_precision_score),
    ]:
        found = ours(jnp.asarray(label), jnp.asarray(dirty), jnp.asarray(weight))
        wanted = theirs(label[keep], score[keep], sample_weight=weight[keep])
        close(found, wanted)


def test_binary_scores_worked_by_hand():
    label, weight = jnp.array([1, 0, 1, 0]), jnp.ones(4)
    score = jnp.array([0.9, 0.5, 0.5, 0.1])
    assert binary_roc_auc(label, score, weight) == 0.875  # 3 pairs won, 1 tied, of 4
    close(  # half found at precision 1, the other half at 2/3
        binary_average_precision(label, score, weight), 0.5 + 0.5 * 2 / 3, rtol=1e-6
    )
    constant = jnp.zeros(4)
    assert binary_roc_auc(label, constant, weight) == 0.5
    assert binary_average_precision(label, constant, weight) == 0.5
    signed = jnp.array([0.0, -0.0, 0.0, -0.0])  # one score, written in two ways
    assert binary_roc_auc(label, signed, weight) == 0.5


@pytest.mark.parametrize("only", [0, 1])
def test_binary_scores_of_one_class_are_nan(only):
    label, score, weight = jnp.full(5, only), jnp.arange(5.0), jnp.ones(5)
    assert jnp.isnan(binary_roc_auc(label, score, weight))
    assert jnp.isnan(binary_average_precision(label, score, weight))


def test_exact_at_the_size_of_a_recording():
    rng = np.random.default_rng(0)
    label = (rng.random(200_000) < 0.01).astype(np.int32)
    score = np.round(rng.normal(size=200_000) + label, 2).astype(np.float32)
    args = jnp.asarray(label), jnp.asarray(score), jnp.ones(200_000)
    auc, precision = sk.roc_auc_score(label, score), sk.average_precision_score(label, score)
    close(binary_roc_auc(*args), auc, rtol=2e-6, atol=0)
    close(binary_average_precision(*args), precision, rtol=2e-6, atol=0)


def test_confidence_on_the_edge_of_two_bins_is_in_the_lower_one():
    prob = jnp.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    label = jnp.array([0, 1, 0])
    # (0.5, 0.75] holds the second row alone, wrong at 0.75; the others stand alone too
    found = metrics.ece(label, prob, jnp.ones(3), bins=4)
    close(found, (0.5 + 0.75 + 0.0) / 3, rtol=1e-6)


def test_perfect_and_confidently_wrong_predictions():
    label, weight = jnp.array([0, 1, 2, 0]), jnp.ones(4)
    right = scores_of(label, jax.nn.one_hot(label, 3), weight)
    for name in ("macro_f1", "accuracy", "balanced_accuracy", "roc_auc", "average_precision"):
        assert right[name] == 1.0
    assert right["ece"] == right["brier"] == 0.0
    wrong = scores_of(label, jax.nn.one_hot((label + 1) % 3, 3), weight)
    assert [wrong[name] for name in ("brier", "ece", "accuracy")] == [2.0, 1.0, 0.0]
    close(wrong["log_loss"], -np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_nan_in_a_weighted_row_makes_every_metric_nan():
    label, prob, weight = draw(0)
    prob[5, 2] = np.nan
    assert all(jnp.isnan(value) for value in scores_of(*on_device((label, prob, weight))).values())


def test_no_rows_make_every_metric_nan():
    rows = draw(0)._replace(weight=np.zeros(60, np.float32))
    assert all(jnp.isnan(value) for value in scores_of(*on_device(rows)).values())


def test_vmap_over_runs_equals_a_loop():
    runs = [pad(draw(seed, levels=5, absent=(seed,)), 7, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *map(on_device, runs))
    together = jax.jit(jax.vmap(metrics.classification_scores))(*stacked)
    for slot, rows in enumerate(runs):
        alone = scores_of(*on_device(rows))
        assert_same({name: value[slot] for name, value in together.items()}, alone, rtol=1e-6, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kept=st.integers(1, ROWS), levels=st.integers(1, 50))
def test_padding_changes_no_score(seed, kept, levels):
    rows = draw(seed, kept, levels=levels, fractional=bool(seed % 2))
    assert_same(scores_of(*on_device(pad(rows, ROWS - kept, seed))), expected(rows))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 50))
def test_the_order_of_the_rows_changes_no_score(seed, levels):
    rows = pad(draw(seed, ROWS - 8, levels=levels), 8, seed)
    order = np.random.default_rng(seed).permutation(ROWS)
    shuffled = Rows(*(part[order] for part in rows))
    assert_same(scores_of(*on_device(shuffled)), scores_of(*on_device(rows)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_weight_of_two_is_the_row_twice(seed):
    once, twice = draw(seed, 20, levels=6), draw(seed + 1, 14, levels=6)
    copied = Rows(*map(np.concatenate, zip(once, twice, twice, strict=True)))
    doubled = Rows(*map(np.concatenate, zip(once, twice._replace(weight=2 * twice.weight), strict=True)))
    assert_same(scores_of(*on_device(pad(doubled, 14, seed))), scores_of(*on_device(copied)))
