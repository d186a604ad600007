"""Networks from bins to the logits of bins: the published layer, and ours for a population of any number of units.

All have one form, so that a task can bind any of them: ``(spikes [time, unit], memory) -> (logits [time, unit], memory)``.
Row t of a causal network speaks of bin t + 1 and has seen bins up to t, those of the memory among them. The memory is what
a stream hands on, between windows or between single bins; None is the beginning of time.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.spikes.attention import attend
from jaxephys.spikes.history import Filters, History, last_of, no_history, read, trace

EPSILON = 1e-5  # torch's, of layer normalisation
ROTARY_BASE = 10_000.0
WHOLE = 16  # units beside each other in a register of the widest machine
FIXED = 2.0**16  # steps of a fixed-point number between 0 and 1
dense_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-b, b), b = fan_in^-1/2, as torch draws


class Past(NamedTuple):
    """Keys and values of the last ``window`` bins, before rotation; the last ``filled`` of them exist."""

    key: Float[AnyArray, "key head width"]
    value: Float[AnyArray, "key head width"]
    filled: Int[AnyArray, ""]


class Memory(NamedTuple):
    """The past of a network: its history filters, and for each layer what attention may still look at."""

    history: History | None
    layers: tuple[Past | None, ...] = ()


class SelfAttention(nn.Module):
    """Heads over the bins up to each. With a window it can hand on its past; rotary positions are differences in time."""

    heads: int
    window: int | None = None  # keys before bin t - window are not seen by bin t
    causal: bool = True
    rotary: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "time model"], past: Past | None
    ) -> tuple[Float[Array, "time model"], Past | None]:
        time, model = x.shape
        if model % (2 * self.heads):
            raise ValueError(
                f"{self.heads} heads do not part {model} numbers into pairs: choose a divisor of {model // 2}"
            )
        kernel = nn.initializers.glorot_uniform()
        projected = nn.Dense(3 * model, kernel_init=kernel, name="in_proj")(x)
        q, k, v = jnp.moveaxis(projected.reshape(time, 3, self.heads, -1), 1, 0)
        start, later = None, None
        if self.window is not None and self.causal:
            if past is not None:
                k, v = jnp.concatenate([past.key, k]), jnp.concatenate([past.value, v])
                start = self.window - past.filled
            later = self._later(k, v, time if past is None else time + past.filled)
        if self.rotary:
            q, k = rotate(q, len(k) - time), rotate(k, 0)
        self.sow("intermediates", "seen", (q, k))  # kept only where a caller asks for it
        y = attend(q, k, v, window=self.window, causal=self.causal, start=start)
        return nn.Dense(model, kernel_init=dense_init, name="out_proj")(y.reshape(time, model)), later

    def _later(self, k: Array, v: Array, seen: Int[AnyArray, ""] | int) -> Past:
        assert self.window is not None
        short = max(self.window - len(k), 0)
        k, v = (jnp.pad(x, ((short, 0), (0, 0), (0, 0)))[len(x) + short - self.window :] for x in (k, v))
        return Past(k, v, jnp.minimum(jnp.asarray(seen, jnp.int32), self.window))


def rotate(x: Float[Array, "time head width"], first: int) -> Float[Array, "time head width"]:
    """Turn pair i of bin t by ``(first + t) base^(-2 i / width)``: products of two bins then know their distance alone."""
    half = x.shape[-1] // 2
    turn = (first + jnp.arange(x.shape[0]))[:, None] * ROTARY_BASE ** (-jnp.arange(half) / half)
    cosine, sine = jnp.cos(turn)[:, None], jnp.sin(turn)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1)


class PublishedLayer(nn.Module):
    """One layer as torch has it, bins themselves as tokens, then a linear head. Parameters bear torch's names.

        x = norm1(x + attention(x));  x = norm2(x + linear2(relu(linear1(x))));  logits = fc(x)

    ``legacy`` sees all bins, past and future, and its row t speaks of bin t, which it is shown: a reconstruction. Causal,
    row t sees bins up to t and speaks of bin t + 1. There are no positions. Deviation: no dropout of attention weights.
    """

    units: int = 128
    heads: int = 16
    hidden: int = 128
    depth: int = 1
    dropout: float = 0.1
    legacy: bool = False
    window: int | None = None

    @nn.compact
    def __call__(
        self, spikes: Float[AnyArray, "time unit"], memory: Memory | None = None, *, train: bool = False
    ) -> tuple[Float[Array, "time unit"], Memory]:
        _check_units(spikes, self.units)
        x, later = jnp.asarray(spikes, jnp.float32), []
        for place, past in zip(range(self.depth), _layers(memory, self.depth), strict=True):
            name = "layer" if self.depth == 1 else f"layer_{place}"
            x, own = PublishedBlock(self.heads, self.hidden, self.dropout, not self.legacy, self.window, name=name)(
                x, past, train=train
            )
            later.append(own)
        return _dense(self.units, x.shape[-1], "fc")(x), Memory(None, tuple(later))


class PublishedBlock(nn.Module):
    heads: int
    hidden: int
    dropout: float
    causal: bool
    window: int | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "time model"], past: Past | None, *, train: bool
    ) -> tuple[Float[Array, "time model"], Past | None]:
        def drop(y: Array) -> Array:
            return nn.Dropout(self.dropout, deterministic=not train)(y)

        model = x.shape[-1]
        attention = SelfAttention(self.heads, self.window, self.causal, rotary=False, name="self_attn")
        y, later = attention(x, past)
        x = nn.LayerNorm(epsilon=EPSILON, name="norm1")(x + drop(y))
        y = drop(nn.relu(_dense(self.hidden, model, "linear1")(x)))
        y = drop(_dense(model, self.hidden, "linear2")(y))
        return nn.LayerNorm(epsilon=EPSILON, name="norm2")(x + y), later


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``: normalised before, so that depth trains."""

    heads: int
    window: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "time model"], past: Past | None, *, train: bool
    ) -> tuple[Float[Array, "time model"], Past | None]:
        def drop(y: Array) -> Array:
            return nn.Dropout(self.dropout, deterministic=not train)(y)

        attention = SelfAttention(self.heads, self.window, name="self_attn")
        y, later = attention(nn.LayerNorm(epsilon=EPSILON, name="norm1")(x), past)
        x = x + drop(y)
        y = nn.Dense(self.hidden, kernel_init=dense_init, name="linear1")(
            nn.LayerNorm(epsilon=EPSILON, name="norm2")(x)
        )
        y = nn.Dense(x.shape[-1], kernel_init=dense_init, name="linear2")(drop(nn.gelu(y)))
        return x + drop(y), later


