"""ResNet-18 in one dimension: an encoder of curves, and its mirror that draws them.

Arrays are (batch, position, channel). Modules bear the names that torch's ResNet has, so that a published state dict maps
onto them by rule. Deviation: biases start at 0, where torch draws them.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray

EPSILON, MOMENTUM = 1e-5, 0.1  # torch's, of batch normalisation
SLOPE = 0.01  # of the leaky ReLU inside the ResNets
FORMS = ("plain", "shifted", "columns")
FORM = "columns"  # the fastest on a CPU
dense_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-b, b), b = fan_in^-1/2, as torch draws


def convolve(
    x: Float[Array, "batch position in"], kernel: Float[AnyArray, "tap in out"], stride: int = 1, form: str = FORM
) -> Float[Array, "batch _ out"]:
    """``y_i = sum_k x_{stride i + k - reach} W_k``, zeros outside, reach = (taps - 1) / 2 on both sides.

    ("SAME" would pad a stride of 2 on the right alone.) One sum in three forms, for devices that are fast in one of them:
    "plain" is XLA's convolution, which becomes a grouped one where runs are stacked; "shifted" a product a tap; "columns" one
    product with the taps side by side. On two CPU cores a training step of width 16 and batch 128 takes 1.8, 0.5 and 0.4 s:
    inside a loop XLA leaves the gradient of "plain" to its slowest path. Where nothing is trained "plain" is the fastest.
    """
    if form not in FORMS:
        raise ValueError(f"the form of convolution {form!r} is unknown: choose one of {', '.join(FORMS)}")
    taps, reach = kernel.shape[0], kernel.shape[0] // 2
    if form == "plain":
        layout = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride,), [(reach, reach)], dimension_numbers=layout)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
    span = x.shape[1] + 2 * reach - taps + 1
    windows = [padded[:, tap : tap + span : stride] for tap in range(taps)]
    if form == "columns":
        return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
    return jnp.stack([window @ kernel[tap] for tap, window in enumerate(windows)]).sum(axis=0)


class Convolution(nn.Module):
    channels: int
    taps: int = 3
    stride: int = 1
    bias: bool = False  # none before batch normalisation, which takes any bias away
    form: str = FORM

    @nn.compact
    def __call__(self, x: Float[Array, "batch position in"]) -> Float[Array, "batch _ out"]:
        kernel = self.param("kernel", dense_init, (self.taps, x.shape[-1], self.channels))
        y = convolve(x, kernel, self.stride, self.form)
        return y + self.param("bias", nn.initializers.zeros, (self.channels,)) if self.bias else y


class GrowingConvolution(nn.Module):
    """Every position twice, then a convolution. With a bias, as published, also where batch normalisation follows."""

    channels: int
    form: str = FORM

    @nn.compact
    def __call__(self, x: Float[Array, "batch position in"]) -> Float[Array, "batch _ out"]:
        return Convolution(self.channels, bias=True, form=self.form, name="conv")(jnp.repeat(x, 2, axis=1))


class BatchNorm(nn.Module):
    """``scale (x - mean) / sqrt(var + epsilon) + bias`` of each channel, as torch has it.

    In training mean and variance are the batch's own, and the running averages move a tenth of the way towards them
    (towards the unbiased variance, n - 1). Only ``rows`` count: not padding, and not a unit that lacks the curve. A batch
    in which none counts leaves the averages as they are.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *rest channel"], rows: Bool[AnyArray, "batch"] | None, *, train: bool
    ) -> Float[Array, "batch *rest channel"]:
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        centre, spread = mean.value, var.value
        if train:
            axes = tuple(range(x.ndim - 1))
            counted = jnp.ones(len(x)) if rows is None else rows.astype(x.dtype)
            weight = counted.reshape(-1, *(1 for _ in axes))
            count = counted.sum() * (x[0].size // x.shape[-1])
            centre = (weight * x).sum(axes) / jnp.maximum(count, 1)
            spread = (weight * (x - centre) ** 2).sum(axes) / jnp.maximum(count, 1)
            # Where hardly a row counts the spread is about 0, and the others, divided by it, would overflow further on: what
            # is masked away there still makes NaN gradients.
            x = jnp.where(weight > 0, x, centre)
            step = jnp.where(count > 0, MOMENTUM, 0.0)
            mean.value += step * (centre - mean.value)
            var.value += step * (spread * count / jnp.maximum(count - 1, 1) - var.value)
        return (x - centre) * (jax.lax.rsqrt(spread + EPSILON) * scale) + bias


class EncoderBlock(nn.Module):
    """``leaky(shortcut(x) + bn2(conv2(leaky(bn1(conv1(x))))))``; only the block that changes the size has a shortcut."""

    channels: int
    stride: int = 1
    form: str = FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch position in"], rows: Bool[AnyArray, "batch"] | None, *, train: bool
    ) -> Float[Array, "batch _ out"]:
        y = Convolution(self.channels, stride=self.stride, form=self.form, name="conv1")(x)
        y = nn.leaky_relu(BatchNorm(name="bn1")(y, rows, train=train), SLOPE)
        y = Convolution(self.channels, form=self.form, name="conv2")(y)
        y = BatchNorm(name="bn2")(y, rows, train=train)
        if self.stride != 1:
            x = Convolution(self.channels, taps=1, stride=self.stride, form=self.form, name="shortcut_0")(x)
            x = BatchNorm(name="shortcut_1")(x, rows, train=train)
        return nn.leaky_relu(x + y, SLOPE)


