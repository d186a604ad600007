"""The encoder of a sequence of feature families: layer normalisation, a BiLSTM, and additive attention over families."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.patchseq.network.lstm import lstm, matmul
from jaxephys.patchseq.network.ragged_layout import Staircase

NORM_EPSILON = 1e-5  # torch's


def uniform_init(bound: float) -> Callable[..., Array]:
    """U(-bound, bound), torch's default for recurrent and dense layers. No QR, which hangs when stacked on two cores."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def normalisation(
    packed: Float[Array, "batch packed"], stairs: Staircase
) -> tuple[Float[Array, "family batch"], Float[Array, "family batch"]]:
    """Mean and 1 / sd of each family of each cell over the padded width: zeros behind the last feature count."""
    families, batch = len(stairs.widths), packed.shape[0]
    rectangles = _rectangles(packed, stairs)
    total, seen = jnp.zeros((families, batch)), jnp.zeros((families, 1))
    for step, x in zip(stairs.steps, rectangles, strict=True):
        total = total.at[jnp.array(step.families)].add(x.sum(axis=-1))
        seen = seen.at[jnp.array(step.families)].add(step.high - step.low)
    mean = total / stairs.padded
    square = (stairs.padded - seen) * mean**2
    for step, x in zip(stairs.steps, rectangles, strict=True):
        chosen = jnp.array(step.families)
        square = square.at[chosen].add(((x - mean[chosen, :, None]) ** 2).sum(axis=-1))
    return mean, jax.lax.rsqrt(square / stairs.padded + NORM_EPSILON)


def folded_projection(
    packed: Float[Array, "batch packed"],
    stairs: Staircase,
    scale: Float[Array, "feature"],
    shift: Float[Array, "feature"],
    kernel: Float[Array, "direction feature gate"],
    bias: Float[Array, "direction gate"],
) -> Float[Array, "direction family batch gate"]:
    """``LayerNorm(x) W + bias`` of every family, without ever forming the padded, normalised x.

    With mu and sigma the statistics of a family,

        LN(x) W + bias = (x / sigma) (scale W) + (-mu / sigma) sum(scale W) + (shift W + bias),

    exactly. The last two terms are two more columns of x and rows of the kernel, so the whole is one product a rectangle
    of the staircase, and each family multiplies only the columns it has. Families of the backward direction come reversed.
    """
    mean, inverse = normalisation(packed, stairs)
    scaled = scale[:, None] * kernel
    constant = jnp.einsum("f,dfg->dg", shift, kernel) + bias
    extra = jnp.stack([scaled.sum(axis=1), constant], axis=1)
    families, batch, gate = len(stairs.widths), packed.shape[0], kernel.shape[-1]
    projected = jnp.zeros((2, families, batch, gate))
    for number, (step, x) in enumerate(zip(stairs.steps, _rectangles(packed, stairs), strict=True)):
        chosen = jnp.array(step.families)
        x = x * inverse[chosen, :, None]
        columns = scaled[:, step.low : step.high]
        if number == 0:  # the first rectangle holds every family: it carries the two extra columns
            x = jnp.concatenate([x, (-mean * inverse)[..., None], jnp.ones((families, batch, 1))], axis=-1)
            columns = jnp.concatenate([columns, extra], axis=1)
        both = jnp.stack([x, x[::-1]]).reshape(2, -1, x.shape[-1])
        out = matmul(both, columns).reshape(2, len(step.families), batch, gate)
        if number == 0:
            projected = out
            continue
        for place, family in enumerate(step.families):
            back = len(step.families) - 1 - place
            projected = projected.at[0, family].add(out[0, place])
            projected = projected.at[1, families - 1 - family].add(out[1, back])
    return projected