class Cells(NamedTuple):
    """Some pairs of a bin and a unit: a loss over these alone costs a hundredth of one over all."""

    bin: Int[AnyArray, "some"]
    unit: Int[AnyArray, "some"]


class PopulationTransformer(nn.Module):
    """Every unit read by one shared encoder of its history, and a transformer over what the population does together.

        c_t    = blocks(mean_u tanh(W features_tu), population features)      few wide heads, rotary, a local window
        h_tu   = encoder(features of u's past, of the population's past)
        logit  = logit of u's running rate + readout(h_tu, c_t)

    Without ``units`` it takes any number of them, and another order of units is another order of outputs, exactly: the mean
    is of fixed-point numbers, whose sum no order changes, and units are filled up with silent ones to a multiple of ``WHOLE``,
    since the ragged end of a matrix product rounds otherwise than its middle. With ``units`` each has a vector of its own besides, a place in
    the transformer's tokens and its own row of the head; the readouts begin at 0, and the network as the running rate.
    ``chosen`` asks for the logits of these cells only; the transformer reads all bins and units all the same.
    """

    units: int | None = None
    width: int = 32  # of the transformer
    depth: int = 1
    heads: int = 2
    window: int = 128  # bins that a layer looks back
    hidden: int = 64
    cell: int = 48  # numbers a unit and bin
    dropout: float = 0.1
    filters: Filters = Filters()

    @nn.compact
    def __call__(
        self,
        spikes: Float[AnyArray, "time unit"],
        memory: Memory | None = None,
        *,
        train: bool = False,
        chosen: Cells | None = None,
    ) -> tuple[Float[Array, "..."], Memory]:
        spikes = jnp.asarray(spikes, jnp.float32)
        if self.units is not None:
            _check_units(spikes, self.units)
        state = None if memory is None else memory.history
        states = trace(self.filters, no_history(self.filters, spikes.shape[1]) if state is None else state, spikes)
        features, population, offset = read(self.filters, states)
        units = features.shape[1]
        features = jnp.pad(features, ((0, 0), (0, -units % WHOLE if self.units is None else 0), (0, 0)))
        together = fixed_point_mean(jnp.tanh(nn.Dense(self.width, name="pool")(features))[:, :units])
        x = nn.Dense(self.width, name="token")(jnp.concatenate([together, population], axis=-1))
        if self.units is not None:
            x = x + nn.Dense(self.width, use_bias=False, name="token_of_units")(spikes)
        x, later = nn.Dropout(self.dropout, deterministic=not train)(x), []
        for place, past in zip(range(self.depth), _layers(memory, self.depth), strict=True):
            block = Block(self.heads, self.window, self.hidden, self.dropout, name=f"layer_{place}")
            x, own = block(x, past, train=train)
            later.append(own)
        x = nn.LayerNorm(epsilon=EPSILON, name="norm")(x)
        logits = self._read_out(features, population, offset, x, chosen)
        return logits, Memory(last_of(states), tuple(later))

    def _read_out(
        self, features: Array, population: Array, offset: Array, x: Array, chosen: Cells | None
    ) -> Float[Array, "..."]:
        """What is known of a bin meets what is known of a unit, for every cell or the chosen ones."""

        def of_bins(values: Array) -> Array:
            return values[:, None] if chosen is None else values[chosen.bin]

        def of_units(values: Array) -> Array:
            return values if chosen is None else values[chosen.unit]

        if chosen is not None:
            features, offset = features[chosen.bin, chosen.unit], offset[chosen.bin, chosen.unit]
        zeros = nn.initializers.zeros
        h = nn.Dense(self.cell, name="encoder_1")(features)
        h = h + of_bins(nn.Dense(self.cell, name="encoder_2")(population))
        if self.units is not None:
            h = h + of_units(self.param("unit", nn.initializers.normal(0.1), (self.units, self.cell)))
        h = nn.silu(nn.Dense(self.cell, name="encoder_3")(nn.silu(h)))
        gate, context = (of_bins(nn.Dense(self.cell, name=name)(x)) for name in ("gate", "context"))
        h = nn.silu(nn.Dense(self.cell, name="readout_1")(h) * (1 + gate) + context)
        learnt = nn.Dense(1, kernel_init=zeros, name="readout_2")(h)[..., 0]
        logits = offset + learnt[..., : offset.shape[-1]]
        if self.units is not None:
            head = self.param("head_of_units", zeros, (self.units, self.width))
            logits = logits + jnp.sum(of_bins(x) * of_units(head), axis=-1)
        return logits