class DecoderBlock(nn.Module):
    """An encoder block backwards: conv2 before conv1. One that ``grows`` doubles the positions and halves the channels."""

    grows: bool = False
    form: str = FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch position in"], rows: Bool[AnyArray, "batch"] | None, *, train: bool
    ) -> Float[Array, "batch _ out"]:
        y = Convolution(x.shape[-1], form=self.form, name="conv2")(x)
        y = nn.leaky_relu(BatchNorm(name="bn2")(y, rows, train=train), SLOPE)
        if self.grows:
            y = GrowingConvolution(x.shape[-1] // 2, self.form, name="conv1")(y)
            x = GrowingConvolution(x.shape[-1] // 2, self.form, name="shortcut_0")(x)
            x = BatchNorm(name="shortcut_1")(x, rows, train=train)
        else:
            y = Convolution(x.shape[-1], form=self.form, name="conv1")(y)
        return nn.leaky_relu(x + BatchNorm(name="bn1")(y, rows, train=train), SLOPE)


class Encoder(nn.Module):
    """A curve of any length -> ``features`` numbers. Four layers of two blocks, ``width`` to 8 ``width`` channels."""

    features: int
    width: int = 64
    form: str = FORM

    @nn.compact
    def __call__(
        self,
        curve: Float[Array, "batch position"],
        rows: Bool[AnyArray, "batch"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch encoding"]:
        x = Convolution(self.width, stride=2, form=self.form, name="conv1")(curve[..., None])
        x = nn.leaky_relu(BatchNorm(name="bn1")(x, rows, train=train), SLOPE)
        for layer in (1, 2, 3, 4):
            for block in (0, 1):
                stride = 2 if layer > 1 and block == 0 else 1
                channels = self.width * 2 ** (layer - 1)
                x = EncoderBlock(channels, stride, self.form, name=f"layer{layer}_{block}")(x, rows, train=train)
        return nn.Dense(self.features, kernel_init=dense_init, name="linear")(x.mean(axis=1))


class Decoder(nn.Module):
    """Numbers -> a curve of ``length``. Positions 1, 4, 8, 16, 32, 32, 64, then a dense layer; the output is linear."""

    length: int
    width: int = 64
    form: str = FORM

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch encoding"],
        rows: Bool[AnyArray, "batch"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch position"]:
        x = nn.Dense(8 * self.width, kernel_init=dense_init, name="linear")(features)
        x = jnp.repeat(x[:, None], 4, axis=1)
        for layer in (4, 3, 2, 1):
            for block in (0, 1):
                grows = layer > 1 and block == 1
                x = DecoderBlock(grows, self.form, name=f"layer{layer}_{block}")(x, rows, train=train)
        x = GrowingConvolution(1, self.form, name="conv1")(x)
        return nn.Dense(self.length, kernel_init=dense_init, name="linear_out")(x[..., 0])
