"""Source transfer: without the source the discriminant is scikit-learn's; the source helps with few labels and can be ignored."""

from functools import partial

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from jaxephys.patchseq.preprocessing import row_span_basis
from jaxephys.patchseq.source_transfer import (
    SOURCE_STRENGTHS,
    SOURCE_WEIGHTS,
    TARGET_ONLY_STRENGTHS,
    LabelledCells,
    SourceDomain,
    TransferDiscriminants,
    TransferStrength,
    class_moments,
    discriminant,
    inner_folds,
    joint_regression,
    macro_f1_of_confusion,
    select_by_inner_folds,
    stacked_regression,
    standardize,
)
from jaxephys.patchseq.unlabelled_transfer import transfer_without_labels

CENTERS = 1.6 * np.array([[1, 0, 0, 1, 0], [-1, 0, 0, 1, 0], [0, 1, 0, -1, 0], [0, 0, 1, -1, 1]])


def draw_cells(cells: int, seed: int, *, shift: float = 0.0, holes: float = 0.05) -> LabelledCells:
    """Four Gaussian classes; every cell of a species is shifted alike."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(4), cells))
    values = CENTERS[codes] + rng.normal(size=(cells, 5)) + shift
    values[rng.random(values.shape) < holes] = np.nan
    return LabelledCells(values.astype(np.float32), codes, np.arange(cells) // 3)


def score(probability: np.ndarray, codes: np.ndarray) -> float:
    return f1_score(codes, probability.argmax(axis=1), average="macro")


@pytest.fixture(scope="module")
def source() -> SourceDomain:
    return SourceDomain(draw_cells(400, 0, shift=30.0))


# The discriminant.


@pytest.mark.parametrize("scale", ["z-score", "signed log"])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_discriminant_without_a_source_is_scikit_learns(source, scale, shrinkage):
    target, query = draw_cells(60, 1), draw_cells(50, 2)
    x, y = (standardize(cells.values, target.values, scale) for cells in (target, query))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, target.codes).predict_proba(y)
    ours = TransferDiscriminants(target, query.values, source).predict_proba(TransferStrength(scale, shrinkage))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_discriminant_with_a_source_follows_its_formula():
    """Means and covariance against the formula written out, cell by cell."""
    target, known = draw_cells(30, 1, holes=0.0), draw_cells(80, 2, holes=0.0)
    one_hot = [np.eye(4)[cells.codes] for cells in (target, known)]
    strength = TransferStrength(shrinkage=0.2, covariance_weight=0.3, pseudo_cells=5.0)
    x, z = target.values.astype(float), known.values.astype(float)
    found = discriminant(class_moments(x, one_hot[0]), class_moments(z, one_hot[1] / one_hot[1].sum(axis=0)), strength)
    means = [
        np.stack([some[codes == k].mean(axis=0) for k in range(4)])
        for some, codes in ((x, target.codes), (z, known.codes))
    ]
    expected = means[0].mean(axis=0) + means[1] - means[1].mean(axis=0)
    counts = np.bincount(target.codes)[:, None]
    mu = (counts * means[0] + 5 * expected) / (counts + 5)
    within = sum((x[i] - means[0][k])[:, None] * (x[i] - means[0][k]) for i, k in enumerate(target.codes)) / len(x)
    theirs = np.mean([np.cov(z[known.codes == k].T, bias=True) for k in range(4)], axis=0)
    spread = 0.7 * within + 0.3 * theirs
    spread = 0.8 * spread + 0.2 * np.trace(spread) / 5 * np.eye(5)
    density = [
        -((x - m) @ np.linalg.inv(spread) * (x - m)).sum(axis=1) / 2 + np.log(n / 30)
        for m, n in zip(mu, counts, strict=True)
    ]
    density = np.exp(np.array(density).T)
    np.testing.assert_allclose(found(x), density / density.sum(axis=1, keepdims=True), rtol=1e-8)


def test_class_without_a_cell_is_never_predicted(source):
    target, query = draw_cells(40, 1), draw_cells(40, 2)
    kept = target.codes != 2
    some = LabelledCells(target.values[kept], target.codes[kept])
    for strength in (TransferStrength(), TransferStrength(pseudo_cells=10.0)):
        probability = TransferDiscriminants(some, query.values, source).predict_proba(strength)
        assert np.isfinite(probability).all() and not probability[:, 2].any()


def test_one_cell_a_class_is_enough_to_begin_with(source):
    target, query = draw_cells(4, 1, holes=0.0), draw_cells(40, 2)
    for strength in (*TARGET_ONLY_STRENGTHS, TransferStrength(covariance_weight=0.3, pseudo_cells=3.0)):
        assert np.isfinite(TransferDiscriminants(target, query.values, source).predict_proba(strength)).all()


def test_cells_without_a_label_help_where_labels_are_few(source):
    gained = []
    for seed in range(5):
        target, unlabelled, query = draw_cells(12, 10 + seed), draw_cells(300, 20 + seed), draw_cells(300, 30 + seed)
        alone, counted = (
            TransferDiscriminants(target, query.values, source, extra).predict_proba(TransferStrength())
            for extra in (None, unlabelled.values)
        )
        gained.append(score(counted, query.codes) - score(alone, query.codes))
        np.testing.assert_array_equal(
            alone,
            TransferDiscriminants(target, query.values, source, unlabelled.values[:0]).predict_proba(
                TransferStrength()
            ),
        )
    assert np.mean(gained) > 0.01, gained


# Selection.


def test_source_helps_where_labels_are_few(source):
    gained = []
    for seed in range(5):
        target, query = draw_cells(12, 10 + seed), draw_cells(300, 30 + seed)
        alone, helped = (
            TransferDiscriminants(target, query.values, source).predict_proba(
                select_by_inner_folds(
                    target,
                    grid,
                    lambda some, some_query: TransferDiscriminants(some, some_query, source).predict_proba,
                    seed,
                )
            )
            for grid in (TARGET_ONLY_STRENGTHS, SOURCE_STRENGTHS)
        )
        gained.append(score(helped, query.codes) - score(alone, query.codes))
    assert np.mean(gained) > 0.02, gained


def test_misleading_source_is_ignored():
    """Its class labels are permuted: with enough target cells its means are not used, and little is lost."""
    wrong = draw_cells(400, 0)
    misleading = SourceDomain(wrong._replace(codes=(wrong.codes + 1) % 4))
    target, query = draw_cells(160, 1), draw_cells(400, 2)
    predictors = [lambda some, some_query: TransferDiscriminants(some, some_query, misleading).predict_proba] * 2
    selected, plain = (
        select_by_inner_folds(target, grid, predictor, 0)
        for grid, predictor in zip((SOURCE_STRENGTHS, TARGET_ONLY_STRENGTHS), predictors, strict=True)
    )
    assert selected.pseudo_cells <= 3
    probability = [
        TransferDiscriminants(target, query.values, misleading).predict_proba(strength)
        for strength in (selected, plain)
    ]
    assert score(probability[0], query.codes) > score(probability[1], query.codes) - 0.02
    share = select_by_inner_folds(
        target, SOURCE_WEIGHTS, lambda some, some_query: partial(joint_regression, some, some_query, misleading), 0
    )
    assert share <= 0.05


def test_first_of_equals_is_selected_and_every_grid_starts_without_the_source(source):
    target = draw_cells(40, 1)
    same = TransferDiscriminants(target, target.values, source).predict_proba(TransferStrength())
    assert (
        select_by_inner_folds(target, ("a", "b"), lambda some, some_query: lambda entry: same[: len(some_query)], 0)
        == "a"
    )
    assert (
        SOURCE_STRENGTHS[: len(TARGET_ONLY_STRENGTHS)] == TARGET_ONLY_STRENGTHS
        and all(not s.covariance_weight and not s.pseudo_cells for s in TARGET_ONLY_STRENGTHS)
        and SOURCE_WEIGHTS[0] == 0
    )
    assert len(set(SOURCE_STRENGTHS)) == len(SOURCE_STRENGTHS)


def test_inner_folds_keep_groups_together_and_use_every_cell_once():
    target = draw_cells(60, 1)
    held_out_cells = []
    for fit, out in inner_folds(target, 0):
        assert not np.intersect1d(target.groups[fit], target.groups[out]).size
        held_out_cells.append(out)
    assert sorted(np.concatenate(held_out_cells)) == list(range(60)) and len(held_out_cells) == 5
    few = target._replace(codes=np.repeat([0, 1, 2, 3], [2, 20, 20, 18]), groups=None)
    assert len(list(inner_folds(few, 0))) == 2


def test_selection_never_uses_the_query_cells(source):
    """Each predictor is applied to labelled cells only, and to none that it was trained on."""
    target, seen = draw_cells(40, 1, holes=0.0), []

    def predictors(some, some_query):
        rows = {row.tobytes() for row in some.values}
        assert all(row.tobytes() not in rows for row in some_query)
        seen.extend(row.tobytes() for row in some_query)
        return TransferDiscriminants(some, some_query, source).predict_proba

    select_by_inner_folds(target, TARGET_ONLY_STRENGTHS, predictors, 0)
    assert sorted(seen) == sorted(row.tobytes() for row in target.values)


def test_macro_f1_of_confusion_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(4, size=50), rng.integers(3, size=50)
    table = np.zeros((4, 4), int)
    np.add.at(table, (truth, guess), 1)
    assert macro_f1_of_confusion(np.stack([table, table]))[1] == pytest.approx(
        f1_score(truth, guess, average="macro", labels=range(4))
    )
    assert macro_f1_of_confusion(np.zeros((4, 4), int)) == 0


# Regressions.


def test_joint_regression_with_source_weight_0_is_that_of_the_target(source):
    target, query = draw_cells(60, 1), draw_cells(50, 2)
    x, y = (standardize(cells.values, target.values, "z-score") for cells in (target, query))
    theirs = LogisticRegression(C=0.3, max_iter=2000).fit(x, target.codes).predict_proba(y)
    np.testing.assert_allclose(joint_regression(target, query.values, source, 0.0), theirs, atol=1e-6)
    assert np.abs(joint_regression(target, query.values, source, 1.0) - theirs).max() > 0.01


def test_mouse_scores_help_a_stacked_regression_of_few_cells_whatever_the_units(source):
    target, query = draw_cells(16, 3), draw_cells(400, 4)
    moved = target._replace(values=1000 * target.values + 5), 1000 * query.values + 5
    probability, again = (
        stacked_regression(target, query.values, source),
        stacked_regression(moved[0], moved[1], source),
    )
    np.testing.assert_allclose(probability, again, atol=1e-3)
    assert score(probability, query.codes) > 0.75
    assert score(source.predict_proba(query.values, query.values), query.codes) > 0.75, "and without any target label"


# Tables wider than they have cells.


def test_the_span_holds_the_rows_and_nothing_else():
    rows = np.random.default_rng(0).normal(size=(7, 30))
    basis = row_span_basis(rows)
    assert basis is not None and basis.shape == (30, 7)
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(rows @ basis @ basis.T, rows, atol=1e-10)
    assert row_span_basis(rows.T) is None


def test_table_wider_than_its_cells_is_learned_and_query_cells_do_not_interact():
    def wide(cells: LabelledCells, seed: int) -> LabelledCells:
        copies = np.repeat(cells.values, 60, axis=1)
        noise = np.random.default_rng(seed).normal(size=copies.shape)
        return LabelledCells((copies + noise).astype(np.float32), cells.codes)

    known, target, query = (wide(draw_cells(cells, seed, holes=0), seed) for seed, cells in enumerate((80, 60, 40)))
    strength = TransferStrength(shrinkage=0.3, covariance_weight=0.3, pseudo_cells=3.0)
    source = SourceDomain(known)
    probability = TransferDiscriminants(target, query.values, source).predict_proba(strength)
    assert score(probability, query.codes) > 0.7
    alone = TransferDiscriminants(target, query.values[:1], source).predict_proba(strength)
    np.testing.assert_allclose(alone, probability[:1], atol=1e-8)
    unlabelled = TransferDiscriminants(
        target, query.values, source, wide(draw_cells(50, 9, holes=0), 9).values
    ).predict_proba(strength)
    assert score(unlabelled, query.codes) > 0.7
    assert (
        transfer_without_labels(known.values, known.codes, query.values).probability.argmax(axis=1) == query.codes
    ).mean() > 0.6
