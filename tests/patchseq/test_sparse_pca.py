"""Sparse components: against the published example, scikit-learn's paths and known loadings; test rows change nothing."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import block_diag, sqrtm
from scipy.ndimage import gaussian_filter1d
from sklearn.base import clone
from sklearn.decomposition import SparsePCA
from sklearn.linear_model import lars_path_gram

from jaxephys.patchseq.sparse_components import GOUWENS, FamilyPlan, SparseComponents
from jaxephys.patchseq.sparse_pca import SparsePrincipalComponents, adjusted_variance, elastic_net

# Correlations of 13 properties of 180 pit props (Jeffers 1967), above the diagonal: topdiam, length, moist, testsg, ovensg,
# ringtop, ringbut, bowmax, bowdist, whorls, clear, knots, diaknot.
PITPROPS = """
.954 .364 .342 -.129 .313 .496 .424 .592 .545 .084 -.019 .134
.297 .284 -.118 .291 .503 .419 .648 .569 .076 -.036 .144
.882 -.148 .153 -.029 -.054 .125 -.081 .162 .220 .126
.220 .381 .174 -.059 .137 -.014 .097 .169 .015
.364 .296 .004 -.039 .037 -.091 -.145 -.208
.813 .090 .211 .274 -.036 .024 -.329
.372 .465 .679 -.113 -.232 -.424
.482 .557 .061 -.357 -.202
.526 .085 -.127 -.076
-.319 -.368 -.291
.029 .007
.184
"""


def pitprops() -> np.ndarray:  # [row, column]
    """180 observations whose correlations are exactly these."""
    upper = np.zeros((13, 13))
    upper[np.triu_indices(13, 1)] = [float(text) for text in PITPROPS.split()]
    draws = np.random.default_rng(0).normal(size=(180, 13))
    orthonormal = np.linalg.qr(draws - draws.mean(axis=0))[0]
    return orthonormal @ np.real(sqrtm(180 * (upper + upper.T + np.eye(13))))


def known_loadings(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three components with 6, 8 and 5 loadings that no other has, and little noise."""
    blocks = [rng.uniform(0.7, 1.3, size=(size, 1)) * rng.choice([-1, 1], size=(size, 1)) for size in (6, 8, 5)]
    loadings = np.zeros((40, 3))
    loadings[:19] = block_diag(*blocks)
    loadings /= np.linalg.norm(loadings, axis=0)
    scores = rng.normal(size=(400, 3)) * [6, 4, 3]
    return scores @ loadings.T + 0.3 * rng.normal(size=(400, 40)), loadings


def curves(rng: np.random.Generator, rows: int, columns: int, noise: float) -> np.ndarray:
    """Smooth curves as recordings give them: adjacent columns are nearly equal."""
    shapes = gaussian_filter1d(rng.normal(size=(12, columns)), 6, axis=1)
    mixed = (rng.normal(size=(rows, 12)) * np.geomspace(60, 6, 12)) @ shapes
    return (mixed + noise * rng.normal(size=(rows, columns)) - 40).astype(np.float32)


def test_pit_props_have_the_published_eigenvalues():
    values = np.linalg.eigvalsh(pitprops().T @ pitprops() / 180)[::-1]
    assert values[:6] == pytest.approx([4.219, 2.378, 1.878, 1.109, 0.910, 0.815], abs=5e-4)


def test_pit_props_give_the_published_components():
    """Table 3 of Zou, Hastie & Tibshirani. They set penalties with these numbers of loadings, a little before our points."""
    fitted = SparsePrincipalComponents((7, 4, 4, 1, 1, 1)).fit(pitprops())
    assert 100 * fitted.explained_variance_ratio_ == pytest.approx([28.0, 14.0, 13.3, 7.4, 6.8, 6.2], abs=0.3)
    assert 100 * fitted.explained_variance_ratio_.sum() == pytest.approx(75.8, abs=0.05)
    assert fitted.converged_
    first, second, third, *single = (set(np.flatnonzero(column)) for column in fitted.loadings_.T)
    assert first == {0, 1, 4, 6, 7, 8, 9}
    assert {2, 3} < second and {4, 5, 6} < third  # their fourth loadings are 0.02 and below
    assert single == [{10}, {11}, {12}]
    assert np.abs(fitted.loadings_[[0, 1, 4, 6, 7, 8, 9], 0]) == pytest.approx(
        [0.477, 0.476, 0.177, 0.250, 0.344, 0.416, 0.400], abs=0.05
    )