Network = PopulationTransformer | PublishedLayer


@jax.custom_vjp
def fixed_point_mean(x: Float[Array, "time unit width"]) -> Float[Array, "time width"]:
    """The mean over units of numbers in [-1, 1], rounded to 2^-16 first: whole numbers add up to the same in any order.

    Good for 32,767 units. The gradient is that of the plain mean.
    """
    whole = jnp.round(x * FIXED).astype(jnp.int32)
    return jnp.sum(whole, axis=1).astype(jnp.float32) / (FIXED * x.shape[1])


def _mean_forward(x: Array) -> tuple[Array, Array]:
    return fixed_point_mean(x), x


def _mean_backward(x: Array, mean_bar: Array) -> tuple[Array]:
    return (jnp.broadcast_to(mean_bar[:, None] / x.shape[1], x.shape),)


fixed_point_mean.defvjp(_mean_forward, _mean_backward)


def _dense(out: int, fan_in: int, name: str) -> nn.Dense:
    """torch's Linear: kernel and bias from U(-b, b), b = fan_in^-1/2."""

    def bias(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return nn.Dense(out, kernel_init=dense_init, bias_init=bias, name=name)


def _layers(memory: Memory | None, depth: int) -> tuple[Past | None, ...]:
    return memory.layers if memory is not None and memory.layers else (None,) * depth


def _check_units(spikes: Array, units: int) -> None:
    if spikes.shape[1] != units:
        raise ValueError(f"the recording has {spikes.shape[1]} units, and this network knows {units}: give it those")
