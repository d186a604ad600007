"""Causal attention, forward and backward, by the length of a window and the number of units.

    python -m benchmarks.spikes_attention                    512 to 25,000 bins of 128 units, 128 to 1,024 units at 3,125 bins
    python -m benchmarks.spikes_attention --lengths 512 3125 --units 128

Measured are the 16 heads of the published layer (8 numbers each at 128 units), 2 wide heads with a local window of 256 bins, and
PyTorch's fused causal kernel on the published heads. Each measurement runs in a separate process. Stored beside the times are the
rate of the products that causal attention needs (3.5 times those of a forward pass, since the weights are computed again), and the
share of the time that the exponentials alone take, measured on arrays of the same number of scores. The comparison needs PyTorch:
pip install "jaxephys[bench]".
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import Row, make_parser, run_benchmark, select, time_calls, torch_device

HEADS, WIDE_HEADS, WINDOW = 16, 2, 256
TORCH, PUBLISHED, LOCAL = "torch fused", "published heads", "wide heads, window"
COLORS = {TORCH: "#6B6B6B", PUBLISHED: "#0072B2", LOCAL: "#D55E00"}
UNITS, BINS = 128, 3125  # where the other one is varied


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and a figure, and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = make_parser("spikes_attention", __doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 3125, 8192, 15625, 25000])
    parser.add_argument("--units", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument(
        "--steps", type=int, default=3, help="steps of a measurement, whose median is stored (%(default)s)"
    )
    options = parser.parse_args(arguments)
    sizes = [(bins, UNITS) for bins in options.lengths] + [(BINS, units) for units in options.units if units != UNITS]
    rows = run_benchmark(
        options,
        [{"what": what, "bins": bins, "units": units} for bins, units in sizes for what in COLORS],
        _measure,
        summarize,
        fixed={"steps": options.steps},
        extend=lambda row: {
            "gflop_per_second": operations(row["what"], row["bins"], row["units"]) / row["seconds"] / 1e9
        },
        describe=lambda row: f"{row['what']:18} {row['bins']:6} bins {row['units']:5} units {row['seconds']:8.4f} s",
    )
    if rows:
        print(f"figure: {draw(rows, options.out.with_suffix('.png'))}")


def summarize(rows: Sequence[Row]) -> None:
    """Print the median time of each case, the ratio to PyTorch, and the rate of our products.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    names = list(dict.fromkeys(row["what"] for row in rows))
    print(f"\n{'bins':>6} {'units':>5}" + "".join(f"{name:>22}" for name in names) + "   seconds (PyTorch's time / it)")
    for bins, units in dict.fromkeys((row["bins"], row["units"]) for row in rows):
        medians = {name: _median(rows, "seconds", what=name, bins=bins, units=units) for name in names}
        cells = [f"{medians[name]:9.4f}" for name in names]
        if TORCH in medians:
            cells = [f"{cell} ({medians[TORCH] / medians[name]:5.1f})" for cell, name in zip(cells, names, strict=True)]
        print(f"{bins:6} {units:5}" + "".join(f"{cell:>22}" for cell in cells))
    for name in names:
        if name != TORCH:
            share, rate = (_median(rows, column, what=name) for column in ("exponential_share", "gflop_per_second"))
            print(f"{name}: {rate:.0f} GFLOP/s of products, exponentials {share:.0%} of the time")


def draw(rows: Sequence[Row], path: Path) -> Path:
    """Draw the times against the number of bins and of units.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The path of the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    varied = (
        ("bins", {"units": UNITS}, f"Bins, at {UNITS} units"),
        ("units", {"bins": BINS}, f"Units, at {BINS:,} bins"),
    )
    for axes, (column, fixed, label) in zip(panels, varied, strict=True):
        values = sorted({row[column] for row in select(rows, **fixed)})
        for name in dict.fromkeys(row["what"] for row in rows):
            seconds = [_median(rows, "seconds", what=name, **fixed, **{column: value}) for value in values]
            axes.plot(values, seconds, "o-", color=COLORS[name], label=name)
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("Forward and backward pass (s)")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path


def scores_needed(what: str, bins: int) -> int:
    """Return the number of (query, key) pairs that causal attention needs, over all heads.

    Parameters
    ----------
    what : str
        Name of the case.
    bins : int
        Bins of the window.

    Returns
    -------
    int
        Number of attention scores.
    """
    if what != LOCAL:
        return HEADS * bins * (bins + 1) // 2
    reach = np.minimum(np.arange(bins), WINDOW) + 1
    return int(WIDE_HEADS * reach.sum())


def operations(what: str, bins: int, units: int) -> float:
    """Return the floating-point operations of the products, forward and backward.

    Parameters
    ----------
    what : str
        Name of the case.
    bins, units : int
        Size of the window.

    Returns
    -------
    float
        Two products forward and five backward, each of 2 operations per score and number of a head.
    """
    heads = WIDE_HEADS if what == LOCAL else HEADS
    return 7 * 2 * scores_needed(what, bins) * (units // heads)


def time_jaxephys(what: str, bins: int, units: int, steps: int) -> Row:
    """Return the time of a forward and backward pass in this package.

    Parameters
    ----------
    what : {"published heads", "wide heads, window"}
        Name of the case.
    bins, units : int
        Size of the window.
    steps : int
        Number of passes, of which the median is returned.

    Returns
    -------
    dict
        ``seconds``, ``exponential_share`` and ``device``.
    """
    import jax
    import jax.numpy as jnp

    from jaxephys.spikes.attention import attend

    heads, window = (WIDE_HEADS, WINDOW) if what == LOCAL else (HEADS, None)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, cotangent = (jax.random.normal(key, (bins, heads, units // heads)) for key in keys)

    @jax.jit
    def forward_and_backward(q, k, v, cotangent):
        out, backward = jax.vjp(lambda *x: attend(*x, window=window), q, k, v)
        return out, backward(cotangent)

    # As many exponentials as there are scores, once forward and once backward, in blocks that fit in the cache.
    block = jnp.linspace(-5.0, 0.0, 2**16)
    n_blocks = 2 * scores_needed(what, bins) // len(block) + 1
    exponentials = jax.jit(lambda x: jax.lax.fori_loop(0, n_blocks, lambda i, y: jnp.exp(-y * y), x))

    seconds = statistics.median(
        time_calls(lambda: forward_and_backward(q, k, v, cotangent), steps, jax.block_until_ready)
    )
    share = statistics.median(time_calls(lambda: exponentials(block), 3, jax.block_until_ready)) / seconds
    return {"seconds": seconds, "exponential_share": share, "device": jax.devices()[0].device_kind}


def time_torch(bins: int, units: int, steps: int) -> Row:
    """Return the time of a forward and backward pass of PyTorch's fused causal kernel.

    Parameters
    ----------
    bins, units : int
        Size of the window.
    steps : int
        Number of passes, of which the median is returned.

    Returns
    -------
    dict
        ``seconds``, ``exponential_share`` (NaN) and ``device``.
    """
    from benchmarks.opponents.transformer import time_attention

    seconds = statistics.median(time_attention(bins, HEADS, units // HEADS, steps))
    return {"seconds": seconds, "exponential_share": float("nan"), "device": torch_device()[1]}


def _measure(what: str, bins: int, units: int, steps: int) -> Row:
    return time_torch(bins, units, steps) if what == TORCH else time_jaxephys(what, bins, units, steps)


def _median(rows: Sequence[Row], column: str, **values: Any) -> float:
    return statistics.median(row[column] for row in select(rows, **values))


if __name__ == "__main__":
    main()
