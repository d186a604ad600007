"""Probes against scikit-learn and against explicit formulas; blocks of columns on simulated rows."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from jaxephys.hippie.probes import PROBES, KernelProbe, KNNProbe, join_blocks, make_probe, make_scaler

RNG = np.random.default_rng(3)
CLASSES = np.array(["EXC", "PV", "SOM"])


def simulated_rows(rows=(60, 40, 20), apart=1.5, columns=6, seed=0):
    """Gaussian classes of unequal size."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(rows)), rows))
    x = rng.normal(size=(len(codes), columns))
    x[:, :3] += apart * np.eye(3)[codes]
    return x, CLASSES[codes]


X, Y = simulated_rows()
NEW, TRUTH = simulated_rows((40, 40, 40), seed=1)


# Neighbours.


def test_neighbours_are_those_of_scikit_learn_at_the_k_that_inner_folds_choose():
    accuracies = []
    for k in range(1, 21):
        inner = StratifiedKFold(5, shuffle=True, random_state=4).split(X, Y)
        model = KNeighborsClassifier(k, metric="cosine")
        accuracies.append(
            np.mean([balanced_accuracy_score(Y[b], model.fit(X[a], Y[a]).predict(X[b])) for a, b in inner])
        )
    probe = KNNProbe(seed=4).fit(X, Y)
    assert probe.k_ == int(np.argmax(accuracies)) + 1 > 1
    oracle = KNeighborsClassifier(probe.k_, metric="cosine").fit(X, Y)
    np.testing.assert_allclose(probe.predict_proba(NEW), oracle.predict_proba(NEW))
    np.testing.assert_array_equal(probe.predict(NEW), oracle.predict(NEW))


def test_a_class_of_three_rows_gets_three_folds_and_one_of_a_single_row_is_refused():
    few = np.r_[np.flatnonzero(Y == "EXC"), np.flatnonzero(Y == "PV")[:3]]
    assert KNNProbe().fit(X[few], Y[few]).k_ <= 20
    with pytest.raises(ValueError, match="a class has one training row"):
        KNNProbe().fit(X[few[:-2]], Y[few[:-2]])


# The kernel.


def kernel_by_hand(x, rows, widths):
    """The kernel by loops over pairs and blocks."""
    found = np.zeros((len(x), len(rows)))
    for i, new in enumerate(x):
        for j, old in enumerate(rows):
            start = 0
            for width in widths:
                block = slice(start, start + width)
                found[i, j] += np.exp(-((new[block] - old[block]) ** 2).sum() / (2 * width)) / len(widths)
                start += width
    return found


def test_the_kernel_probe_is_weighted_regression_on_a_mean_of_kernels():
    widths, rows = (2, 4), np.r_[np.flatnonzero(Y == "EXC")[:9], np.flatnonzero(Y == "SOM")[:4]]
    x, y, new = X[rows], Y[rows], NEW[:5]
    probe = KernelProbe(widths).fit(x, y)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    training, query = (x - mean) / sd, (new - mean) / sd
    weight = np.where(y == "EXC", 13 / (2 * 9), 13 / (2 * 4))
    indicator = np.stack([y == "EXC", y == "SOM"], axis=1).astype(float)
    share = (weight[:, None] * indicator).sum(axis=0) / weight.sum()
    np.testing.assert_allclose(share, 0.5)

    def fitted(keep):
        among = kernel_by_hand(training[keep], training[keep], widths) + np.diag(probe.noise_ / weight[keep])
        return np.linalg.solve(among, indicator[keep] - share)

    everything = np.arange(len(x))
    by_hand = share + kernel_by_hand(query, training, widths) @ fitted(everything)
    soft = np.exp(probe.sharpness_ * by_hand)
    np.testing.assert_allclose(probe.predict_proba(new), soft / soft.sum(axis=1, keepdims=True), atol=1e-9)
    for row in everything:  # the leave-one-out prediction equals that of a fit without the row
        others = np.delete(everything, row)
        alone = share + kernel_by_hand(training[[row]], training[others], widths) @ fitted(others)
        np.testing.assert_allclose(probe.left_out_[row], alone[0], atol=1e-9)


