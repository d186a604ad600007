"""Check of the parameters of ``PatchSeqClassifier``, which ``fit`` runs first: scikit-learn sets parameters without any check."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

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