def _rectangles(packed: Float[Array, "batch packed"], stairs: Staircase) -> list[Float[Array, "some batch feature"]]:
    """The steps of the staircase, family first."""
    parts, offset = [], 0
    for step in stairs.steps:
        part = packed[:, offset : offset + step.size].reshape(-1, len(step.families), step.high - step.low)
        parts.append(jnp.swapaxes(part, 0, 1))
        offset += step.size
    return parts


class FamilyEncoder(nn.Module):
    """LayerNorm over the padded width, then a one-layer BiLSTM over the families.

    Deviation: one bias a gate where torch has two that are always added.
    """

    stairs: Staircase
    hidden: int = 128

    @nn.compact
    def __call__(self, packed: Float[Array, "batch packed"]) -> Float[Array, "batch family pooled"]:
        width, gate = self.stairs.padded, 4 * self.hidden
        init = uniform_init(self.hidden**-0.5)
        scale = self.param("norm_scale", nn.initializers.ones, (width,))
        shift = self.param("norm_shift", nn.initializers.zeros, (width,))
        kernel = self.param("kernel", init, (2, width, gate))
        bias = self.param("bias", init, (2, gate))
        recurrent = self.param("recurrent", init, (2, self.hidden, gate))
        states = lstm(folded_projection(packed, self.stairs, scale, shift, kernel, bias), recurrent)
        return jnp.moveaxis(jnp.concatenate([states[0], states[1, ::-1]], axis=-1), 0, 1)


class TokenEncoder(nn.Module):
    """A projection for each family of what was measured and of what is missing, then the BiLSTM over these tokens.

        token_f = LayerNorm(silu(x_f W_f + missing_f M_f + b_f))

    No family is normalised by itself before it is projected: how large its features are is part of what they say. Some
    inputs are dropped in training, so that the network does without any one feature, as a missing protocol asks.
    """

    stairs: Staircase
    hidden: int = 128
    token: int = 64
    input_dropout: float = 0.1

    @nn.compact
    def __call__(
        self, packed: Float[Array, "batch packed"], missing: Float[Array, "batch packed"], *, train: bool
    ) -> Float[Array, "batch family pooled"]:
        packed = nn.Dropout(self.input_dropout, deterministic=not train)(packed)
        tokens = []
        for number, columns in enumerate(self.stairs.places):
            both = jnp.concatenate([packed[:, columns], missing[:, columns]], axis=1)
            own = nn.Dense(self.token, kernel_init=nn.initializers.he_normal(), name=f"family_{number}")
            tokens.append(nn.silu(own(both)))
        steps = nn.LayerNorm(epsilon=NORM_EPSILON, name="norm")(jnp.stack(tokens))
        init, gate = uniform_init(self.hidden**-0.5), 4 * self.hidden
        kernel = self.param("kernel", init, (2, self.token, gate))
        bias = self.param("bias", init, (2, gate))
        recurrent = self.param("recurrent", init, (2, self.hidden, gate))
        both = jnp.stack([steps, steps[::-1]])
        projected = matmul(both.reshape(2, -1, self.token), kernel) + bias[:, None]
        states = lstm(projected.reshape(*both.shape[:3], gate), recurrent)
        return jnp.moveaxis(jnp.concatenate([states[0], states[1, ::-1]], axis=-1), 0, 1)


class AdditiveAttention(nn.Module):
    """``softmax_f(v . tanh(W h_f + b))``: how much each family counts for a cell. The weights sum to 1."""

    attended: int = 128

    @nn.compact
    def __call__(self, states: Float[Array, "batch family pooled"]) -> Float[Array, "batch family"]:
        batch, families, pooled = states.shape
        kernel = self.param("kernel", uniform_init(pooled**-0.5), (pooled, self.attended))
        bias = self.param("bias", uniform_init(pooled**-0.5), (self.attended,))
        score = self.param("score", uniform_init(self.attended**-0.5), (self.attended,))
        hidden = jnp.tanh(matmul(states.reshape(1, -1, pooled), kernel[None])[0] + bias)
        return nn.softmax((hidden @ score).reshape(batch, families), axis=-1)
