"""The forest on sparse components: nothing is fitted to test rows, and the settings are the published ones."""

import numpy as np

from jaxephys.evaluation.baselines import fit_predict_proba
from jaxephys.patchseq.sparse_components import (
    GOUWENS,
    FamilyPlan,
    SparseComponents,
    choose_plan,
    make_component_forest,
)


def make_values(cells: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    codes = np.arange(cells) % 3
    values = rng.normal(size=(cells, 7)).astype(np.float32)
    values[:, 0] += 4 * codes
    values[rng.random(values.shape) < 0.05] = np.nan
    return values, codes


WIDTHS = {"a": 4, "b": 3}
TRAIN, TEST = np.arange(40), np.arange(40, 60)


def predicted_after(change, model) -> np.ndarray:
    """Predict the first test row when the other test rows are changed."""
    values, codes = make_values()
    values[TEST[1:]] = change(values[TEST[1:]])
    return fit_predict_proba(model, values, codes, TRAIN, TEST[:1], 3)


class FittedOnOtherRows(SparseComponents):
    """Fitted on rows that it should not see."""

    def __init__(self, families, seen=None):
        super().__init__(families)
        self.seen = seen

    def fit(self, X, y=None):
        return super().fit(np.concatenate([X, self.seen]))


def test_what_test_rows_are_like_changes_nothing_and_a_leak_would_be_seen():
    def honest():
        return make_component_forest(WIDTHS, 0).set_params(randomforestclassifier__n_estimators=40)

    def change_strongly(rows):
        return 50 * rows[:, ::-1]

    np.testing.assert_array_equal(
        predicted_after(lambda rows: rows, honest()), predicted_after(change_strongly, honest())
    )

    def fitted_on_test_rows(change):
        model = honest()
        return model.set_params(sparsecomponents=FittedOnOtherRows(WIDTHS, change(make_values()[0][TEST[1:]])))

    plain, changed = (
        predicted_after(change, fitted_on_test_rows(change)) for change in (lambda rows: rows, change_strongly)
    )
    assert np.abs(plain - changed).max() > 0.02


def test_component_forest_has_the_published_settings_and_imputes_training_medians():
    model = make_component_forest(WIDTHS, 3)
    settings = model[-1].get_params()
    wanted = dict(n_estimators=600, min_samples_leaf=2, class_weight="balanced_subsample", random_state=3)
    assert settings.items() >= wanted.items()
    values, _ = make_values()
    fitted = SparseComponents(WIDTHS).fit(values[TRAIN])
    missing = np.isnan(values[TEST])
    filled = np.where(missing, np.nanmedian(values[TRAIN], axis=0), values[TEST])
    assert missing.any()
    np.testing.assert_allclose(fitted.transform(values[TEST]), fitted.transform(filled), rtol=1e-5, atol=1e-5)


def test_the_published_plan_is_taken_where_its_families_are():
    vectors = {**dict.fromkeys(GOUWENS, 450), "psth": 120}
    assert choose_plan(vectors) is GOUWENS
    assert choose_plan(WIDTHS) == {"a": FamilyPlan(4, scaled=True), "b": FamilyPlan(3, scaled=True)}
    assert choose_plan(dict.fromkeys(list(GOUWENS)[1:], 450)) is not GOUWENS