def test_known_loadings_are_recovered(rng):
    x, truth = known_loadings(rng)
    fitted = SparsePrincipalComponents((6, 8, 5)).fit(x)
    assert np.array_equal(fitted.loadings_ != 0, truth != 0)
    assert np.abs(np.sum(fitted.loadings_ * truth, axis=0)).min() >= 0.99


def test_all_loadings_are_ordinary_components(rng):
    x = rng.normal(size=(60, 12)) * np.linspace(1, 4, 12)
    fitted, plain = SparsePrincipalComponents((12, 12, 12)).fit(x), SparsePrincipalComponents(3).fit(x)
    _, values, vectors = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    for one in (fitted, plain):
        assert np.abs(np.sum(one.loadings_ * vectors[:3].T, axis=0)) == pytest.approx([1, 1, 1], abs=1e-6)
        assert one.explained_variance_ratio_ == pytest.approx(values[:3] ** 2 / np.sum(values**2), rel=1e-6)
        assert one.loadings_ == pytest.approx(fitted.loadings_, abs=1e-3)  # the signs too


@pytest.mark.parametrize("rows", [20, 300])
@pytest.mark.parametrize("noise", [0.5, 0.0])
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_numbers_of_loadings_are_as_requested(rng, rows, noise, scale):
    """With fewer rows than loadings, in any unit, and on curves without noise, whose rank is 12 but for rounding to float32."""
    requested = (110, 60, 90, 1, 120)
    fitted = SparsePrincipalComponents(requested, max_iterations=5).fit(scale * curves(rng, rows, 120, noise))
    assert tuple(np.count_nonzero(fitted.loadings_, axis=0)) == requested
    assert np.linalg.norm(fitted.loadings_, axis=0) == pytest.approx(1)


def test_the_path_is_that_of_scikit_learn(rng):
    """For every k, the first point of the path with k non-zero coefficients at which one more would enter."""
    x = curves(rng, 100, 15, 5).astype(float)
    x -= x.mean(axis=0)
    gram, target = x.T @ x + np.eye(15), x.T @ x @ rng.normal(size=15)
    *_, path = lars_path_gram(target, gram, n_samples=100, method="lasso", alpha_min=0)
    path[np.abs(path) < 1e-12] = 0  # a coefficient that leaves is left as rounding
    sizes = np.count_nonzero(path, axis=0)
    assert any(after <= before for before, after in pairwise(sizes)), "no coefficient leaves: draw other data"
    for count in range(1, 16):
        expected = path[:, np.argmax(sizes == count)]
        assert elastic_net(gram, target, count, np.ones(15, int)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_path_ends_on_a_minimum_where_columns_are_collinear(rng):
    """Optimality of the lasso: equal correlations with the signs of the coefficients inside, smaller ones outside."""
    x = curves(rng, 500, 120, 0.01).astype(float)
    x -= x.mean(axis=0)
    gram = x.T @ x + 1e-6 * np.eye(120)
    target = gram @ np.linalg.svd(x, full_matrices=False)[2][0]
    beta = elastic_net(gram, target, 70, np.ones(120, int))
    residual, inside = target - gram @ beta, beta != 0
    height = np.abs(residual[inside]).mean()
    assert residual[inside] == pytest.approx(np.sign(beta[inside]) * height, rel=1e-3)
    assert np.abs(residual[~inside]).max() <= 1.001 * height < 0.01 * np.abs(target).max()


def test_copies_of_a_column_share_its_loading(rng):
    x = np.repeat(rng.normal(size=(80, 6)) * [5, 4, 3, 2, 1, 1], [3, 1, 2, 3, 1, 2], axis=1)
    fitted = SparsePrincipalComponents((1, 2, 12)).fit(x)
    assert np.count_nonzero(fitted.loadings_, axis=0).tolist() == [3, 3, 12]  # three copies enter at once
    assert np.ptp(fitted.loadings_[:3], axis=0).max() == np.ptp(fitted.loadings_[6:9], axis=0).max() == 0
    assert SparsePrincipalComponents((12,)).fit(x).loadings_ == pytest.approx(
        SparsePrincipalComponents(1).fit(x).loadings_, abs=1e-6
    )


def test_explained_variance_exceeds_that_of_scikit_learn_at_the_same_sparsity(rng):
    """Its SparsePCA is another method, with a penalty; the same numbers of loadings are requested here."""
    x, _ = known_loadings(rng)
    reference = SparsePCA(3, alpha=4, ridge_alpha=1e-6, random_state=0).fit(x).components_.T
    reference = reference[:, np.argsort(-np.linalg.norm(x @ reference, axis=0))]
    counts = tuple(np.count_nonzero(reference, axis=0).tolist())
    assert max(counts) < 15
    model = SparsePrincipalComponents(counts).fit(x)
    assert (
        model.explained_variance_ratio_.sum()
        >= adjusted_variance(x, reference / np.linalg.norm(reference, axis=0)).sum() - 1e-4
    )


def test_adjusted_variance_counts_nothing_twice(rng):
    x = rng.normal(size=(50, 4))
    one = SparsePrincipalComponents(1).fit(x)
    twice = adjusted_variance(x, np.repeat(one.loadings_, 2, axis=1))
    assert twice == pytest.approx([one.explained_variance_ratio_[0], 0], abs=1e-12)


FAMILIES = {"shape": 40, "unread": 2, "level": 30}
PLAN = {"level": FamilyPlan((16, 12), ((0, 10), (20, 30))), "shape": FamilyPlan(3)}


def cells(rng: np.random.Generator) -> np.ndarray:
    unread = np.full((60, 2), np.nan)
    return np.hstack([curves(rng, 60, 40, 0.5), unread, curves(rng, 60, 30, 0.5)]).astype(np.float32)


def test_families_are_reduced_independently(rng):
    values = cells(rng)
    fitted = SparseComponents(FAMILIES, PLAN).fit(values[:40])
    assert list(fitted.get_feature_names_out()) == ["level_0", "level_1", "shape_0", "shape_1", "shape_2"]
    assert np.count_nonzero(fitted.loadings_, axis=0).tolist() == [16, 12, 40, 40, 40]
    assert (
        not fitted.loadings_[:42, :2].any()
        and not fitted.loadings_[52:62].any()
        and not fitted.loadings_[40:, 2:].any()
    )
    expected = SparsePrincipalComponents((16, 12)).fit(values[:40][:, [*range(42, 52), *range(62, 72)]])
    assert fitted.explained_variance_ratio_[:2] == pytest.approx(expected.explained_variance_ratio_)
    scores = fitted.transform(values)
    assert scores[:40].mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)
    assert scores[:40].std(axis=0) == pytest.approx(np.ones(5))
    raw = np.nan_to_num(values.astype(float)) @ fitted.loadings_
    assert scores == pytest.approx((raw - raw[:40].mean(axis=0)) / raw[:40].std(axis=0), abs=1e-6)


