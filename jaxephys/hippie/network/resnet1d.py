"""One-dimensional ResNet-18: `Encoder` turns a curve into numbers, `Decoder`, its mirror image, turns numbers into a curve.

Arrays have the shape (batch, position, channel). Submodules have the names of PyTorch's ResNet, so that the tensors of a published
checkpoint map onto them by rule. Deviation: biases are initialized to 0, where PyTorch draws them at random.

Every module takes ``train`` and ``rows`` (pass, batch), a mask of the rows that count in batch statistics (None: all, in one pass).
A batch may hold several passes one after the other, such as the reconstructions with and without the class: they share the weights,
and each is normalized by its own statistics.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalization, as in PyTorch
SLOPE = 0.01  # of the leaky ReLU inside the ResNets
FORMS = ("plain", "shifted", "columns")
FORM = "columns"  # the fastest for training on a CPU
dense_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-b, b), b = fan_in^-1/2, as PyTorch draws


def convolve(
    x: Float[Array, "row position in"], kernel: Float[AnyArray, "tap in out"], stride: int = 1, form: str = FORM
) -> Float[Array, "row _ out"]:
    """Convolve along positions, with zeros beyond both ends.

    Parameters
    ----------
    x : array (batch, position, in)
        Input.
    kernel : array (tap, in, out)
        Weights, with an odd number of taps.
    stride : int
        Distance between the positions of the output.
    form : {"columns", "shifted", "plain"}
        How the same sum is computed: "plain" is XLA's convolution, which becomes a grouped convolution where runs are stacked;
        "shifted" is one matrix product for each tap; "columns" is one matrix product with the taps side by side.

    Returns
    -------
    array (batch, ceil(position / stride), out)
        The convolution.

    Raises
    ------
    ValueError
        If ``form`` is unknown.

    Notes
    -----
    ``y_i = sum_k x_{stride i + k - reach} W_k`` with ``reach = (taps - 1) / 2`` on both sides. Padding of the kind "SAME" would
    pad only the right side for a stride of 2.

    On two CPU cores a training step of width 16 and batch size 128 takes 1.8 s ("plain"), 0.5 s ("shifted") and 0.4 s
    ("columns"), because XLA computes the gradient of "plain" inside a loop by its slowest implementation. Without gradients
    "plain" is the fastest.
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
    """A convolution layer, see `convolve`.

    Parameters
    ----------
    channels : int
        Number of output channels.
    taps : int
        Length of the kernel.
    stride : int
        Distance between the positions of the output.
    bias : bool
        Add a bias. Not needed before batch normalization, which removes it.
    form : str
        How the convolution is computed.
    """

    channels: int
    taps: int = 3
    stride: int = 1
    bias: bool = False
    form: str = FORM

    @nn.compact
    def __call__(self, x: Float[Array, "row position in"]) -> Float[Array, "row _ out"]:
        kernel = self.param("kernel", dense_init, (self.taps, x.shape[-1], self.channels))
        y = convolve(x, kernel, self.stride, self.form)
        return y + self.param("bias", nn.initializers.zeros, (self.channels,)) if self.bias else y


class UpsamplingConvolution(nn.Module):
    """Repeat every position twice, then convolve. It has a bias, as published, also before batch normalization.

    Parameters
    ----------
    channels : int
        Number of output channels.
    form : str
        How the convolution is computed.
    """

    channels: int
    form: str = FORM

    @nn.compact
    def __call__(self, x: Float[Array, "row position in"]) -> Float[Array, "row _ out"]:
        return Convolution(self.channels, bias=True, form=self.form, name="conv")(jnp.repeat(x, 2, axis=1))


