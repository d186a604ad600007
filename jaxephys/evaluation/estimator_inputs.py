"""What scikit-learn estimators are given: features of rows, labels of any type and weights, checked and as arrays.

`check_features` takes arrays, DataFrames and feature tables, `check_labels` their labels, `encode_classes` numbers the classes of
training labels, `class_codes` finds labels among the classes of a trained classifier, and `check_weights` checks weights of rows.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from jaxephys.schemas.feature_table import UNLABELLED, FeatureTable

FLOATS = (np.float64, np.float32)


def check_features(estimator: Any, X: Any, *, reset: bool) -> Float[np.ndarray, "row column"]:
    """Return features as an array; store or compare the number and the names of the columns, as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator. Its attributes are ``n_features_in_`` and, for a FeatureTable or a DataFrame with text names,
        ``feature_names_in_``.
    X : array-like, DataFrame or FeatureTable, shape (n_rows, n_columns)
        Features, NaN where a value is missing.
    reset : bool
        True stores the number and the names of the columns, for training. False compares them with the stored ones, for
        prediction.

    Returns
    -------
    ndarray of float32 or float64, shape (n_rows, n_columns)
        The features.

    Raises
    ------
    ValueError
        If there is no row or no column, values are complex, infinite or no numbers, or number, names or order of the columns
        differ.
    TypeError
        If the features are sparse.
    """
    if not isinstance(X, FeatureTable):
        values: Any = validate_data(estimator, X, reset=reset, dtype=FLOATS, ensure_all_finite=False)
        if (infinite := np.isinf(values)).any():
            row, column = np.argwhere(infinite)[0]
            name = getattr(estimator, "feature_names_in_", np.arange(values.shape[1]))[column]
            raise ValueError(
                f"column {name} of row {row} is {values[row, column]}: give a number, or NaN where it is missing"
            )
        return values
    values = X.values
    if reset:
        validate_data(estimator, cast(Any, values), reset=True, ensure_all_finite=False)
        estimator.feature_names_in_ = np.array(X.features, object)
    expected, names = estimator.n_features_in_, getattr(estimator, "feature_names_in_", None)
    if values.shape[1] != expected:
        raise ValueError(f"the table has {values.shape[1]} features, but the classifier was trained on {expected}")
    if names is not None and (differs := np.array(X.features, object) != names).any():
        column = int(differs.argmax())
        raise ValueError(
            f"feature {column} of the table is {X.features[column]!r}, but it was {names[column]!r} in training: "
            f"give the features of the training table in the same order"
        )
    return values


def check_labels(estimator: BaseEstimator, X: Any, y: Any) -> Shaped[np.ndarray, "row"]:
    """Return the labels of training rows as an array.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator, whose name is a part of the message.
    X : array-like, DataFrame or FeatureTable of n_rows
        Features.
    y : array-like, shape (n_rows,), or None
        Labels. None takes those of the table.

    Returns
    -------
    ndarray, shape (n_rows,)
        The labels in their own type.

    Raises
    ------
    ValueError
        If there are no labels, a cell of the table has none, or there are more or fewer labels than rows.
    """
    if y is None and isinstance(X, FeatureTable):
        return X.classes[X.codes()]  # an error names a cell without a label
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    labels, n_rows = column_or_1d(y, warn=True), len(X) if hasattr(X, "__len__") else len(np.asarray(X))
    if len(labels) != n_rows:
        raise ValueError(f"there are {n_rows} rows and {len(labels)} labels: give one label for each row")
    return labels


def encode_classes(labels: Any, min_rows: int = 1) -> tuple[Shaped[np.ndarray, "class"], Int[np.ndarray, "row"]]:
    """Return the classes of training labels and the class of each row as an integer.

    Parameters
    ----------
    labels : array-like, shape (n_rows,)
        Class of each row: integers, booleans, text or whole floats.
    min_rows : int, default 1
        Smallest number of rows of a class.

    Returns
    -------
    classes : ndarray, shape (n_classes,)
        The different labels, sorted, in the type of ``labels``.
    codes : ndarray of int32, shape (n_rows,)
        Index of each label in ``classes``.

    Raises
    ------
    ValueError
        If a label is missing or is a number that is not whole, there is a single class, or a class has too few rows.

    Examples
    --------
    >>> import numpy as np
    >>> classes, codes = encode_classes(np.array([10, 2, 10]))
    >>> classes.tolist(), codes.tolist()
    ([2, 10], [1, 0, 1])
    """
    labels = column_or_1d(labels, warn=True)
    if labels.dtype.kind in "UO":
        missing = np.flatnonzero(np.isin(labels.astype(str), (*UNLABELLED, "<NA>")))
        if len(missing):
            raise ValueError(
                f"label {missing[0]} is {str(labels[missing[0]])!r}, and {len(missing) - 1} others are missing: "
                f"label the rows or leave them out"
            )
    check_classification_targets(labels)
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"all {len(labels)} labels are {_shown(classes, 0)}, one class: at least two classes are needed"
        )
    if counts.min() < min_rows:
        count = counts.min()
        raise ValueError(
            f"class {_shown(classes, counts.argmin())} has {count} row{'s' if count > 1 else ''}, but {min_rows} are needed: "
            f"add some, merge it with another class or leave it out"
        )
    return classes, codes.astype(np.int32)


def class_codes(labels: Any, classes: Shaped[np.ndarray, "class"]) -> Int[np.ndarray, "row"]:
    """Return labels as indices into the classes of a trained classifier.

    Parameters
    ----------
    labels : array-like, shape (n_rows,)
        Class of each row, in the type of ``classes`` or another: 1, 1.0 and "1" are one class.
    classes : ndarray, shape (n_classes,)
        The classes, in any order.

    Returns
    -------
    ndarray of int32, shape (n_rows,)
        Index of each label.

    Raises
    ------
    ValueError
        If a label is not among the classes.

    Examples
    --------
    >>> import numpy as np
    >>> class_codes([10, 2], np.array([2, 10])).tolist(), class_codes(["10", "2"], np.array([2, 10])).tolist()
    ([1, 0], [1, 0])
    """
    values, names = column_or_1d(labels).tolist(), classes.tolist()
    code_of = {str(name): code for code, name in enumerate(names)} | {name: code for code, name in enumerate(names)}
    codes = [code_of.get(value, code_of.get(str(value), -1)) for value in values]
    if -1 in codes:
        raise ValueError(f"label {values[codes.index(-1)]!r} is not one of the classes {', '.join(map(str, names))}")
    return np.array(codes, np.int32)


def check_weights(weights: Any, n_rows: int) -> Float[np.ndarray, "row"]:
    """Return the weights of training rows as an array.

    Parameters
    ----------
    weights : float or array-like, shape (n_rows,)
        Weight of each row: 2 counts as two equal rows, 0 as none.
    n_rows : int
        Number of rows.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        The weights.

    Raises
    ------
    ValueError
        If they have another shape, one is negative or not finite, or all are zero.
    """
    weights = np.full(n_rows, weights, np.float64) if isinstance(weights, Real) else np.asarray(weights, np.float64)
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight has shape {weights.shape}: give one weight for each of the {n_rows} rows")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0]
        raise ValueError(f"the sample weight of row {wrong} is {weights[wrong]}: give a number of at least 0")
    if not weights.any():
        raise ValueError("all sample weights are zero: give at least two classes a weight above 0")
    return weights


def _shown(classes: np.ndarray, index: int | np.integer) -> str:
    return repr(classes.tolist()[index])
