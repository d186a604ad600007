"""A transformer for populations of any number of units. Start with :class:`PopulationTransformer`."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.models.dropout import Dropout
from jaxephys.spikes import history
from jaxephys.spikes.history import Filters, HistoryFeatures
from jaxephys.spikes.network.form import ComputeForm
from jaxephys.spikes.network.interface import Entries, Memory
from jaxephys.spikes.network.layers import (
    LAYER_NORM_EPSILON,
    TransformerBlock,
    apply_blocks,
    check_units,
    take_rows,
)

UNIT_MULTIPLE = 16  # units that the widest processors handle together
FIXED_POINT_STEPS = 2.0**16  # steps of a fixed-point number between 0 and 1


class PopulationTransformer(nn.Module):
    """One encoder of the spike history that all units share, and a transformer over the activity of the population.

    Parameters
    ----------
    units : int, optional
        Without it the network takes any number of units in any order. With it the network is for these units only, and each
        has a vector of its own, a column of the transformer's input and a row of the head.
    width : int
        Width of the transformer.
    depth : int
        Number of transformer layers.
    heads : int
        Heads of a layer.
    window : int
        Number of past bins that a layer attends to.
    hidden : int
        Width of a layer's feed-forward part.
    unit_width : int
        Width of the encoder, per unit and bin.
    dropout : float
        Dropout rate in training, 0 to 1.
    filters : Filters
        Filters of the spike history.
    form : ComputeForm
        How the network is computed.

    Notes
    -----
    With the features of :mod:`jaxephys.spikes.history` for unit u and bin t::

        c_t    = layers(mean_u tanh(W features_tu), population features)      few wide heads, rotary positions, a window
        h_tu   = encoder(features of unit u, features of the population)
        logit  = logit of the running rate of u + readout(h_tu, c_t)

    Without ``units``, permuting the units permutes the outputs and leaves every bit of them unchanged. Two measures ensure
    this: the mean over units is taken of fixed-point numbers, whose sum is the same in any order; and silent units are added
    up to a multiple of `UNIT_MULTIPLE`, because the ragged end of a matrix product is rounded differently from its middle.
    The readouts start at 0, and the network therefore as the running rate.
    """

    units: int | None = None
    width: int = 32
    depth: int = 1
    heads: int = 2
    window: int = 128
    hidden: int = 64
    unit_width: int = 48
    dropout: float = 0.1
    filters: Filters = Filters()
    form: ComputeForm = ComputeForm()

    supports_entry_sampling = True
    is_reconstruction = False

    @nn.compact
    def __call__(
        self,
        spikes: Float[AnyArray, "time unit"],
        memory: Memory | None = None,
        *,
        train: bool = False,
        entries: Entries | None = None,
        dropout_rate: Float[AnyArray, ""] | float | None = None,
    ) -> tuple[Float[Array, "..."], Memory]:
        """Compute logits of spikes in the next bin.

        Parameters
        ----------
        spikes : array of shape (bins, units)
            Zeros and ones.
        memory : Memory, optional
            Memory after the bins before; None at the beginning of a recording.
        train : bool
            Whether to apply dropout.
        entries : Entries, optional
            Compute the logits of these (bin, unit) pairs only. The transformer reads all bins and units all the same.
        dropout_rate : float, optional
            Rate in place of ``dropout``.

        Returns
        -------
        logits : float32 array of shape (bins, units) or (entries,)
            Row t belongs to bin t + 1.
        memory : Memory
            Memory after the last bin.
        """
        spikes = jnp.asarray(spikes, jnp.float32)
        if self.units is not None:
            check_units(spikes, self.units)
        state = None if memory is None else memory.history
        state = history.initial_history(self.filters, spikes.shape[1]) if state is None else state
        states = history.trace_history(self.filters, state, spikes)
        features = history.compute_features(self.filters, states)
        n_units = spikes.shape[1]
        padding = -n_units % UNIT_MULTIPLE if self.units is None else 0
        features = features._replace(unit=jnp.pad(features.unit, ((0, 0), (0, padding), (0, 0))))
        dense = partial(nn.Dense, self.width, dtype=self.form.activations)
        pooled = fixed_point_mean(jnp.tanh(dense(name="pool")(features.unit))[:, :n_units])
        x = dense(name="token")(jnp.concatenate([pooled, features.population], axis=-1))
        if self.units is not None:
            x = x + dense(use_bias=False, name="token_of_units")(spikes)
        sizes = self.heads, self.window, self.hidden
        rate = (self.dropout if dropout_rate is None else dropout_rate) if train else 0.0
        blocks = [TransformerBlock(*sizes, form=self.form, name=f"layer_{index}") for index in range(self.depth)]
        x, caches = apply_blocks(blocks, Dropout()(x, rate), memory, rate)
        x = nn.LayerNorm(LAYER_NORM_EPSILON, dtype=self.form.activations, name="norm")(x)
        return self._read_out(features, x, entries), Memory(history.last_state(states), caches)

    def _read_out(self, features: HistoryFeatures, x: Array, entries: Entries | None) -> Float[Array, "..."]:
        """Combine the vector of each bin with the features of each unit, for all entries or the given ones."""

        def at_bins(x: Array) -> Array:
            return x[:, None] if entries is None else take_rows(x, entries.bin, scatter=self.form.scatter)

        def at_units(x: Array) -> Array:
            return x if entries is None else take_rows(x, entries.unit, scatter=self.form.scatter)

        pairs = np.s_[:, :] if entries is None else tuple(entries)
        rate_logit, zeros = features.rate_logit[pairs], nn.initializers.zeros
        dense = partial(nn.Dense, self.unit_width, dtype=self.form.activations)
        of_bins = [dense(name="encoder_2")(features.population), *(dense(name=name)(x) for name in ("gate", "context"))]
        population, gate, context = jnp.split(at_bins(jnp.concatenate(of_bins, axis=-1)), 3, axis=-1)
        h = dense(name="encoder_1")(features.unit[pairs]) + population
        if self.units is not None:
            unit = self.param("unit", nn.initializers.normal(0.1), (self.units, self.unit_width))
            h = h + at_units(unit).astype(h.dtype)
        h = nn.silu(dense(name="encoder_3")(nn.silu(h)))
        h = nn.silu(dense(name="readout_1")(h) * (1 + gate) + context)
        readout = nn.Dense(1, dtype=jnp.float32, kernel_init=zeros, name="readout_2")(h)[..., 0]
        logits = rate_logit + readout[..., : rate_logit.shape[-1]]
        if self.units is not None:
            head = self.param("head_of_units", zeros, (self.units, self.width))
            logits = logits + jnp.sum(at_bins(x) * at_units(head), axis=-1)
        return logits


@jax.custom_vjp
def fixed_point_mean(x: Float[Array, "time unit width"]) -> Float[Array, "time width"]:
    """Compute a mean over units that does not depend on their order, to the last bit.

    Parameters
    ----------
    x : float array of shape (bins, units, width)
        Numbers in [-1, 1], up to 32,767 units.

    Returns
    -------
    float32 array of shape (bins, width)
        Mean of the numbers, each rounded to a multiple of 2^-16.

    Notes
    -----
    Integers add up to the same sum in any order. The gradient is that of the plain mean.
    """
    integers = jnp.round(x * FIXED_POINT_STEPS).astype(jnp.int32)
    return jnp.sum(integers, axis=1).astype(jnp.float32) / (FIXED_POINT_STEPS * x.shape[1])


def _mean_forward(x: Array) -> tuple[Array, Array]:
    return fixed_point_mean(x), x


def _mean_backward(x: Array, mean_bar: Array) -> tuple[Array]:
    return (jnp.broadcast_to(mean_bar[:, None] / x.shape[1], x.shape).astype(x.dtype),)


fixed_point_mean.defvjp(_mean_forward, _mean_backward)
