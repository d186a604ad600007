"""The verb of ``python -m jaxephys`` on spikes: generate. It writes one file and says how true to life it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.models.base import load
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.spike_statistics import compare, describe, rate_matched_poisson


def add_verbs(verbs: Any) -> None:
    """The parser; it names the function that it calls under ``call``."""
    parser = verbs.add_parser("generate", help="spikes that a network draws by itself", description=generate.__doc__)
    parser.add_argument("model", help="a folder that save, or an experiment, has written")
    parser.add_argument(
        "spikes", help="a NAME.npz that data_prep has built: where the spikes begin, and what they are held to"
    )
    parser.add_argument("--bins", type=int, help="how many; as many as there are test bins, unless told")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument("--network", type=int, default=0, help="which of the model's networks (%(default)s)")
    parser.add_argument("--out", default="generated.npz", help="where to write (%(default)s)")
    parser.set_defaults(call=generate)


def generate(arguments: argparse.Namespace) -> str:
    """Free-running spikes that follow the bins before the test bins, packed as recordings are, beside statistics of both.

    Rates, intervals, CV2, autocorrelation, correlations and population coupling are compared with the test bins; so are those
    of spikes that have the rates and nothing else, which a generator must beat.
    """
    model = load(arguments.model)
    if not isinstance(model, SpikeTransformer):
        raise ValueError(f"{arguments.model} is a {type(model).__name__}: generate needs a SpikeTransformer")
    recording = Recording.read(arguments.spikes)
    leak = model.forecaster_.leak(recording, arguments.network)
    start, stop = recording.span("test")
    drawn = model.generate(recording, arguments.bins or stop - start, seed=arguments.seed, network=arguments.network)
    real = recording.bits(start, stop)
    statistics = {name: describe(raster, recording.bin_ms) for name, raster in (("real", real), ("drawn", drawn))}
    statistics["poisson"] = describe(rate_matched_poisson(real, arguments.seed), recording.bin_ms)
    away, plain = (compare(statistics["real"], statistics[name]) for name in ("drawn", "poisson"))
    lines = [f"{name:24} {away[name]:10.4f} {plain[name]:10.4f}" for name in away]
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.out, "wb") as file:
        packed = np.packbits(drawn, axis=1, bitorder="little")
        np.savez_compressed(
            file, packed=packed, units=recording.units, bin_ms=recording.bin_ms, unit_id=recording.unit_id
        )
    title = f"{'distance from the test bins':24} {'drawn':>7} {'Poisson':>10}"
    rates = f"{real.mean() * 1000 / recording.bin_ms:.2f} Hz in the test bins, {drawn.mean() * 1000 / recording.bin_ms:.2f} Hz drawn"
    return "\n".join([model.describe(), str(leak), rates, title, *lines, f"-> {arguments.out}"])
