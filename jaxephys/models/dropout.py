"""Dropout at a rate of the run, for the networks of all systems: runs of different rates are one program."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray

Rate = float | Float[AnyArray, "*run"]
MIN_KEPT = 1e-6  # probability that a value is kept: with a rate of 1 the gradient is 0, not NaN


class Dropout(nn.Module):
    """Set values to 0 with some probability, and enlarge the others so that the expected value stays.

    The class has the name of Flax's own layer, because the name enters the random numbers: they are those of
    ``flax.linen.Dropout`` with the random stream ``"dropout"``.

    Parameters
    ----------
    enlarge_last : bool, default False
        Set values to 0 first, and enlarge the others then. Both orders are equal up to rounding; a network keeps the one that its results
        were computed with.
    """

    enlarge_last: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "..."], rate: Rate) -> Float[Array, "..."]:
        """Drop values.

        Parameters
        ----------
        x : array of floats
            Values.
        rate : float or scalar array
            Probability with which each value is set to 0. Nothing is drawn for a Python number of 0, as in prediction.

        Returns
        -------
        array of the shape and type of ``x``
            The values that are kept, divided by the probability that they are.
        """
        if drops_nothing(rate):
            return x
        kept = jnp.maximum(1 - jnp.asarray(rate, jnp.float32), MIN_KEPT)
        mask = jax.random.bernoulli(self.make_rng("dropout"), kept, x.shape)
        factor = (1 / kept).astype(x.dtype)
        return jnp.where(mask, x, 0) * factor if self.enlarge_last else jnp.where(mask, x * factor, 0)


def drops_nothing(rate: Rate) -> bool:
    """Return whether a rate is 0 in every run of a program, so that no random numbers are drawn.

    Parameters
    ----------
    rate : float or scalar array
        Rate of dropout.

    Returns
    -------
    bool
        True for a Python number of 0. An array may be another number in another run.
    """
    return isinstance(rate, int | float) and rate == 0
