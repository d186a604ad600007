"""Spike transformer: one training step at 3,125 bins of 128 units, here and in PyTorch.

    python -m benchmarks.spikes_training                    batch 1, three measurements each
    python -m benchmarks.spikes_training --batch 16         the published batch; the original PyTorch code then needs about 40 GiB

torch original    the published layer as its authors call it: no mask, dropout of attention weights
torch fused       the layer made causal by PyTorch's fused kernel, without that dropout
published         the published layer, causal
few wide heads    the same with 2 heads of 64 and a local window of 256 bins
population        the population transformer with its defaults, its loss over all (bin, unit) entries
some cells        the same, its loss over a sample of entries, as it is trained

All use the Dice loss and Adam. Each measurement runs in a separate process; the peak memory is that of the process above what it
held before the model was made. The comparison needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.runner import Row, make_parser, ratios, run_benchmark, select, spread, torch_device

UNITS, HEADS, HIDDEN, RATE = 128, 16, 128, 0.01
TORCH = {"torch original": False, "torch fused": True}  # whether the fused kernel is used
JAXEPHYS = ("published", "few wide heads", "population", "some cells")
KIB_PER_GIB = 1024**2  # ru_maxrss counts KiB


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = make_parser("spikes_training", __doc__)
    parser.add_argument("--batch", type=int, default=1, help="windows of a step (%(default)s)")
    parser.add_argument("--length", type=int, default=3125, help="bins of a window (%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=5, help="steps of a measurement, whose median is stored (%(default)s)"
    )
    parser.add_argument("--without", nargs="*", default=[], help="cases to leave out, where memory is short")
    options = parser.parse_args(arguments)
    names = (*TORCH, *JAXEPHYS)
    if unknown := set(options.without) - set(names):
        raise SystemExit(f"error: there is no case {unknown.pop()!r}: choose from {', '.join(names)}")
    sizes = {"batch": options.batch, "length": options.length}
    run_benchmark(
        options,
        [{"what": name, **sizes} for name in names if name not in options.without],
        _measure,
        summarize,
        fixed={"steps": options.steps},
        describe=lambda row: f"{row['what']:15} {row['seconds']:7.3f} s per step, {row['peak_gib']:.2f} GiB",
    )


def summarize(rows: Sequence[Row]) -> None:
    """Print the median and range of a step, the peak memory, and round by round the ratio to PyTorch.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    torch = {name: [row["seconds"] for row in select(rows, what=name)] for name in TORCH}
    print(f"\n{'':15} s per step, median (min to max)   GiB   " + "   ".join(f"times {name}" for name in TORCH))
    for name in dict.fromkeys(row["what"] for row in rows):
        case_rows = select(rows, what=name)
        seconds = [row["seconds"] for row in case_rows]
        factors = "   ".join(ratios(values, seconds) for values in torch.values())
        print(f"{name:15} {spread(seconds, 3):32} {max(row['peak_gib'] for row in case_rows):6.2f}   {factors}")


def make_windows(batch: int, length: int) -> np.ndarray:
    """Return windows of random spikes.

    Parameters
    ----------
    batch : int
        Number of windows.
    length : int
        Bins of a window that are predicted.

    Returns
    -------
    array of float32, shape (batch, length + 1, 128)
        0 and 1, with a spike in 1 % of the bins.
    """
    return (np.random.default_rng(0).random((batch, length + 1, UNITS)) < RATE).astype(np.float32)


def time_jaxephys(what: str, batch: int, length: int, steps: int) -> Row:
    """Return the time of a training step in this package.

    Parameters
    ----------
    what : str
        Name of the case.
    batch, length : int
        Windows of a step, and bins of a window.
    steps : int
        Number of steps, of which the median is returned.

    Returns
    -------
    dict
        ``seconds``, ``peak_gib``, ``compile_seconds`` and ``device``.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from jaxephys.spikes.losses import dice
    from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
    from jaxephys.spikes.task import N_ENTRIES, sample_entries

    network = {
        "published": PublishedLayer(UNITS, HEADS, HIDDEN),
        "few wide heads": PublishedLayer(UNITS, 2, HIDDEN, window=256),
        "population": PopulationTransformer(),
        "some cells": PopulationTransformer(),
    }[what]
    windows = jnp.asarray(make_windows(batch, length))
    variables = network.init(jax.random.key(0), windows[0, :64])
    optimizer = optax.adam(0.005)
    state = optimizer.init(variables)

    @jax.jit
    def step(variables, state, windows, key):
        def loss(variables):
            def predict(window, key):
                bins, target, options = window[:-1], window[1:], {"train": True, "rngs": {"dropout": key}}
                if what != "some cells":
                    return network.apply(variables, bins, **options)[0], target, jnp.ones_like(target)
                entries, weights = sample_entries(key, target, N_ENTRIES)
                logits = network.apply(variables, bins, **options, entries=entries)[0]
                return logits, target[entries.bin, entries.unit], weights

            logits, target, weights = jax.vmap(predict)(windows, jax.random.split(key, batch))
            return dice(logits, target, weights=weights)

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, new_state = optimizer.update(gradient, state)
        return optax.apply_updates(variables, updates), new_state, value

    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    compiled = step.lower(variables, state, windows, jax.random.key(0)).compile()
    compile_seconds, seconds = time.perf_counter() - start, []
    for i in range(steps + 1):
        start = time.perf_counter()
        variables, state, value = compiled(variables, state, windows, jax.random.key(i))
        jax.block_until_ready(value)
        seconds.append(time.perf_counter() - start)
    return _result(seconds[1:], memory, compile_seconds, jax.devices()[0].device_kind)


def time_torch(what: str, batch: int, length: int, steps: int) -> Row:
    """Return the time of a training step in PyTorch.

    Parameters
    ----------
    what : {"torch original", "torch fused"}
        Name of the case.
    batch, length : int
        Windows of a step, and bins of a window.
    steps : int
        Number of steps, of which the median is returned.

    Returns
    -------
    dict
        ``seconds``, ``peak_gib``, ``compile_seconds`` and ``device``.
    """
    from benchmarks.opponents.transformer import time_steps

    windows, memory = make_windows(batch, length), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = time_steps(windows, fused=TORCH[what], heads=HEADS, hidden=HIDDEN, steps=steps)
    return _result(seconds, memory, 0.0, torch_device()[1])


def _measure(what: str, **sizes: int) -> Row:
    return (time_torch if what in TORCH else time_jaxephys)(what, **sizes)


def _result(seconds: list[float], memory_before: int, compile_seconds: float, device: str) -> Row:
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before) / KIB_PER_GIB
    return {
        "seconds": statistics.median(seconds),
        "peak_gib": peak,
        "compile_seconds": compile_seconds,
        "device": device,
    }


if __name__ == "__main__":
    main()
