"""The products before the recurrence of the encoders: families of unequal width times the input kernel of each direction.

Start with `layer_norm_projection`. No family is padded to the width of the widest: there is one product for each rectangle of the
`RaggedLayout`, and no product reads columns that a family lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxephys.patchseq.network import stacked
from jaxephys.patchseq.network.forms import DEFAULT_FORM, ComputeForm
from jaxephys.patchseq.network.lstm import matmul
from jaxephys.patchseq.network.ragged_layout import RaggedLayout, Rectangle

NORM_EPSILON = 1e-5  # PyTorch's


def layer_norm_projection(
    packed: Float[Array, "batch packed"],
    layout: RaggedLayout,
    scale: Float[Array, "feature"],
    shift: Float[Array, "feature"],
    kernel: Float[Array, "direction feature gate"],
    bias: Float[Array, "direction gate"],
    form: ComputeForm = DEFAULT_FORM,
) -> Float[Array, "direction family batch gate"]:
    """Return ``LayerNorm(x) W + bias`` of every family without forming the padded, normalized x.

    Parameters
    ----------
    packed : array of shape (batch, packed)
        Features in the order of ``layout``.
    layout : RaggedLayout
        The layout.
    scale, shift : array of shape (padded_width,)
        Parameters of the layer normalization, shared by the families.
    kernel : array of shape (2, padded_width, gate)
        Input kernel of each direction, shared by the families.
    bias : array of shape (2, gate)
        Bias of each direction.
    form : ComputeForm
        How the products are computed.

    Returns
    -------
    array of shape (2, family, batch, gate)
        The projections, of the type of the form; families are reversed in the backward direction.

    Notes
    -----
    With the mean mu and the standard deviation sigma of a family,

        LN(x) W + bias = (x / sigma) (scale W) + (-mu / sigma) sum(scale W) + (shift W + bias)

    holds exactly. The last two terms are two more columns of x and rows of the kernel, so that the whole is one product
    per rectangle of the layout, and each family multiplies only the columns that it has.
    """
    n_families, batch = len(layout.widths), packed.shape[0]
    mean, inverse_sd = family_statistics(packed, layout)
    scaled_kernel = scale[:, None] * kernel
    extra_columns = [(-mean * inverse_sd)[..., None], jnp.ones((n_families, batch, 1))]
    extra_rows = _sums_over_kernel(scaled_kernel, shift, kernel, bias, form)
    total = jnp.zeros(())
    for number, (rectangle, x) in enumerate(zip(layout.rectangles, split_rectangles(packed, layout), strict=True)):
        x = x * _take_families(inverse_sd, rectangle)[:, :, None]
        rows = scaled_kernel[:, rectangle.start : rectangle.stop]
        if number == 0:  # the first rectangle holds every family: it takes the two additional columns
            x, rows = jnp.concatenate([x, *extra_columns], axis=-1), jnp.concatenate([rows, extra_rows], axis=1)
            total = project_directions(x, rows, form)
        else:
            total = _add_families(total, project_directions(x, rows, form), rectangle.families)
    return total


def project_directions(
    x: Float[Array, "some batch in"],
    kernel: Float[Array, "direction in gate"],
    form: ComputeForm,
    bias: Float[Array, "direction gate"] | None = None,
) -> Float[Array, "direction some batch gate"]:
    """Multiply families with the kernel of each direction, and add the bias of the direction.

    Parameters
    ----------
    x : array of shape (some, batch, in)
        Values of some families.
    kernel : array of shape (2, in, gate)
        Kernels.
    form : ComputeForm
        How the product is computed.
    bias : array of shape (2, gate), optional
        Biases.

    Returns
    -------
    array of shape (2, some, batch, gate)
        The products; families are reversed in the backward direction.
    """
    if form.stacked:
        if bias is not None:  # one more row of the kernel, so that its gradient is a part of the product
            x = jnp.concatenate([x, jnp.ones((*x.shape[:2], 1))], axis=-1)
            kernel = jnp.concatenate([kernel, bias[:, None]], axis=1)
        x, kernel = stacked.align(x, 2), stacked.align(kernel, 1)
    both_directions = jnp.stack([x, x[::-1]])
    out: Any = matmul(both_directions.reshape(2, -1, x.shape[-1]), kernel, form)
    if bias is not None and not form.stacked:
        out = out + bias[:, None]
    return out.reshape(*both_directions.shape[:3], -1)


def family_statistics(
    packed: Float[Array, "batch packed"], layout: RaggedLayout
) -> tuple[Float[Array, "family batch"], Float[Array, "family batch"]]:
    """Return the mean and 1 / sd of each family of each cell over the padded width.

    Parameters
    ----------
    packed : array of shape (batch, packed)
        Features in the order of ``layout``.
    layout : RaggedLayout
        The layout. Behind the last feature of a family, up to ``padded_width``, zeros are counted.

    Returns
    -------
    mean, inverse_sd : arrays of shape (family, batch)
        The statistics of layer normalization, ``NORM_EPSILON`` added to the variance.
    """
    blocks = split_rectangles(packed, layout)
    counted = np.zeros((len(layout.widths), 1), np.float32)
    for rectangle in layout.rectangles:
        counted[list(rectangle.families)] += rectangle.stop - rectangle.start
    mean = sum_by_family([x.sum(axis=-1) for x in blocks], layout) / layout.padded_width
    deviations = [
        ((x - _take_families(mean, rectangle)[:, :, None]) ** 2).sum(axis=-1)
        for rectangle, x in zip(layout.rectangles, blocks, strict=True)
    ]
    square = sum_by_family([(layout.padded_width - counted) * mean**2, *deviations], layout)
    return mean, lax.rsqrt(square / layout.padded_width + NORM_EPSILON)


def sum_by_family(parts: Sequence[Any], layout: RaggedLayout) -> Float[Array, "family ..."]:
    """Add numbers of the families, in order.

    Parameters
    ----------
    parts : sequence of arrays
        One array for each rectangle of the layout, whose rows are the families of the rectangle. Arrays before those have a row for
        every family.
    layout : RaggedLayout
        The layout.

    Returns
    -------
    array with a row for every family
        The sums.
    """
    before = len(parts) - len(layout.rectangles)
    total = parts[0]
    for rectangle, part in zip(layout.rectangles[1 - before :], parts[1:], strict=True):
        rows = dict(zip(rectangle.families, part, strict=True))
        if len(rows) < len(layout.widths):  # a scatter would do as well, but is slow on a GPU
            part = jnp.stack([rows.get(family, jnp.zeros_like(part[0])) for family in range(len(layout.widths))])
        total = total + part
    return total


def split_rectangles(
    packed: Float[Array, "batch packed"], layout: RaggedLayout
) -> list[Float[Array, "some batch feature"]]:
    """Split packed values into the rectangles of their layout.

    Parameters
    ----------
    packed : array of shape (batch, packed)
        Values in the order of ``layout``.
    layout : RaggedLayout
        The layout.

    Returns
    -------
    list of arrays of shape (some, batch, width)
        The rectangles, families first.
    """
    parts, offset = [], 0
    for rectangle in layout.rectangles:
        block = packed[:, offset : offset + rectangle.size]
        block = block.reshape(-1, len(rectangle.families), rectangle.stop - rectangle.start)
        parts.append(jnp.swapaxes(block, 0, 1))
        offset += rectangle.size
    return parts


def _sums_over_kernel(
    scaled_kernel: Array, shift: Array, kernel: Array, bias: Array, form: ComputeForm
) -> Float[Array, "direction _ gate"]:
    """The rows ``sum(scale W)`` and ``shift W + bias`` of each direction."""
    if form.stacked:  # both sums in one pass over the kernel, which a compiler would otherwise repeat for each
        total, constant = form.separate((scaled_kernel.sum(axis=1), (shift[:, None] * kernel).sum(axis=1)))
    else:
        total, constant = scaled_kernel.sum(axis=1), jnp.einsum("f,dfg->dg", shift, kernel)
    return jnp.stack([total, constant + bias], axis=1)


def _add_families(
    total: Float[Array, "direction family batch gate"],
    product: Float[Array, "direction some batch gate"],
    families: tuple[int, ...],
) -> Float[Array, "direction family batch gate"]:
    """Add products of some families, step by step, so that the compiler sees which steps of the recurrence have one.

    A scatter would do as well, but is slow on a GPU.
    """
    steps = list(lax.split(total, [1] * total.shape[1], axis=1))
    nothing = jnp.zeros_like(product[0, 0])
    for number, family in enumerate(families):
        forward, backward = product[0, number], product[1, -1 - number]
        steps[family] = steps[family] + jnp.stack([forward, nothing])[:, None]
        steps[-1 - family] = steps[-1 - family] + jnp.stack([nothing, backward])[:, None]
    return jnp.concatenate(steps, axis=1)


def _take_families(values: Float[Array, "family batch"], rectangle: Rectangle) -> Float[Array, "some batch"]:
    if len(rectangle.families) == len(values):
        return values
    return jnp.stack([values[family] for family in rectangle.families])
