"""Labels keep their type and order, and invalid features, labels and weights are reported in one sentence."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator

from jaxephys import FeatureTable
from jaxephys.evaluation.estimator_inputs import (
    check_features,
    check_labels,
    check_weights,
    class_codes,
    encode_classes,
)

LABELS = {
    "integers": np.array([10, 2, 2, 10]),
    "signed": np.array([1, -1, -1, 1]),
    "booleans": np.array([True, False, False, True]),
    "text": np.array(["b", "a", "a", "b"]),
    "objects": np.array(["b", "a", "a", "b"], object),
    "whole floats": np.array([2.0, 1.0, 1.0, 2.0]),
    "a list": [10, 2, 2, 10],
    "a series": pd.Series(["b", "a", "a", "b"], dtype="category"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_classes_have_the_type_and_the_order_of_the_labels(kind):
    labels = LABELS[kind]
    classes, codes = encode_classes(labels)
    expected, expected_codes = np.unique(np.asarray(labels), return_inverse=True)
    assert classes.dtype == expected.dtype
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(class_codes(labels, classes), codes)
    np.testing.assert_array_equal(class_codes([str(name) for name in np.asarray(labels)], classes), codes)


def test_integers_are_found_among_classes_of_text():
    np.testing.assert_array_equal(class_codes([10, 2], np.array(["10", "2"])), [0, 1])


TABLE = FeatureTable.from_arrays(np.ones((4, 2)), {"tau": ["tau", "ri"]})
MISTAKES = {
    "a missing text": (lambda: encode_classes(["a", "", "b", ""]), "label 1 is '', and 1 others are missing"),
    "a missing object": (lambda: encode_classes(np.array(["a", None, "b"], object)), "label 1 is 'None'"),
    "a missing value of pandas": (lambda: encode_classes(pd.Series(["a", pd.NA, "b"])), "label 1 is '(<NA>|nan)'"),
    "a number that is not whole": (lambda: encode_classes([0.5, 1.5]), "continuous"),
    "one class": (lambda: encode_classes(["Sst"] * 40), "all 40 labels are 'Sst', one class: at least two"),
    "one number": (lambda: encode_classes([7] * 40), "all 40 labels are 7, one class"),
    "a small class": (lambda: encode_classes(["b", "a", "b", "b"], 2), "class 'a' has 1 row, but 2 are needed"),
    "an unknown class": (
        lambda: class_codes(["a", "c"], np.array(["a", "b"])),
        "label 'c' is not one of the classes a, b",
    ),
    "no labels": (lambda: check_labels(BaseEstimator(), np.ones((4, 2)), None), "requires y to be passed"),
    "a label too few": (lambda: check_labels(BaseEstimator(), TABLE, ["a"] * 3), "there are 4 rows and 3 labels"),
    "a table without labels": (lambda: check_labels(BaseEstimator(), TABLE, None), "the table has no labels"),
    "a weight too few": (lambda: check_weights(np.ones(3), 4), r"sample_weight has shape \(3,\): give one weight"),
    "a negative weight": (lambda: check_weights([1, -2], 2), "the sample weight of row 1 is -2.0"),
    "no weight": (lambda: check_weights([0, 0], 2), "all sample weights are zero"),
    "infinity": (
        lambda: check_features(BaseEstimator(), pd.DataFrame({"tau": [1.0, np.inf]}), reset=True),
        "column tau of row 1 is inf: give a number, or NaN where it is missing",
    ),
    "complex": (
        lambda: check_features(BaseEstimator(), np.ones((2, 2)) * 1j, reset=True),
        "Complex data not supported",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake):
    call, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint):
        call()


def test_sparse_features_are_refused():
    with pytest.raises(TypeError, match="toarray"):
        check_features(BaseEstimator(), sparse.csr_array(np.eye(3)), reset=True)


def test_columns_of_a_table_are_compared_by_name():
    estimator = BaseEstimator()
    np.testing.assert_array_equal(check_features(estimator, TABLE, reset=True), TABLE.values)
    assert estimator.n_features_in_ == 2 and estimator.feature_names_in_.tolist() == ["tau", "ri"]
    assert check_features(estimator, pd.DataFrame({"tau": [1.0], "ri": [2.0]}), reset=False).tolist() == [[1.0, 2.0]]
    swapped = FeatureTable.from_arrays(np.ones((4, 2)), {"tau": ["ri", "tau"]})
    with pytest.raises(ValueError, match="feature 0 of the table is 'ri', but it was 'tau' in training"):
        check_features(estimator, swapped, reset=False)
    with pytest.raises(ValueError, match="in the same order as they were in fit"):
        check_features(estimator, pd.DataFrame({"ri": [2.0], "tau": [1.0]}), reset=False)
    with pytest.raises(ValueError, match="the table has 1 features, but the classifier was trained on 2"):
        check_features(estimator, FeatureTable.from_arrays(np.ones((4, 1)), {"tau": ["tau"]}), reset=False)


def test_a_single_weight_is_that_of_all_rows():
    assert check_weights(2, 3).tolist() == [2.0, 2.0, 2.0]