def test_the_weight_of_a_block_does_not_depend_on_its_width():
    narrow = KernelProbe((3, 3)).fit(X, Y).predict_proba(NEW)
    wide = KernelProbe((3, 30)).fit(np.c_[X[:, :3], np.tile(X[:, 3:], 10)], Y)
    np.testing.assert_allclose(wide.predict_proba(np.c_[NEW[:, :3], np.tile(NEW[:, 3:], 10)]), narrow, atol=1e-9)
    joined = KernelProbe().fit(np.c_[X[:, :3], np.tile(X[:, 3:], 10)], Y)
    assert np.abs(joined.predict_proba(np.c_[NEW[:, :3], np.tile(NEW[:, 3:], 10)]) - narrow).max() > 0.05


def test_noise_hurts_less_as_a_separate_block_than_among_the_columns():
    noise, other = np.random.default_rng(5).normal(size=(2, 120, 60))
    x, new = np.c_[X[:, :3], noise], np.c_[NEW[:, :3], other]

    def accuracy(widths):
        return balanced_accuracy_score(TRUTH, KernelProbe(widths).fit(x, Y).predict(new))

    assert accuracy((3, 60)) > accuracy((63,)) + 0.05


def test_classes_have_equal_weight():
    """A point between two classes of very unequal size belongs to neither."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(-1, 1, size=(300, 1)), rng.normal(1, 1, size=(30, 1))]
    y = np.repeat(["PV", "SOM"], (300, 30))
    between = KernelProbe().fit(x, y).predict_proba(np.zeros((1, 1)))
    assert abs(between[0, 0] - 0.5) < 0.2
    np.testing.assert_array_equal(KernelProbe().fit(x, y).predict(np.array([[-2.0], [2.0]])), ["PV", "SOM"])


def test_missing_values_become_the_mean_of_the_training_rows():
    with_holes, filled = X.copy(), X.copy()
    with_holes[::4, 1] = np.nan
    mean = np.nanmean(with_holes[:, 1])
    filled[::4, 1] = mean
    np.testing.assert_allclose(make_scaler().fit(with_holes).transform(with_holes)[::4, 1], 0)
    probe = KernelProbe((3, 3)).fit(with_holes, Y)
    assert np.isfinite(probe.predict_proba(with_holes)).all()
    as_mean, as_nan = NEW.copy(), NEW.copy()
    as_mean[:, 1], as_nan[:, 1] = mean, np.nan
    np.testing.assert_allclose(probe.predict_proba(as_nan), probe.predict_proba(as_mean), atol=1e-12)


def test_blocks_that_do_not_make_the_columns_are_refused():
    with pytest.raises(ValueError, match=r"blocks of \[2, 3\] columns do not make 6"):
        KernelProbe((2, 3)).fit(X, Y)


def test_views_side_by_side_and_their_widths():
    values, widths = join_blocks({"shape": X[:, :2], "numbers": X[:, 2:]})
    np.testing.assert_array_equal(values, X)
    assert widths == (2, 4)


# All of them.


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_recognizes_simulated_classes_and_predicts_rows_independently(name):
    probe = make_probe(name, seed=0, widths=(3, 3)).fit(X, Y)
    assert balanced_accuracy_score(TRUTH, probe.predict(NEW)) > 0.55
    together = probe.predict_proba(NEW)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(probe.predict_proba(NEW[:1]), together[:1], atol=1e-6)


def test_principal_components_of_few_units():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 50)), np.repeat(["PV", "EXC"], 20)
    few, many = make_probe("pca + knn").fit(X[10:30], y[10:30]), make_probe("pca + knn").fit(X, y)
    assert few[:-1].transform(X).shape == (40, 20) and set(few.predict(X)) <= {"PV", "EXC"}
    np.testing.assert_array_equal(many[:-1].transform(X), PCA(30, random_state=0).fit(X).transform(X))


def test_an_unknown_probe_is_named():
    with pytest.raises(ValueError, match="unknown classifier 'lda': choose one of 'knn', 'linear', 'linear, C = 1', "):
        make_probe("lda")


def test_the_example_of_the_documentation_recognizes_synthetic_units():
    page = (Path(__file__).parents[2] / "docs" / "hippie.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "make_probe" in block)
    values: dict = {}
    exec(code, values)
    predicted = values["classifier"].classes_[values["probability"].argmax(axis=1)]
    assert (predicted == values["units"].label[values["test"]]).mean() > 0.9
    assert values["novelty"].shape == (40,) and np.isfinite(values["novelty"]).all()
