"""One training step of the spike transformer at L = 3,125 bins of 128 units, here and in PyTorch, on the same cores.

    python -m benchmarks.spikes_train                    batch 1, three turns each
    python -m benchmarks.spikes_train --batch 16         the published batch; PyTorch's original path then needs some 40 GiB

Opponents: the published layer as its authors call it (no mask, attention weights dropped), and causal through PyTorch's fused
kernel, without that dropout. Ours: the published layer, causal; the same with 2 heads of 64 and a local window of 256 bins; the
population transformer with its defaults, its loss over all cells; and over some of them, as it is trained. All with Dice and
Adam, a process each, turn by turn; the peak is that of the process above what it held before the model was made, interpreter
and libraries excluded. Needs PyTorch: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import take_turn, write_turns

UNITS, HEADS, HIDDEN, RATE = 128, 16, 128, 0.01
TORCH = {"torch original": False, "torch fused": True}
OURS = ("published", "few wide heads", "population", "some cells")
GIB = 1024**2  # of ru_maxrss, which counts in KiB


def make_windows(batch: int, length: int) -> np.ndarray:
    return (np.random.default_rng(0).random((batch, length + 1, UNITS)) < RATE).astype(np.float32)


def time_ours(what: str, batch: int, length: int, steps: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import optax

    from jaxephys.spikes.losses import dice
    from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
    from jaxephys.spikes.task import CELLS, choose_cells

    network = {
        "published": PublishedLayer(UNITS, HEADS, HIDDEN),
        "few wide heads": PublishedLayer(UNITS, 2, HIDDEN, window=256),
        "population": PopulationTransformer(),
        "some cells": PopulationTransformer(),
    }[what]
    windows = jnp.asarray(make_windows(batch, length))
    variables = network.init(jax.random.key(0), windows[0, :64])
    optimiser = optax.adam(0.005)
    state = optimiser.init(variables)

    @jax.jit
    def step(variables, state, windows, key):
        def loss(variables):
            def say(window, key):
                bins, target, how = window[:-1], window[1:], {"train": True, "rngs": {"dropout": key}}
                if what != "some cells":
                    return network.apply(variables, bins, **how)[0], target, jnp.ones_like(target)
                chosen, counted = choose_cells(key, target, CELLS)
                logits = network.apply(variables, bins, **how, chosen=chosen)[0]
                return logits, target[chosen.bin, chosen.unit], counted

            logits, target, counted = jax.vmap(say)(windows, jax.random.split(key, batch))
            return dice(logits, target, counted=counted)

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state_after = optimiser.update(gradient, state)
        return optax.apply_updates(variables, updates), state_after, value

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    compiled = step.lower(variables, state, windows, jax.random.key(0)).compile()
    compile_seconds = time.perf_counter() - began
    seconds = []
    for place in range(steps + 1):
        began = time.perf_counter()
        variables, state, value = compiled(variables, state, windows, jax.random.key(place))
        jax.block_until_ready(value)
        seconds.append(time.perf_counter() - began)
    device = jax.devices()[0].device_kind
    return answer(seconds[1:], before, compile_seconds, device)


def time_torch(what: str, batch: int, length: int, steps: int) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.opponents.transformer import time_steps

    windows, before = make_windows(batch, length), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = time_steps(windows, fused=TORCH[what], heads=HEADS, hidden=HIDDEN, steps=steps)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    return answer(seconds, before, 0.0, device)


def answer(seconds: list[float], before: int, compile_seconds: float, device: str) -> dict[str, Any]:
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / GIB
    return {
        "seconds": statistics.median(seconds),
        "peak_gib": peak,
        "compile_seconds": compile_seconds,
        "device": device,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1, help="windows a step (%(default)s)")
    parser.add_argument("--length", type=int, default=3125, help="bins of a window (%(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="of a turn, of which the median counts (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--without", nargs="*", default=[], help="leave these out, where memory is short")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/spikes_train.csv"))
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, *sizes = arguments.worker
        timer = time_torch if what in TORCH else time_ours
        print(json.dumps(timer(what, *map(int, sizes))))
        return
    unknown = set(arguments.without) - {*TORCH, *OURS}
    if unknown:
        raise SystemExit(f"error: {unknown.pop()!r} takes no turn: choose from {', '.join((*TORCH, *OURS))}")
    rows: list[dict[str, Any]] = []
    names = [name for name in (*TORCH, *OURS) if name not in arguments.without]
    for turn in range(arguments.rounds):
        for what in names:
            sizes = {"batch": arguments.batch, "length": arguments.length}
            found = take_turn("benchmarks.spikes_train", what, *sizes.values(), arguments.steps)
            rows.append({"what": what, **sizes, "round": turn, **found})
            print(
                f"round {turn + 1}: {what:15} {found['seconds']:7.3f} s a step, {found['peak_gib']:.2f} GiB", flush=True
            )
            write_turns(rows, arguments.out)
    summarise(rows, names)
    print(f"every round: {arguments.out}")


def summarise(rows: list[dict[str, Any]], names: list[str]) -> None:
    """Medians, spread and, round by round, how many times as fast as each opponent."""
    own = {name: [row for row in rows if row["what"] == name] for name in names}
    print(f"\n{'':15} s a step, median (min to max)   GiB   times " + "   times ".join(name for name in TORCH))
    for name in names:
        seconds = [row["seconds"] for row in own[name]]
        ratios = [
            ", ".join(f"{theirs['seconds'] / ours:.1f}" for theirs, ours in zip(own[rival], seconds, strict=True))
            for rival in TORCH
            if rival in own
        ]
        spread = f"{statistics.median(seconds):8.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
        print(f"{name:15} {spread} {max(row['peak_gib'] for row in own[name]):8.2f}   " + "   ".join(ratios))


if __name__ == "__main__":
    main()
