"""Dropout with a rate of the run, so that runs of different rates are one program."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray

Rate = float | Float[AnyArray, "*run"]
MIN_KEPT = 1e-6  # share of the values: with a rate of 1 the gradient is 0, not NaN


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


class Dropout(nn.Module):
    """Set values to 0 with some probability, and enlarge the others so that the expected value stays.

    The name of the class is that of Flax's own layer because it enters the random numbers.

    Parameters
    ----------
    usual : float
        The rate of most runs. Its factor is a constant of the program, and that of another rate is relative to it: runs with the
        usual rate have the same numbers, to the last bit, as in a program for this rate only.
    """

    usual: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], rate: Rate, *, train: bool) -> Float[Array, "..."]:
        if not train:
            return x
        kept = jnp.maximum(1 - jnp.asarray(rate, jnp.float32), MIN_KEPT)
        mask = jax.random.bernoulli(self.make_rng("dropout"), kept, x.shape)
        relative = (1 - jnp.float32(self.usual)) / kept
        return jnp.where(mask, x / (1 - self.usual), 0.0) * relative
