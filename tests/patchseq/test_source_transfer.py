"""Borrowing: the discriminant is scikit-learn's where nothing is borrowed, helps where labels are few, and can decline."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from jaxephys.patchseq.preprocessing import span_of
from jaxephys.patchseq.source_transfer import (
    BORROWED,
    OWN,
    SHARES,
    Labelled,
    Lender,
    Strength,
    choose,
    discriminant,
    discriminants,
    inner_folds,
    joint_regressions,
    mean_f1,
    moments,
    stacked_regression,
    standardised,
)
from jaxephys.patchseq.unlabelled_transfer import carry_over

CENTRES = 1.6 * np.array([[1, 0, 0, 1, 0], [-1, 0, 0, 1, 0], [0, 1, 0, -1, 0], [0, 0, 1, -1, 1]])


def draw(cells: int, seed: int, *, shift: float = 0.0, holes: float = 0.05) -> Labelled:
    """Four Gaussian classes; every cell of a species is shifted alike."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(4), cells))
    values = CENTRES[codes] + rng.normal(size=(cells, 5)) + shift
    values[rng.random(values.shape) < holes] = np.nan
    return Labelled(values.astype(np.float32), codes, np.arange(cells) // 3)


def score(said: np.ndarray, codes: np.ndarray) -> float:
    return f1_score(codes, said.argmax(axis=1), average="macro")


@pytest.fixture(scope="module")
def lender() -> Lender:
    return Lender(draw(400, 0, shift=30.0))


# The discriminant.


@pytest.mark.parametrize("scale", ["z-score", "signed log"])
@pytest.mark.parametrize("sphere", [0.0, 0.3])
def test_without_borrowing_it_is_scikit_learns(lender, scale, sphere):
    own, new = draw(60, 1), draw(50, 2)
    x, y = (standardised(cells.values, own.values, scale) for cells in (own, new))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=sphere).fit(x, own.codes).predict_proba(y)
    ours = discriminants(own, new.values, lender)(Strength(scale, sphere))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_what_is_borrowed_is_what_the_formula_says():
    """Means and covariance against the formula written out, cell by cell."""
    own, known = draw(30, 1, holes=0.0), draw(80, 2, holes=0.0)
    one_hot = [np.eye(4)[cells.codes] for cells in (own, known)]
    strength = Strength(sphere=0.2, covariance=0.3, pseudo_cells=5.0)
    x, z = own.values.astype(float), known.values.astype(float)
    found = discriminant(moments(x, one_hot[0]), moments(z, one_hot[1] / one_hot[1].sum(axis=0)), strength)
    means = [
        np.stack([some[codes == k].mean(axis=0) for k in range(4)])
        for some, codes in ((x, own.codes), (z, known.codes))
    ]
    lent = means[0].mean(axis=0) + means[1] - means[1].mean(axis=0)
    counts = np.bincount(own.codes)[:, None]
    mu = (counts * means[0] + 5 * lent) / (counts + 5)
    within = sum((x[i] - means[0][k])[:, None] * (x[i] - means[0][k]) for i, k in enumerate(own.codes)) / len(x)
    theirs = np.mean([np.cov(z[known.codes == k].T, bias=True) for k in range(4)], axis=0)
    spread = 0.7 * within + 0.3 * theirs
    spread = 0.8 * spread + 0.2 * np.trace(spread) / 5 * np.eye(5)
    density = [
        -((x - m) @ np.linalg.inv(spread) * (x - m)).sum(axis=1) / 2 + np.log(n / 30)
        for m, n in zip(mu, counts, strict=True)
    ]
    density = np.exp(np.array(density).T)
    np.testing.assert_allclose(found(x), density / density.sum(axis=1, keepdims=True), rtol=1e-8)


def test_a_class_without_a_cell_is_never_the_answer(lender):
    own, new = draw(40, 1), draw(40, 2)
    kept = own.codes != 2
    some = Labelled(own.values[kept], own.codes[kept])
    for strength in (Strength(), Strength(pseudo_cells=10.0)):
        said = discriminants(some, new.values, lender)(strength)
        assert np.isfinite(said).all() and not said[:, 2].any()


def test_one_cell_a_class_is_enough_to_begin_with(lender):
    own, new = draw(4, 1, holes=0.0), draw(40, 2)
    for strength in (*OWN, Strength(covariance=0.3, pseudo_cells=3.0)):
        assert np.isfinite(discriminants(own, new.values, lender)(strength)).all()


def test_cells_without_a_label_help_where_labels_are_few(lender):
    gained = []
    for seed in range(5):
        own, more, new = draw(12, 10 + seed), draw(300, 20 + seed), draw(300, 30 + seed)
        alone, counted = (discriminants(own, new.values, lender, rest)(Strength()) for rest in (None, more.values))
        gained.append(score(counted, new.codes) - score(alone, new.codes))
        np.testing.assert_array_equal(alone, discriminants(own, new.values, lender, more.values[:0])(Strength()))
    assert np.mean(gained) > 0.01, gained


# Choosing.


def test_borrowing_helps_where_labels_are_few(lender):
    gained = []
    for seed in range(5):
        own, new = draw(12, 10 + seed), draw(300, 30 + seed)
        alone, helped = (
            discriminants(own, new.values, lender)(
                choose(own, grid, lambda some, asked: discriminants(some, asked, lender), seed)
            )
            for grid in (OWN, BORROWED)
        )
        gained.append(score(helped, new.codes) - score(alone, new.codes))
    assert np.mean(gained) > 0.02, gained


