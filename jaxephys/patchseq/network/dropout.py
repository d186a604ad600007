"""The dropout rates of the networks."""

from __future__ import annotations

from typing import NamedTuple

from jaxephys.models.dropout import Rate


class DropoutRates(NamedTuple):
    """The probabilities with which a network drops values in training.

    Parameters
    ----------
    hidden : float or array of shape (run,), default 0.2
        Rate of the pooled vector before a head, or of the hidden layers of a tabular network.
    inputs : float or array of shape (run,), default 0.1
        Rate of the inputs of our encoder and of a tabular network. The published encoder drops no inputs.
    """

    hidden: Rate = 0.2
    inputs: Rate = 0.1


DEFAULT_RATES = DropoutRates()
