"""Causal attention alone, forward and backward: how it grows with the length of a window and with the number of units.

    python -m benchmarks.spikes_attention                    512 to 25,000 bins of 128 units, 128 to 1,024 units at 3,125 bins
    python -m benchmarks.spikes_attention --lengths 512 3125 --units 128

Heads of the published layer (16 whatever the units, so 8 numbers each at 128), and 2 wide ones with a local window of 256 bins;
the opponent is PyTorch's fused causal kernel on the published heads. Each in a process of its own, turn by turn. Beside the times
stand the rate of the products that causality needs (3.5 times those of a forward pass: the weights are formed again), and the share
of the time that the exponentials alone would take, measured on arrays of the same number of scores. Needs the extra "bench".
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import take_turn, write_turns

HEADS, WIDE, WINDOW = 16, 2, 256
OPPONENT, PUBLISHED, LOCAL = "torch fused", "published heads", "wide heads, window"
TURNS = (OPPONENT, PUBLISHED, LOCAL)


def scores_needed(what: str, bins: int) -> int:
    """Pairs of a query and a key that it sees, over all heads."""
    if what != LOCAL:
        return HEADS * bins * (bins + 1) // 2
    reach = np.minimum(np.arange(bins), WINDOW) + 1
    return int(WIDE * reach.sum())


def operations(what: str, bins: int, units: int) -> float:
    """Of the products: two forward, five backward, each twice a score and number of a head."""
    heads = WIDE if what == LOCAL else HEADS
    return 7 * 2 * scores_needed(what, bins) * (units // heads)


def time_ours(what: str, bins: int, units: int, steps: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from jaxephys.spikes.attention import attend

    heads, window = (WIDE, WINDOW) if what == LOCAL else (HEADS, None)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, bar = (jax.random.normal(key, (bins, heads, units // heads)) for key in keys)

    @jax.jit
    def both_ways(q, k, v, bar):
        out, back = jax.vjp(lambda *x: attend(*x, window=window), q, k, v)
        return out, back(bar)

    def exponentials(count: int) -> float:
        """Seconds of so many, forward and once more backward, in pieces that stay in the cache."""
        piece = jnp.linspace(-5.0, 0.0, 2**16)
        total = jax.jit(lambda x: jax.lax.fori_loop(0, 2 * count // len(x) + 1, lambda i, y: jnp.exp(-y * y), x))
        return statistics.median(timed(lambda: total(piece), 3, jax.block_until_ready))

    seconds = statistics.median(timed(lambda: both_ways(q, k, v, bar), steps, jax.block_until_ready))
    share = exponentials(scores_needed(what, bins)) / seconds
    return {"seconds": seconds, "exponential_share": share, "device": jax.devices()[0].device_kind}


def timed(work: Callable[[], Any], steps: int, wait: Callable[[Any], Any]) -> list[float]:
    """Seconds of each step after the first, which compiles."""
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        wait(work())
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def time_torch(bins: int, units: int, steps: int) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.opponents.transformer import time_attention

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    seconds = statistics.median(time_attention(bins, HEADS, units // HEADS, steps))
    return {"seconds": seconds, "exponential_share": float("nan"), "device": device}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 3125, 8192, 15625, 25000])
    parser.add_argument("--units", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--steps", type=int, default=3, help="of a turn, of which the median counts (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/spikes_attention.csv"))
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, bins, units, steps = arguments.worker[0], *map(int, arguments.worker[1:])
        timer = time_torch(bins, units, steps) if what == OPPONENT else time_ours(what, bins, units, steps)
        print(json.dumps(timer))
        return
    sizes = [(bins, 128) for bins in arguments.lengths] + [(3125, units) for units in arguments.units if units != 128]
    rows: list[dict[str, Any]] = []
    for turn in range(arguments.rounds):
        for bins, units in sizes:
            for what in TURNS:
                found = take_turn("benchmarks.spikes_attention", what, bins, units, arguments.steps)
                rate = operations(what, bins, units) / found["seconds"] / 1e9
                rows.append(
                    {"what": what, "bins": bins, "units": units, "round": turn, "gflop_per_second": rate} | found
                )
                print(
                    f"round {turn + 1}: {what:18} {bins:6} bins {units:5} units {found['seconds']:8.4f} s", flush=True
                )
                write_turns(rows, arguments.out)
    summarise(rows, sizes)
    print(f"every round: {arguments.out}, drawn: {draw(rows, sizes, arguments.out)}")


def medians(rows: list[dict[str, Any]], what: str, size: tuple[int, int], column: str = "seconds") -> float:
    return statistics.median(row[column] for row in rows if (row["what"], row["bins"], row["units"]) == (what, *size))


def summarise(rows: list[dict[str, Any]], sizes: list[tuple[int, int]]) -> None:
    print(f"\n{'bins':>6} {'units':>5}" + "".join(f"{what:>22}" for what in TURNS) + "   seconds, median (times torch)")
    for size in sizes:
        torch = medians(rows, OPPONENT, size)
        cells = [f"{medians(rows, what, size):9.4f} ({torch / medians(rows, what, size):5.1f})" for what in TURNS]
        print(f"{size[0]:6} {size[1]:5}" + "".join(f"{cell:>22}" for cell in cells))
    for what in TURNS[1:]:
        share, rate = (
            statistics.median(row[column] for row in rows if row["what"] == what)
            for column in ("exponential_share", "gflop_per_second")
        )
        print(f"{what}: {rate:.0f} GFLOP/s of products, exponentials {share:.0%} of the time")


def draw(rows: list[dict[str, Any]], sizes: list[tuple[int, int]], path: Path) -> Path:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, place, other, label in zip(
        panels, (0, 1), (1, 0), ("bins, at 128 units", "units, at 3,125 bins"), strict=True
    ):
        shown = sorted(size for size in sizes if size[other] == (128, 3125)[place])
        for what, colour in zip(TURNS, ("#6B6B6B", "#0072B2", "#D55E00"), strict=True):
            seconds = [medians(rows, what, size) for size in shown]
            axes.plot([size[place] for size in shown], seconds, "o-", color=colour, label=what)
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.set_xticks([size[place] for size in shown], [f"{size[place]:,}" for size in shown])
        axes.xaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("seconds, forward and backward")
    panels[0].legend(frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    return path.with_suffix(".png")


if __name__ == "__main__":
    main()
