"""One-dimensional ResNet-18: `Encoder` turns a curve into numbers, `Decoder`, its mirror image, turns numbers into a curve.

Arrays have the shape (batch, position, channel). Submodules have the names of PyTorch's ResNet, so that the tensors of a published
checkpoint map onto them by rule. Deviation: biases are initialized to 0, where PyTorch draws them at random.

Every module takes ``train`` and ``rows`` (pass, batch), a mask of the rows that count in batch statistics (None: all, in one pass).
A batch may hold several passes one after the other, such as the reconstructions with and without the class: they share the weights,
and each is normalized by its own statistics.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalization, as in PyTorch
SLOPE = 0.01  # of the leaky ReLU inside the ResNets
CONVOLUTIONS = ("plain", "shifted", "columns", "tiles")
MAX_TILE = 5  # neighbouring positions that one row of the product of the method "tiles" computes
dense_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-b, b), b = fan_in^-1/2, as PyTorch draws


class ComputeForm(NamedTuple):
    """How a network is computed. Its parameters have the same names and shapes with every choice, and results differ by rounding only.

    Parameters
    ----------
    convolution : {"columns", "tiles", "shifted", "plain"}
        How convolutions are computed, see `convolve`.
    one_pass : bool
        How batch statistics are computed, see `normalize_passes`.
    dtype : {"float32", "bfloat16"}
        Type of activations and products inside the ResNets. Parameters, batch statistics, latent vectors and reconstructions are
        float32 with either.
    frozen_biases : bool
        Biases before batch normalization, which removes them, receive no gradient. Their gradient is zero but for rounding, which Adam
        divides by its own size: they would move at random, by the learning rate in each step, and differently in a stack of runs than
        alone. False trains them as the published network does.
    """

    convolution: str = "columns"
    one_pass: bool = False
    dtype: str = "float32"
    frozen_biases: bool = False


CPU_FORM = ComputeForm()  # for training on a CPU


def convolve(
    x: Float[Array, "row position in"], kernel: Float[AnyArray, "tap in out"], stride: int = 1, method: str = "columns"
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
    method : {"columns", "tiles", "shifted", "plain"}
        How the same sum is computed: "plain" is XLA's convolution, which becomes a grouped convolution where runs are stacked;
        "shifted" is one matrix product for each tap; "columns" is one matrix product with the taps side by side; "tiles" computes up to
        five neighbouring positions in each row of that product, so that fewer copies of the input are written: seven positions
        replace five rows of three.

    Returns
    -------
    array (batch, ceil(position / stride), out)
        The convolution.

    Raises
    ------
    ValueError
        If ``method`` is unknown.

    Notes
    -----
    ``y_i = sum_k x_{stride i + k - reach} W_k`` with ``reach = (taps - 1) / 2`` on both sides. Padding of the kind "SAME" would
    pad only the right side for a stride of 2.

    Which method suits which device is measured in `~jaxephys.hippie.task.network_for_backend`. On a CPU, XLA computes the gradient of
    "plain" inside a loop by its slowest implementation.
    """
    if method not in CONVOLUTIONS:
        raise ValueError(f"the method of convolution {method!r} is unknown: choose one of {', '.join(CONVOLUTIONS)}")
    taps, reach = kernel.shape[0], kernel.shape[0] // 2
    if method == "plain":
        layout = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride,), [(reach, reach)], dimension_numbers=layout)
    if method == "tiles":
        return _convolve_tiles(x, kernel, stride)
    padded = _pad(x, reach, reach)
    span = x.shape[1] + 2 * reach - taps + 1
    windows = [padded[:, tap : tap + span : stride] for tap in range(taps)]
    if method == "columns":
        return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
    return jnp.stack([window @ kernel[tap] for tap, window in enumerate(windows)]).sum(axis=0)