def test_a_test_row_changes_nothing(rng):
    values = cells(rng)
    train = np.arange(60) % 3 > 0
    fitted = SparseComponents(FAMILIES, PLAN).fit(values[train])
    changed = values.copy()
    changed[~train] = 1e3 * rng.normal(size=changed[~train].shape)
    changed[0] = np.nan
    again = SparseComponents(FAMILIES, PLAN).fit(changed[train])
    assert np.array_equal(fitted.loadings_, again.loadings_)
    assert np.array_equal(fitted.transform(values), again.transform(values))
    changed[1] += 5 * rng.normal(size=72)  # a training row does
    assert not np.array_equal(fitted.loadings_, SparseComponents(FAMILIES, PLAN).fit(changed[train]).loadings_)


def test_missing_values_take_the_training_median_and_are_counted(rng):
    values = cells(rng)
    values[[3, 5], 50] = values[50, :10] = values[4, 55] = np.nan  # two read, ten in a test row, one that no plan reads
    fitted = SparseComponents(FAMILIES, PLAN).fit(values[:40])
    assert {family: fit.n_missing for family, fit in fitted.fitted_.items()} == {"level": 2, "shape": 0}
    assert "level: 2 of 2" in fitted.summary() and "2 missing values replaced" in fitted.summary()
    filled = values.copy()
    filled[[3, 5], 50] = np.nanmedian(values[:40, 50].astype(float))
    filled[50, :10] = np.median(values[:40, :10].astype(float), axis=0)
    assert fitted.transform(values) == pytest.approx(fitted.transform(filled), abs=1e-6)


def test_ordinary_components_ignore_a_column_that_was_never_measured(rng):
    values = rng.normal(size=(30, 5))
    values[:, 1] = np.nan
    values[25:, 1] = 7.0  # measured in cells that are not trained on
    widths = {"one": 3, "two": 2}
    fitted = SparseComponents(widths).fit(values[:20])
    assert list(fitted.fitted_["one"].columns) == [0, 2] and not fitted.loadings_[1].any()
    assert np.isfinite(fitted.transform(values)).all()


def test_components_below_one_percent_are_dropped(rng):
    values = rng.normal(size=(200, 10)) * [20, 10, *[0.5] * 8]
    fitted = SparseComponents({"one": 10}, {"one": FamilyPlan((5, 5, 5, 5))}).fit(values[:200])
    assert list(fitted.get_feature_names_out()) == ["one_0", "one_1"] and fitted.explained_variance_ratio_.min() >= 0.01
    assert fitted.summary().startswith("2 of 4 components, from 200 cells")