class BatchNorm(nn.Module):
    """Batch normalization of channels as in PyTorch with a mask of the rows that count, then an activation function.

    Notes
    -----
    ``y = leaky(scale (x - mean) / sqrt(var + epsilon) + bias + shortcut)``. In training, mean and variance are those of the counted
    rows of a pass, and the running averages move by a tenth towards those of the first pass (towards the unbiased variance). Rows of
    padding, and units without the curve, do not count. A batch without any counted row leaves the averages unchanged.
    """

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "row *rest channel"],
        rows: Bool[AnyArray, "pass batch"] | None,
        *,
        train: bool,
        slope: float = 1.0,
        shortcut: Float[Array, "row *rest channel"] | None = None,
    ) -> Float[Array, "row *rest channel"]:
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            factor = jax.lax.rsqrt(running_var.value + EPSILON) * scale
            y = (x - running_mean.value) * factor + bias
            y = y if shortcut is None else y + shortcut
            return y if slope == 1 else jax.lax.max(y, slope * y)
        counted = jnp.ones((1, len(x))) if rows is None else rows.astype(x.dtype)
        passes = (*counted.shape, -1, *shape)
        normalized: Any = normalize_passes(
            x.reshape(passes), scale, bias, None if shortcut is None else shortcut.reshape(passes), counted, slope
        )
        y, mean, var = normalized
        count = counted[0].sum() * (x[0].size // x.shape[-1])
        step = jnp.where(count > 0, MOMENTUM, 0.0)
        running_mean.value += step * (mean[0] - running_mean.value)
        running_var.value += step * (var[0] * count / jnp.maximum(count - 1, 1) - running_var.value)
        return y.reshape(x.shape)


Passes = Float[Array, "pass batch position channel"]


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def normalize_passes(
    x: Passes,
    scale: Float[Array, "channel"],
    bias: Float[Array, "channel"],
    shortcut: Passes | None,
    counted: Float[Array, "pass batch"],
    slope: float,
) -> tuple[Passes, Float[Array, "pass channel"], Float[Array, "pass channel"]]:
    """Normalize every pass by its own counted rows, add the shortcut and apply the leaky ReLU.

    Parameters
    ----------
    x : array (pass, batch, position, channel)
        Input.
    scale, bias : array (channel,)
        Parameters of the normalization.
    shortcut : array (pass, batch, position, channel) or None
        Added before the activation.
    counted : array (pass, batch)
        1 for rows that count, 0 for others: these become ``bias``. With hardly any counted row the variance is about 0, and the
        other rows, divided by it, would overflow in later layers.
    slope : float
        Slope of the leaky ReLU below 0; 1 for none.

    Returns
    -------
    y : array (pass, batch, position, channel)
        Output.
    mean, var : array (pass, channel)
        Statistics of the counted rows. Gradients do not pass through them.

    Notes
    -----
    The gradient is written out. Derived automatically, it would be three times as many operations, most of the time that a
    compiler spends on a network of a hundred such layers.
    """
    return _normalize(x, scale, bias, shortcut, counted, slope)[0]


def _normalize(x, scale, bias, shortcut, counted, slope):
    weight = counted[:, :, None, None]
    count = _count(counted, x)
    mean = (weight * x).sum(axis=(1, 2)) / count
    centered = weight * (x - mean[:, None, None])
    var = (centered * centered).sum(axis=(1, 2)) / count
    inverse = jax.lax.rsqrt(var + EPSILON)
    y = centered * (inverse * scale)[:, None, None] + bias
    y = y if shortcut is None else y + shortcut
    y = y if slope == 1 else jax.lax.max(y, slope * y)
    return (y, mean, var), (x, y, mean, inverse, scale, counted, shortcut is not None)


def _normalize_gradient(slope, saved, cotangents):
    x, y, mean, inverse, scale, counted, has_shortcut = saved
    weight = counted[:, :, None, None]
    count = _count(counted, x)
    gradient = cotangents[0]
    if slope != 1:
        gradient = jax.lax.select(y >= 0, gradient, slope * gradient)
    normalized = weight * (x - mean[:, None, None]) * inverse[:, None, None]
    along = (gradient * normalized).sum(axis=(1, 2))
    across = (weight * gradient).sum(axis=(1, 2))
    remaining = gradient - (across / count)[:, None, None] - normalized * (along / count)[:, None, None]
    of_x = weight * remaining * (inverse * scale)[:, None, None]
    of_bias = gradient.sum(axis=(0, 1, 2))
    return of_x, along.sum(axis=0), of_bias, gradient if has_shortcut else None, jnp.zeros_like(counted)


def _count(counted: Float[Array, "pass batch"], x: Passes) -> Float[Array, "pass 1"]:
    return jnp.maximum(counted.sum(axis=1) * x.shape[2], 1)[:, None]


normalize_passes.defvjp(_normalize, _normalize_gradient)


class EncoderBlock(nn.Module):
    """A residual block of the encoder.

    Parameters
    ----------
    channels : int
        Number of output channels.
    stride : int
        Stride of the first convolution. Only a block whose stride is not 1 has a convolution in its shortcut.
    form : str
        How convolutions are computed.

    Notes
    -----
    ``y = leaky(shortcut(x) + bn2(conv2(leaky(bn1(conv1(x))))))``.
    """

    channels: int
    stride: int = 1
    form: str = FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "row position in"], rows: Bool[AnyArray, "pass batch"] | None, *, train: bool
    ) -> Float[Array, "row _ out"]:
        y = Convolution(self.channels, stride=self.stride, form=self.form, name="conv1")(x)
        y = BatchNorm(name="bn1")(y, rows, train=train, slope=SLOPE)
        y = Convolution(self.channels, form=self.form, name="conv2")(y)
        if self.stride != 1:
            x = Convolution(self.channels, taps=1, stride=self.stride, form=self.form, name="shortcut_0")(x)
            x = BatchNorm(name="shortcut_1")(x, rows, train=train)
        return BatchNorm(name="bn2")(y, rows, train=train, slope=SLOPE, shortcut=x)