def _convolve_tiles(
    x: Float[Array, "row position in"], kernel: Float[AnyArray, "tap in out"], stride: int
) -> Float[Array, "row _ out"]:
    taps, channels, features = kernel.shape
    rows, positions = len(x), -(-x.shape[1] // stride)
    tile = _tile(rows, positions, channels, taps, stride, features)
    window, step = (tile - 1) * stride + taps, tile * stride
    reach, span = taps // 2, (positions // tile - 1) * step + 1
    right = span - 1 + window - reach - x.shape[1]  # negative if the last positions are not read
    padded = _pad(x, reach, max(right, 0))
    parts = [padded[:, offset : offset + span : step] for offset in range(window)]
    moved = [_pad(kernel, at * stride, window - taps - at * stride, axis=0) for at in range(tile)]
    weights = jnp.stack(moved, axis=2)
    y = jnp.concatenate(parts, axis=-1) @ weights.reshape(window * channels, tile * features)
    return y.reshape(rows, positions, features)


def _pad(x: Float[Array, "_ _ _"], before: int, after: int, axis: int = 1) -> Float[Array, "_ _ _"]:
    """Add zeros. ``jnp.pad`` would trace a function of its own for each call."""
    ends = [(before, after, 0) if at == axis else (0, 0, 0) for at in range(3)]
    return jax.lax.pad(x, np.zeros((), x.dtype), ends)


def _tile(rows: int, positions: int, channels: int, taps: int, stride: int, features: int) -> int:
    """The largest number of positions that divides all and whose weights are less than a half of the input."""
    sizes = [tile for tile in range(1, MAX_TILE + 1) if positions % tile == 0 and taps > 1]
    weights = [((tile - 1) * stride + taps) * tile * channels * features for tile in sizes]
    inputs = rows * positions * stride * channels
    return max([1, *(tile for tile, weight in zip(sizes, weights, strict=True) if 2 * weight <= inputs)])


def _convolve_repeated(
    x: Float[Array, "row position in"], kernel: Float[AnyArray, "3 in out"]
) -> Float[Array, "row _ out"]:
    """Repeat every position twice and convolve: the two outputs at a position are both sums over it and its neighbours."""
    left, middle, right = kernel
    none = jnp.zeros_like(left)
    even, odd = jnp.stack([left, middle + right, none]), jnp.stack([none, left + middle, right])
    y = convolve(x, jnp.concatenate([even, odd], axis=-1), method="tiles")
    return y.reshape(len(x), 2 * x.shape[1], -1)


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
    form : ComputeForm
        How the convolution is computed.
    repeat : bool
        Repeat every position twice before the convolution.
    normalized : bool
        Batch normalization follows.
    """

    channels: int
    taps: int = 3
    stride: int = 1
    bias: bool = False
    form: ComputeForm = CPU_FORM
    repeat: bool = False
    normalized: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "row position in"]) -> Float[Array, "row _ out"]:
        kernel = self.param("kernel", dense_init, (self.taps, x.shape[-1], self.channels))
        kernel, method = kernel.astype(x.dtype), self.form.convolution
        if self.repeat and method == "tiles":
            y = _convolve_repeated(x, kernel)
        else:
            y = convolve(jnp.repeat(x, 2, axis=1) if self.repeat else x, kernel, self.stride, method)
        if not self.bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return y + freeze_bias(bias, self.form, normalized=self.normalized).astype(x.dtype)


class UpsamplingConvolution(nn.Module):
    """Repeat every position twice, then convolve. It has a bias, as published, also before batch normalization.

    Parameters
    ----------
    channels : int
        Number of output channels.
    form : ComputeForm
        How the convolution is computed.
    normalized : bool
        Batch normalization follows.
    """

    channels: int
    form: ComputeForm = CPU_FORM
    normalized: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "row position in"]) -> Float[Array, "row _ out"]:
        options: Any = {"bias": True, "repeat": True, "normalized": self.normalized}
        return Convolution(self.channels, form=self.form, **options, name="conv")(x)


class NormalizedDense(nn.Module):
    """A dense layer before batch normalization, with a bias as published.

    Parameters
    ----------
    features : int
        Number of outputs.
    form : ComputeForm
        Whether the bias is trained.
    """

    features: int
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(self, x: Float[Array, "row in"]) -> Float[Array, "row out"]:
        kernel = self.param("kernel", dense_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ kernel + freeze_bias(bias, self.form)


def freeze_bias(bias: Float[Array, "out"], form: ComputeForm, *, normalized: bool = True) -> Float[Array, "out"]:
    """Return a bias, without a gradient if batch normalization follows and `ComputeForm.frozen_biases` is set.

    Parameters
    ----------
    bias : array (out,)
        The bias.
    form : ComputeForm
        How the network is computed.
    normalized : bool
        Batch normalization follows.

    Returns
    -------
    array (out,)
        The same numbers.
    """
    return jax.lax.stop_gradient(bias) if normalized and form.frozen_biases else bias


class BatchNorm(nn.Module):
    """Batch normalization of channels as in PyTorch with a mask of the rows that count, then an activation function.

    Notes
    -----
    ``y = leaky(scale (x - mean) / sqrt(var + epsilon) + bias + shortcut)``. In training, mean and variance are those of the counted
    rows of a pass, and the running averages move by a tenth towards those of the first pass (towards the unbiased variance). Rows of
    padding, and units without the curve, do not count. A batch without any counted row leaves the averages unchanged.

    Parameters
    ----------
    form : ComputeForm
        How mean and variance are computed.
    """

    form: ComputeForm = CPU_FORM

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
            y = (x.astype(jnp.float32) - running_mean.value) * factor + bias
            y = y if shortcut is None else y + shortcut
            return (y if slope == 1 else jax.lax.max(y, slope * y)).astype(x.dtype)
        counted = jnp.ones((1, len(x))) if rows is None else rows.astype(jnp.float32)
        passes = (*counted.shape, -1, *shape)
        shortcut = None if shortcut is None else shortcut.reshape(passes)
        normalized: Any = normalize_passes(x.reshape(passes), scale, bias, shortcut, counted, slope, self.form.one_pass)
        y, mean, var = normalized
        count = counted[0].sum() * (x[0].size // x.shape[-1])
        step = jnp.where(count > 0, MOMENTUM, 0.0)
        running_mean.value += step * (mean[0] - running_mean.value)
        running_var.value += step * (var[0] * count / jnp.maximum(count - 1, 1) - running_var.value)
        return y.reshape(x.shape)


Passes = Float[Array, "pass batch position channel"]


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def normalize_passes(
    x: Passes,
    scale: Float[Array, "channel"],
    bias: Float[Array, "channel"],
    shortcut: Passes | None,
    counted: Float[Array, "pass batch"],
    slope: float,
    one_pass: bool = False,
) -> tuple[Passes, Float[Array, "pass channel"], Float[Array, "pass channel"]]:
    """Normalize every pass by its own counted rows, add the shortcut and apply the leaky ReLU.

    Parameters
    ----------
    x : array (pass, batch, position, channel)
        Input, float32 or bfloat16. All sums are computed in float32.
    scale, bias : array (channel,)
        Parameters of the normalization.
    shortcut : array (pass, batch, position, channel) or None
        Added before the activation.
    counted : array (pass, batch)
        1 for rows that count, 0 for others: these become ``bias`` (0 with ``one_pass``). With hardly any counted row the variance is
        about 0, and the other rows, divided by it, would overflow in later layers.
    slope : float
        Slope of the leaky ReLU below 0; 1 for none.
    one_pass : bool
        Compute mean and variance from the sums of ``x`` and of its squares, which read the input once, and the gradient from two sums that
        are computed together. Rows that do not count then receive no gradient; no loss depends on them. Otherwise the variance is the
        mean of squared deviations from the mean, which reads the input twice.

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
    return _normalize(x, scale, bias, shortcut, counted, slope, one_pass)[0]


def _normalize(x, scale, bias, shortcut, counted, slope, one_pass):
    if one_pass:
        return _normalize_in_one_pass(x, scale, bias, shortcut, counted, slope)
    weight = counted[:, :, None, None]
    count = _count(counted, x)
    values = x.astype(jnp.float32)
    mean = (weight * values).sum(axis=(1, 2)) / count
    centered = weight * (values - mean[:, None, None])
    var = (centered * centered).sum(axis=(1, 2)) / count
    inverse = jax.lax.rsqrt(var + EPSILON)
    y = centered * (inverse * scale)[:, None, None] + bias
    y = y if shortcut is None else y + shortcut
    y = y if slope == 1 else jax.lax.max(y, slope * y)
    return (y.astype(x.dtype), mean, var), (x, y, mean, inverse, scale, counted, shortcut is not None)


def _normalize_in_one_pass(x, scale, bias, shortcut, counted, slope):
    weight, count = counted[:, :, None, None], _count(counted, x)
    values = weight * x.astype(jnp.float32)
    mean, square = (terms.sum(axis=(1, 2)) / count for terms in (values, values * values))
    var = jnp.maximum(square - mean * mean, 0)
    inverse = jax.lax.rsqrt(var + EPSILON)
    factor = inverse * scale
    offset = bias - mean * factor
    y = _before_activation(x, factor, offset, shortcut, weight)
    y = y if slope == 1 else jax.lax.max(y, slope * y)
    return (y.astype(x.dtype), mean, var), (x, mean, inverse, factor, offset, counted, 1 / count, shortcut)


def _before_activation(x, factor, offset, shortcut, weight):
    y = weight * (x.astype(jnp.float32) * factor[:, None, None] + offset[:, None, None])
    return y if shortcut is None else y + shortcut.astype(jnp.float32)


def _normalize_gradient(slope, one_pass, saved, cotangents):
    if one_pass:
        return _gradient_in_one_pass(slope, saved, cotangents[0])
    x, y, mean, inverse, scale, counted, has_shortcut = saved
    weight = counted[:, :, None, None]
    count = _count(counted, x)
    gradient = cotangents[0].astype(jnp.float32)
    if slope != 1:
        gradient = jax.lax.select(y >= 0, gradient, slope * gradient)
    normalized = weight * (x - mean[:, None, None]) * inverse[:, None, None]
    along = (gradient * normalized).sum(axis=(1, 2))
    across = (weight * gradient).sum(axis=(1, 2))
    remaining = gradient - (across / count)[:, None, None] - normalized * (along / count)[:, None, None]
    of_x = weight * remaining * (inverse * scale)[:, None, None]
    of_bias = gradient.sum(axis=(0, 1, 2))
    of_shortcut = gradient.astype(x.dtype) if has_shortcut else None
    return of_x.astype(x.dtype), along.sum(axis=0), of_bias, of_shortcut, jnp.zeros_like(counted)


def _gradient_in_one_pass(slope, saved, gradient):
    x, mean, inverse, factor, offset, counted, share, shortcut = saved
    weight = counted[:, :, None, None]
    if slope != 1:
        positive = _before_activation(x, factor, offset, shortcut, weight) >= 0
        gradient = jax.lax.select(positive, gradient, jnp.asarray(slope, x.dtype) * gradient)
    gradient = weight.astype(x.dtype) * gradient
    of_shortcut = None if shortcut is None else gradient
    gradient = gradient.astype(jnp.float32)
    centered = x.astype(jnp.float32) - mean[:, None, None]
    across, along = (term.sum(axis=(1, 2)) for term in (gradient, gradient * centered))
    along = along * inverse
    # A linear function of x: written by the normalized x, that would be stored once more.
    slope_of_x = -factor * along * share * inverse
    constant = -factor * across * share - slope_of_x * mean
    of_x = weight * (factor[:, None, None] * gradient + slope_of_x[:, None, None] * x + constant[:, None, None])
    return of_x.astype(x.dtype), sum(along), sum(across), of_shortcut, jnp.zeros_like(counted)


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
    form : ComputeForm
        How the layers are computed.

    Notes
    -----
    ``y = leaky(shortcut(x) + bn2(conv2(leaky(bn1(conv1(x))))))``.
    """

    channels: int
    stride: int = 1
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "row position in"], rows: Bool[AnyArray, "pass batch"] | None, *, train: bool
    ) -> Float[Array, "row _ out"]:
        y = Convolution(self.channels, stride=self.stride, form=self.form, name="conv1")(x)
        y = BatchNorm(self.form, name="bn1")(y, rows, train=train, slope=SLOPE)
        y = Convolution(self.channels, form=self.form, name="conv2")(y)
        if self.stride != 1:
            x = Convolution(self.channels, taps=1, stride=self.stride, form=self.form, name="shortcut_0")(x)
            x = BatchNorm(self.form, name="shortcut_1")(x, rows, train=train)
        return BatchNorm(self.form, name="bn2")(y, rows, train=train, slope=SLOPE, shortcut=x)


class DecoderBlock(nn.Module):
    """A residual block of the decoder: an encoder block in reverse order, ``conv2`` before ``conv1``.

    Parameters
    ----------
    upsample : bool
        Double the positions and halve the channels.
    form : ComputeForm
        How the layers are computed.
    """

    upsample: bool = False
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self, x: Float[Array, "row position in"], rows: Bool[AnyArray, "pass batch"] | None, *, train: bool
    ) -> Float[Array, "row _ out"]:
        y = Convolution(x.shape[-1], form=self.form, name="conv2")(x)
        y = BatchNorm(self.form, name="bn2")(y, rows, train=train, slope=SLOPE)
        if self.upsample:
            y = UpsamplingConvolution(x.shape[-1] // 2, self.form, name="conv1")(y)
            x = UpsamplingConvolution(x.shape[-1] // 2, self.form, name="shortcut_0")(x)
            x = BatchNorm(self.form, name="shortcut_1")(x, rows, train=train)
        else:
            y = Convolution(x.shape[-1], form=self.form, name="conv1")(y)
        return BatchNorm(self.form, name="bn1")(y, rows, train=train, slope=SLOPE, shortcut=x)


class Encoder(nn.Module):
    """A curve of any length to a vector. Four layers of two blocks have ``width`` to 8 ``width`` channels.

    Parameters
    ----------
    features : int
        Length of the encoding.
    width : int
        Channels of the first layer; 64 is published.
    form : ComputeForm
        How the layers are computed.
    """

    features: int
    width: int = 64
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self,
        curve: Float[Array, "row position"],
        rows: Bool[AnyArray, "pass batch"] | None,
        train: bool,
    ) -> Float[Array, "row encoding"]:
        x = Convolution(self.width, stride=2, form=self.form, name="conv1")(curve[..., None].astype(self.form.dtype))
        x = BatchNorm(self.form, name="bn1")(x, rows, train=train, slope=SLOPE)
        for layer in (1, 2, 3, 4):
            for block in (0, 1):
                stride = 2 if layer > 1 and block == 0 else 1
                channels = self.width * 2 ** (layer - 1)
                x = EncoderBlock(channels, stride, self.form, name=f"layer{layer}_{block}")(x, rows, train=train)
        return nn.Dense(self.features, kernel_init=dense_init, name="linear")(x.astype(jnp.float32).mean(axis=1))


class Decoder(nn.Module):
    """A vector to a curve of 64 samples, from which `Output` computes the curve: 1, 4, 8, 16, 32, 32 and 64 positions.

    Parameters
    ----------
    width : int
        Channels of the last layer, an eighth of those of the first; 64 is published.
    form : ComputeForm
        How the layers are computed.
    """

    width: int = 64
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self, features: Float[Array, "row encoding"], rows: Bool[AnyArray, "pass batch"] | None, train: bool
    ) -> Float[Array, "row position"]:
        x = nn.Dense(8 * self.width, kernel_init=dense_init, name="linear")(features)
        x = jnp.repeat(x[:, None], 4, axis=1).astype(self.form.dtype)
        for layer in (4, 3, 2, 1):
            for block in (0, 1):
                upsample = layer > 1 and block == 1
                x = DecoderBlock(upsample, self.form, name=f"layer{layer}_{block}")(x, rows, train=train)
        x = UpsamplingConvolution(1, self.form, normalized=False, name="conv1")(x)
        return x[..., 0].astype(jnp.float32)


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
