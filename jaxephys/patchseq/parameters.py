"""Check of the parameters of ``PatchSeqClassifier``, which ``fit`` runs first: scikit-learn sets parameters without any check."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from sklearn.utils import check_random_state

from jaxephys.patchseq.network.dropout import DEFAULT_RATES

CHOICES = {"head": ("softmax", "arcface"), "pooling": ("attention", "fixed"), "smote": (False, True)}
COUNTS = ("seeds", "hidden", "max_epochs", "batch_size", "patience", "token")
OPTIONAL = ("patience", "token")  # None has a meaning
RANGES = {  # in words, and as a test
    "gamma": ("of at least 0", lambda x: x >= 0),
    "dropout": ("from 0 to below 1", lambda x: 0 <= x < 1),
    "learning_rate": ("above 0", lambda x: x > 0),
    "validation": ("between 0 and 1", lambda x: 0 < x < 1),
}
LARGEST_SEED = 2**31 - 1


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise an error if a parameter is impossible.

    Parameters
    ----------
    parameters : mapping of str to object
        What ``PatchSeqClassifier.get_params`` returns.

    Raises
    ------
    ValueError
        If a choice is unknown, a number is outside its range, or two parameters contradict each other. The error names the
        parameter, its value and what is possible.
    """
    for name, choices in CHOICES.items():
        if parameters[name] not in choices:
            raise ValueError(f"{name} is {parameters[name]!r}: choose {' or '.join(map(str, choices))}")
    for name in COUNTS:
        value = parameters[name]
        if value is None and name in OPTIONAL:
            continue
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}: give a whole number of at least 1")
    for name, (words, is_possible) in RANGES.items():
        value = parameters[name]
        if not isinstance(value, Real) or not is_possible(value):
            raise ValueError(f"{name} is {value!r}: give a number {words}")
    if parameters["head"] == "arcface" and parameters["dropout"] not in (0, DEFAULT_RATES.hidden):
        raise ValueError(
            f"dropout is {parameters['dropout']}, but the ArcFace head has none: give 0, or choose the head 'softmax'"
        )


def first_seed(random_state: Any, seeds: int) -> int:
    """Return the seed of the first network.

    Parameters
    ----------
    random_state : int, RandomState or None
        The seed itself, a generator that draws it, or None for another seed at each call.
    seeds : int
        Number of networks; their seeds follow the first.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    ValueError
        If it is negative, too large, or something else.
    """
    if not isinstance(random_state, Integral):
        return int(check_random_state(random_state).randint(LARGEST_SEED - seeds))
    if not 0 <= int(random_state) <= LARGEST_SEED - seeds:
        raise ValueError(
            f"random_state is {random_state}: give a whole number from 0 to {LARGEST_SEED - seeds}, or None"
        )
    return int(random_state)