class DecoderBlock(nn.Module):
    """A residual block of the decoder: an encoder block in reverse order, ``conv2`` before ``conv1``.

    Parameters
    ----------
    upsample : bool
        Double the positions and halve the channels.
    form : str
        How convolutions are computed.
    """

    upsample: bool = False
    form: str = FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "row position in"], rows: Bool[AnyArray, "pass batch"] | None, *, train: bool
    ) -> Float[Array, "row _ out"]:
        y = Convolution(x.shape[-1], form=self.form, name="conv2")(x)
        y = BatchNorm(name="bn2")(y, rows, train=train, slope=SLOPE)
        if self.upsample:
            y = UpsamplingConvolution(x.shape[-1] // 2, self.form, name="conv1")(y)
            x = UpsamplingConvolution(x.shape[-1] // 2, self.form, name="shortcut_0")(x)
            x = BatchNorm(name="shortcut_1")(x, rows, train=train)
        else:
            y = Convolution(x.shape[-1], form=self.form, name="conv1")(y)
        return BatchNorm(name="bn1")(y, rows, train=train, slope=SLOPE, shortcut=x)


class Encoder(nn.Module):
    """A curve of any length to a vector. Four layers of two blocks have ``width`` to 8 ``width`` channels.

    Parameters
    ----------
    features : int
        Length of the encoding.
    width : int
        Channels of the first layer; 64 is published.
    form : str
        How convolutions are computed.
    """

    features: int
    width: int = 64
    form: str = FORM

    @nn.compact
    def __call__(
        self,
        curve: Float[Array, "row position"],
        rows: Bool[AnyArray, "pass batch"] | None,
        train: bool,
    ) -> Float[Array, "row encoding"]:
        x = Convolution(self.width, stride=2, form=self.form, name="conv1")(curve[..., None])
        x = BatchNorm(name="bn1")(x, rows, train=train, slope=SLOPE)
        for layer in (1, 2, 3, 4):
            for block in (0, 1):
                stride = 2 if layer > 1 and block == 0 else 1
                channels = self.width * 2 ** (layer - 1)
                x = EncoderBlock(channels, stride, self.form, name=f"layer{layer}_{block}")(x, rows, train=train)
        return nn.Dense(self.features, kernel_init=dense_init, name="linear")(x.mean(axis=1))


class Decoder(nn.Module):
    """A vector to a curve of 64 samples, from which `Output` computes the curve: 1, 4, 8, 16, 32, 32 and 64 positions.

    Parameters
    ----------
    width : int
        Channels of the last layer, an eighth of those of the first; 64 is published.
    form : str
        How convolutions are computed.
    """

    width: int = 64
    form: str = FORM

    @nn.compact
    def __call__(
        self, features: Float[Array, "row encoding"], rows: Bool[AnyArray, "pass batch"] | None, train: bool
    ) -> Float[Array, "row position"]:
        x = nn.Dense(8 * self.width, kernel_init=dense_init, name="linear")(features)
        x = jnp.repeat(x[:, None], 4, axis=1)
        for layer in (4, 3, 2, 1):
            for block in (0, 1):
                upsample = layer > 1 and block == 1
                x = DecoderBlock(upsample, self.form, name=f"layer{layer}_{block}")(x, rows, train=train)
        return UpsamplingConvolution(1, self.form, name="conv1")(x)[..., 0]


class Output(nn.Module):
    """The last layer of a decoder: a dense layer without an activation function.

    Parameters
    ----------
    length : int
        Number of samples of the curve.
    """

    length: int

    @nn.compact
    def __call__(self, x: Float[Array, "row position"]) -> Float[Array, "row _"]:
        return nn.Dense(self.length, kernel_init=dense_init, name="linear_out")(x)