def test_the_default_plan_does_not_depend_on_units(rng):
    """A feature of another unit does not dominate a component; constant columns are allowed."""
    shared = rng.normal(size=(100, 1))
    values = np.hstack([shared + 0.1 * rng.normal(size=(100, 4)), np.full((100, 1), 0.3), rng.normal(size=(100, 3))])
    assert values[:80, 4].std() > 0  # rounding
    families = {"scalar": 5, "rest": 3}
    units = values * [1, 1000, 1, 1, 1, 1, 1, 0.001]
    first, second = (SparseComponents(families).fit(some[:80]) for some in (values, units))
    assert list(first.get_feature_names_out()) == ["scalar_0", "rest_0", "rest_1", "rest_2"]
    assert first.transform(values) == pytest.approx(second.transform(units), abs=1e-6)


def test_saved_components_are_the_same(rng, tmp_path):
    values = cells(rng)
    fitted = SparseComponents(FAMILIES, PLAN).fit(values[:40])
    loaded = SparseComponents.load(fitted.save(tmp_path / "components.npz"))
    assert np.array_equal(loaded.transform(values), fitted.transform(values))
    assert list(loaded.get_feature_names_out()) == list(fitted.get_feature_names_out())
    assert loaded.summary() == fitted.summary() and loaded.families == fitted.families
    with np.load(tmp_path / "components.npz") as file:  # names in files of earlier versions
        assert {"rows", "fitted", "level/asked", "level/missing", "level/iterations", "level/explained"} <= set(
            file.files
        )
    np.savez(tmp_path / "other.npz", schema=np.array("a table"))
    with pytest.raises(ValueError, match="has the schema a table"):
        SparseComponents.load(tmp_path / "other.npz")


def test_the_plan_of_gouwens_requests_59_components_of_2588_columns():
    columns = {family: sum(stop - start for start, stop in how.columns) for family, how in GOUWENS.items()}
    assert len(columns) == 12 and sum(columns.values()) == 2588
    sparse = {family: how.components for family, how in GOUWENS.items() if isinstance(how.components, tuple)}
    assert set(GOUWENS) - set(sparse) == {"step_subthresh"}  # three ordinary components
    assert sum(map(len, sparse.values())) + 3 == 59
    assert all(max(counts) <= columns[family] for family, counts in sparse.items())


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(values=np.zeros((60, 71))), r"values have the shape \(40, 71\), but the families have 72 columns"),
        (dict(values=np.full((60, 72), np.inf)), "row 0, column 0 is inf: a missing value is written as NaN"),
        (dict(values=np.full((60, 72), np.nan)), "20 columns of level are missing in all 40 training rows"),
        (dict(values=np.ones((60, 72))), "family level: none of the 20 columns varies over the 40 rows"),
        (dict(n_train=2), "family level: 2 components requested from 2 rows x 20 columns"),
        (dict(plan={"psth": FamilyPlan(2)}), "the plan names psth, but the table has shape, unread, level"),
        (dict(plan={"level": FamilyPlan((5,), ((0, 50),))}), "level has 30 columns, but the plan uses 50"),
        (dict(plan={"level": FamilyPlan((31,))}), "family level: 31 non-zero loadings requested, but 30 columns vary"),
    ],
)
def test_errors_name_the_cause(rng, change, message):
    settings = dict(values=cells(rng), n_train=40, plan=PLAN) | change
    with pytest.raises(ValueError, match=message):
        SparseComponents(FAMILIES, settings["plan"]).fit(settings["values"][: settings["n_train"]])


def test_the_estimators_follow_scikit_learn(rng):
    values = cells(rng)
    for model, inputs in (
        (SparseComponents(FAMILIES, PLAN), values),
        (SparsePrincipalComponents((3, 2)), values[:, :40]),
    ):
        copy = clone(model)
        assert copy.get_params() == model.get_params()
        assert np.array_equal(copy.fit_transform(inputs[:40]), model.fit(inputs[:40]).transform(inputs[:40]))


def test_data_of_one_direction_have_no_second_component(rng):
    with pytest.raises(ValueError, match="2 components requested, but the data have fewer directions"):
        SparsePrincipalComponents((3, 3)).fit(rng.normal(size=(20, 1)) * np.arange(1, 6))
    with pytest.raises(ValueError, match="finite rows x columns"):
        SparsePrincipalComponents((2,)).fit(np.full((5, 5), np.nan))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
