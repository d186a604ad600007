"""Baselines of the Patch-seq grids: models that are calibrated were not trained on the calibration rows."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.patchseq.grid import add_ensembles, train_baselines
from tests.patchseq.example_cells import make_comparison, quiet_folder


@pytest.mark.parametrize("with_validation", [True, False])
def test_calibration_rows_are_predicted_by_models_not_trained_on_them(tmp_path, with_validation):
    """A nearest neighbour memorizes its training rows: with random labels it must be no better than chance."""
    comparison = make_comparison(tmp_path)
    ((key, split),) = comparison.splits.items()
    comparison = ModelComparison(
        comparison.table.with_label(np.random.default_rng(1).permutation(comparison.table.label)), comparison.splits
    )
    nearest = {"nearest": lambda seed: make_pipeline(SimpleImputer(), KNeighborsClassifier(1))}
    train_baselines(
        quiet_folder(tmp_path), comparison, nearest, with_validation=with_validation, cross_calibrated=nearest
    )
    calibration = comparison.calibration["nearest"][key]
    rows = np.sort(np.concatenate([split.train, split.validation])) if with_validation else split.validation
    np.testing.assert_array_equal(calibration.rows, rows)
    np.testing.assert_allclose(calibration.probability.sum(axis=1), 1)
    assert (calibration.probability.argmax(axis=1) == comparison.codes[rows]).mean() < 0.5
    seen = make_pipeline(SimpleImputer(), KNeighborsClassifier(1)).fit(
        comparison.table.values[rows], comparison.codes[rows]
    )
    assert seen.score(comparison.table.values[rows], comparison.codes[rows]) == 1.0, (
        "training rows would be predicted perfectly"
    )


def test_an_ensemble_has_its_parts_beside_it_and_baselines_get_the_same(tmp_path):
    comparison = make_comparison(tmp_path)
    (key,) = comparison.splits
    add_ensembles(comparison, "average", ("calm", "sure"), ("sure",), classical=("calm",), baselines=("calm",))
    probability = {name: by_split[key] for name, by_split in comparison.test_probability.items()}
    expected = [probability[f"average{part}"] for part in (" without networks", ", networks alone")]
    np.testing.assert_allclose(probability["average"], np.mean(expected, axis=0), atol=1e-6)
    np.testing.assert_array_equal(probability["classical ensemble"], expected[0])
    with_offsets = {name.removesuffix(" + offsets") for name in probability if name.endswith(" + offsets")}
    assert with_offsets == {*probability} - {name for name in probability if "offsets" in name} - {"sure"}
    comparison = make_comparison(tmp_path)
    add_ensembles(comparison, "average", ("calm", "sure"))
    assert set(comparison.test_probability) == {"calm", "sure", "average", "average + offsets"}
