"""The command ``generate``: draw spikes from a saved SpikeTransformer and compare them with the test bins."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import write_npz
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.spike_statistics import compare_statistics, compute_statistics, rate_matched_poisson


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. The new parser stores its function as ``call``.
    """
    parser = commands.add_parser(
        "generate",
        help="generate spikes that continue a recording (SpikeTransformer)",
        description="Write spikes that a network generates, each bin drawn from the forecast of the bins before it, beginning "
        "with the test bins of a recording. Firing rates, inter-spike intervals, CV2, autocorrelation, pairwise correlations and "
        "population coupling are compared with those of the real test bins; for comparison, so are those of a Poisson process "
        "with the rates of the test bins.",
    )
    parser.add_argument("model", help="folder of a saved model, or of a finished experiment")
    parser.add_argument("spikes", help="recording (NAME.npz, written by data_prep) that the generated spikes continue")
    parser.add_argument("--bins", type=int, help="number of bins to generate (default: as many as there are test bins)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: %(default)s)")
    parser.add_argument("--network", type=int, default=0, help="index of the model's network (default: %(default)s)")
    parser.add_argument("--out", default="generated.npz", help="file to write (default: %(default)s)")
    parser.set_defaults(call=generate)


def generate(arguments: argparse.Namespace) -> str:
    """Generate spikes, write them to a file in packed form, and compare them with the test bins.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``spikes``, ``bins``, ``seed``, ``network`` and ``out``, see :func:`add_commands`.

    Returns
    -------
    str
        Description of the model, the causality test on the recording, rates, and distances of each statistic.

    Raises
    ------
    ValueError
        If the saved model is not a SpikeTransformer.
    """
    model = SpikeTransformer.load(arguments.model)
    recording = Recording.read(arguments.spikes)
    causality = model.forecaster_.check_causality(recording, arguments.network)
    start, stop = recording.span("test")
    n_bins = arguments.bins or stop - start
    generated = model.generate(recording, n_bins, seed=arguments.seed, network=arguments.network)
    real = recording.bits(start, stop)
    rasters = real, generated, rate_matched_poisson(real, arguments.seed)
    real_statistics, *others = (compute_statistics(raster, recording.bin_ms) for raster in rasters)
    distance, poisson_distance = (compare_statistics(real_statistics, other) for other in others)
    arrays = {"packed": np.packbits(generated, axis=1, bitorder="little"), "unit_id": recording.unit_id}
    write_npz(arguments.out, arrays | {"units": recording.units, "bin_ms": recording.bin_ms})
    per_second = 1000 / recording.bin_ms
    lines = [
        model.describe(),
        str(causality),
        f"{real.mean() * per_second:.2f} Hz in the test bins, {generated.mean() * per_second:.2f} Hz generated",
        f"{'distance from the test bins':27} {'generated':>10} {'Poisson':>10}",
        *(f"{name:27} {distance[name]:10.4f} {poisson_distance[name]:10.4f}" for name in distance),
        f"-> {arguments.out}",
    ]
    return "\n".join(lines)
