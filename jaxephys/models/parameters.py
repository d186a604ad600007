"""What estimators share to keep scikit-learn's contract: checks of parameters in ``fit``, seeds, and the columns of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

LARGEST_SEED = 2**31 - 1


def first_seed(random_state: Any, seeds: int = 1) -> int:
    """Return the seed of the first network, from which those of the others follow.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState or None
        The seed itself; otherwise a seed is drawn from it, or for None from NumPy's global random numbers.
    seeds : int, default 1
        Number of networks.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    ValueError
        If ``random_state`` is negative, too large or of another type.

    Examples
    --------
    >>> first_seed(3)
    3
    >>> first_seed(np.random.RandomState(0)) == first_seed(np.random.RandomState(0))
    True
    """
    if not isinstance(random_state, Integral):
        return int(check_random_state(random_state).randint(LARGEST_SEED - seeds))
    if not 0 <= int(random_state) <= LARGEST_SEED - seeds:
        raise ValueError(
            f"random_state is {random_state}: give a whole number from 0 to {LARGEST_SEED - seeds}, or None"
        )
    return int(random_state)


def check_numbers(estimator: Any, **least: int | float) -> None:
    """Raise an error if a parameter is not a number, or is too small.

    Parameters
    ----------
    estimator : object
        The estimator, whose attributes are its parameters.
    **least : int or float
        By name of the parameter the smallest value. If it is an int, the parameter must be a whole number.

    Raises
    ------
    ValueError
        One sentence with the name and the value of the first such parameter.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_numbers(SimpleNamespace(seeds=0), seeds=1)
    Traceback (most recent call last):
    ...
    ValueError: seeds is 0: give a whole number of 1 or more
    """
    for name, smallest in least.items():
        value: Any = getattr(estimator, name)
        whole = isinstance(smallest, int)
        kind, words = (Integral, "a whole number") if whole else (Real, "a number")
        is_number = isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
        if not is_number or not smallest <= float(value) < np.inf:
            raise ValueError(f"{name} is {value!r}: give {words} of {smallest:g} or more")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raise an error if the value of a parameter is not one of its choices.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        Its value.
    choices : iterable of str
        The choices.

    Raises
    ------
    ValueError
        One sentence with name, value and choices.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {value!r}: choose one of {', '.join(choices)}")


def saved_columns(estimator: Any) -> dict[str, Any]:
    """Return the number and the names of the columns that an estimator was fitted on, as JSON values.

    Parameters
    ----------
    estimator : object
        The fitted estimator.

    Returns
    -------
    dict
        ``n_features_in`` and ``feature_names_in``, as far as the estimator has them.
    """
    columns: dict[str, Any] = {}
    if hasattr(estimator, "n_features_in_"):
        columns["n_features_in"] = int(estimator.n_features_in_)
    if hasattr(estimator, "feature_names_in_"):
        columns["feature_names_in"] = estimator.feature_names_in_.tolist()
    return columns


def restore_columns(estimator: Any, saved: Mapping[str, Any]) -> None:
    """Set the attributes that `saved_columns` has returned, of which models of earlier versions have none.

    Parameters
    ----------
    estimator : object
        The estimator.
    saved : mapping
        Settings of a saved model.
    """
    if "n_features_in" in saved:
        estimator.n_features_in_ = saved["n_features_in"]
    if "feature_names_in" in saved:
        estimator.feature_names_in_ = np.array(saved["feature_names_in"], object)