def test_a_lender_that_misleads_is_declined():
    """Its classes carry each other's names: with enough own cells nothing is borrowed of its means, and little is lost."""
    wrong = draw(400, 0)
    misleading = Lender(wrong._replace(codes=(wrong.codes + 1) % 4))
    own, new = draw(160, 1), draw(400, 2)
    attempts = [lambda some, asked: discriminants(some, asked, misleading)] * 2
    chosen, plain = (choose(own, grid, attempt, 0) for grid, attempt in zip((BORROWED, OWN), attempts, strict=True))
    assert chosen.pseudo_cells <= 3
    said = [discriminants(own, new.values, misleading)(strength) for strength in (chosen, plain)]
    assert score(said[0], new.codes) > score(said[1], new.codes) - 0.02
    share = choose(own, SHARES, lambda some, asked: joint_regressions(some, asked, misleading), 0)
    assert share <= 0.05


def test_of_equals_the_first_is_chosen_and_every_grid_begins_without_borrowing(lender):
    own = draw(40, 1)
    same = discriminants(own, own.values, lender)(Strength())
    assert choose(own, ("a", "b"), lambda some, asked: lambda entry: same[: len(asked)], 0) == "a"
    assert BORROWED[: len(OWN)] == OWN and all(not s.covariance and not s.pseudo_cells for s in OWN) and SHARES[0] == 0
    assert len(set(BORROWED)) == len(BORROWED)


def test_inner_folds_keep_groups_together_and_use_every_cell_once():
    own = draw(60, 1)
    held = []
    for fit, out in inner_folds(own, 0):
        assert not np.intersect1d(own.groups[fit], own.groups[out]).size
        held.append(out)
    assert sorted(np.concatenate(held)) == list(range(60)) and len(held) == 5
    few = own._replace(codes=np.repeat([0, 1, 2, 3], [2, 20, 20, 18]), groups=None)
    assert len(list(inner_folds(few, 0))) == 2


def test_choosing_never_sees_the_new_cells(lender):
    """Each attempt is asked about labelled cells only, and about none that it was trained on."""
    own, seen = draw(40, 1, holes=0.0), []

    def attempts(some, asked):
        rows = {row.tobytes() for row in some.values}
        assert all(row.tobytes() not in rows for row in asked)
        seen.extend(row.tobytes() for row in asked)
        return discriminants(some, asked, lender)

    choose(own, OWN, attempts, 0)
    assert sorted(seen) == sorted(row.tobytes() for row in own.values)


def test_mean_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(4, size=50), rng.integers(3, size=50)
    table = np.zeros((4, 4), int)
    np.add.at(table, (truth, guess), 1)
    assert mean_f1(np.stack([table, table]))[1] == pytest.approx(
        f1_score(truth, guess, average="macro", labels=range(4))
    )
    assert mean_f1(np.zeros((4, 4), int)) == 0


# Regressions.


def test_a_joint_regression_without_mouse_cells_is_the_own_one(lender):
    own, new = draw(60, 1), draw(50, 2)
    x, y = (standardised(cells.values, own.values, "z-score") for cells in (own, new))
    theirs = LogisticRegression(C=0.3, max_iter=2000).fit(x, own.codes).predict_proba(y)
    np.testing.assert_allclose(joint_regressions(own, new.values, lender)(0.0), theirs, atol=1e-6)
    assert np.abs(joint_regressions(own, new.values, lender)(1.0) - theirs).max() > 0.01


def test_mouse_scores_help_a_stacked_regression_of_few_cells_whatever_the_units(lender):
    own, new = draw(16, 3), draw(400, 4)
    moved = own._replace(values=1000 * own.values + 5), 1000 * new.values + 5
    said, again = stacked_regression(own, new.values, lender), stacked_regression(moved[0], moved[1], lender)
    np.testing.assert_allclose(said, again, atol=1e-3)
    assert score(said, new.codes) > 0.75
    assert score(lender.regress(new.values, new.values), new.codes) > 0.75, "and without any own label"


# Tables wider than they have cells.


def test_the_span_holds_the_rows_and_nothing_else():
    rows = np.random.default_rng(0).normal(size=(7, 30))
    basis = span_of(rows)
    assert basis is not None and basis.shape == (30, 7)
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(rows @ basis @ basis.T, rows, atol=1e-10)
    assert span_of(rows.T) is None


def test_a_table_wider_than_its_cells_is_learnt_and_new_cells_are_told_one_by_one():
    def wide(cells: Labelled, seed: int) -> Labelled:
        copies = np.repeat(cells.values, 60, axis=1)
        noise = np.random.default_rng(seed).normal(size=copies.shape)
        return Labelled((copies + noise).astype(np.float32), cells.codes)

    known, own, new = (wide(draw(cells, seed, holes=0), seed) for seed, cells in enumerate((80, 60, 40)))
    strength = Strength(sphere=0.3, covariance=0.3, pseudo_cells=3.0)
    lender = Lender(known)
    said = discriminants(own, new.values, lender)(strength)
    assert score(said, new.codes) > 0.7
    alone = discriminants(own, new.values[:1], lender)(strength)
    np.testing.assert_allclose(alone, said[:1], atol=1e-8)
    unlabelled = discriminants(own, new.values, lender, wide(draw(50, 9, holes=0), 9).values)(strength)
    assert score(unlabelled, new.codes) > 0.7
    assert (carry_over(known.values, known.codes, new.values).probability.argmax(axis=1) == new.codes).mean() > 0.6
