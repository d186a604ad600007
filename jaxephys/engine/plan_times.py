"""Estimate how long the trainings of a plan take on the devices at hand, from the number of their operations.

`measure_speed` compiles and runs a small reference training on all devices, which takes about a second, and compares its times with those
that constants of the platform give. `estimate_times` multiplies by these two ratios, so that estimates hold on slower and busier machines.
"""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxephys.engine import devices
from jaxephys.engine.operations import Work, count_operations
from jaxephys.engine.plan import TrainingPlan
from jaxephys.engine.task import Backend

BATCH, HIDDEN, RECURRENT_STEPS, OPTIMIZER_STEPS = 64, 64, 3, 300  # of the reference training
COMPILATIONS, REPEATS = 3, 6  # of the reference training, each compilation followed by repeats


class Rates(NamedTuple):
    """Times of a platform in seconds.

    Parameters
    ----------
    flops, bytes, functions, operations : float
        A device, for each unit of that field of `Work`.
    equation : float
        The compiler, for each equation of a program.
    training, run, run_bytes : float
        The host, for each training, each of its runs and each byte of their states: checkpoints are written and results are read.
    reference_training, reference_compilation : float or None
        The reference training on the machine on which the other values were found. None: what the other values give.
    """

    flops: float
    bytes: float
    functions: float
    operations: float
    equation: float
    training: float
    run: float
    run_bytes: float
    reference_training: float | None = None
    reference_compilation: float | None = None


# CPU: fitted to 53 trainings (42 different ones) on two cores of a virtual machine on which other programs ran: 25 of Patch-seq networks, 6
# of two-species networks, 14 of HIPPIE and 8 of spike networks, with 1,400 to 456,000 parameters and 0.1 to 55 s of training. flops was
# measured (67 GFLOP/s on each of two cores); the others minimize the error of logarithms. Predicted / measured training is 0.57 to 1.73
# with the speed measured before and after each training; without the trainings of one system in the fit, 0.33 to 2.5 for these. The
# reference times are medians of that machine. With the final constants and the speed measured before each, 15 later trainings had 0.55 to
# 1.74, and 0.65 to 2.15 for compilation; 11 of them repeat commands of the fit, after changes of the networks, and 4 are of other data.
# A short burst of other load during the measurement of the speed gave an error of 3.7 once; the median over more repeats came after it.
# XLA fuses operations, so that bytes and operations are no hardware rates.
#
# GPU: operations and bytes from one and 100 BiLSTM runs on an H200 (0.31 and 4.5 ms a step), equations from its compilation (about
# 20 s). They were not compared with other programs.
RATES = {
    "cpu": Rates(1.5e-11, 9.8e-11, 5.6e-9, 1.6e-6, 2.1e-3, 0.042, 0.0093, 4.4e-8, 0.050, 0.25),
    "gpu": Rates(1e-14, 6.5e-13, 1e-12, 3.4e-7, 7e-3, 0.042, 0.0093, 4.4e-8),
}


class Speed(NamedTuple):
    """Times of this machine as multiples of those of `RATES`.

    Parameters
    ----------
    training, compilation : float
        Above 1 if the machine is slower.
    """

    training: float
    compilation: float


class TimeEstimate(NamedTuple):
    """Estimated times of a training.

    Parameters
    ----------
    compilation : float
        Seconds of tracing and compilation: what was recorded last time, or else ``first_compilation``.
    first_compilation : float
        Seconds of compilation of programs that have never been compiled.
    shortest, longest : float
        Seconds of training if all runs stop as early as possible, and if all run for ``max_epochs``.
    """

    compilation: float
    first_compilation: float
    shortest: float
    longest: float


def estimate_times(plan: TrainingPlan, speed: Speed) -> TimeEstimate:
    """Estimate the times of a training.

    Parameters
    ----------
    plan : TrainingPlan
        The training.
    speed : Speed
        Speed of the machine, see `measure_speed`.

    Returns
    -------
    TimeEstimate
        Seconds.
    """
    rates = _rates(plan.backend.platform)
    compilation = speed.compilation * rates.equation * (plan.epoch.equations + plan.init_equations)
    recorded = compilation if plan.recorded_seconds is None else plan.recorded_seconds
    per_device = -(-plan.n_runs // plan.n_devices)
    if plan.backend.execution == "map":
        epoch = per_device * _epoch_seconds(plan, float(plan.steps.mean()), rates, stacked=1)
    else:
        stacked = -(-min(plan.capacity, plan.n_runs) // plan.n_devices)
        epoch = plan.n_batches * _epoch_seconds(plan, float(plan.steps.max()), rates, stacked)
    host = rates.training + plan.n_runs * (rates.run + plan.run_bytes * rates.run_bytes)
    epochs = plan.shortest_epochs, plan.config.max_epochs
    return TimeEstimate(recorded, compilation, *(speed.training * (host + count * epoch) for count in epochs))


def measure_speed(plan: TrainingPlan) -> Speed:
    """Measure the speed of the devices by a small training, as many runs of it as a plan uses devices.

    Parameters
    ----------
    plan : TrainingPlan
        Its devices are used.

    Returns
    -------
    Speed
        Ratios to the constants in `RATES`.
    """
    return _measure_speed(plan.n_devices, plan.backend)


@lru_cache
def _measure_speed(n_devices: int, backend: Backend) -> Speed:
    mesh, rates = devices.make_mesh(n_devices), _rates(backend.platform)
    devices.compiler_options(backend.platform)  # compiles a program at its first call
    seeds = np.arange(n_devices, dtype=np.int32)

    compilation, training = [], []
    for _ in range(COMPILATIONS):  # in turns, since the load of a machine changes
        function = partial(_reference_training, time.time_ns())  # a program of its own, which is not read from a cache
        start = time.perf_counter()
        compiled = devices.map_over_runs(function, mesh, backend=backend).lower(None, seeds).compile()
        compilation.append(time.perf_counter() - start)
        jax.block_until_ready(compiled(None, seeds))
        for _ in range(REPEATS):
            start = time.perf_counter()
            jax.block_until_ready(compiled(None, seeds))
            training.append(time.perf_counter() - start)
    counts = count_operations(jax.make_jaxpr(partial(_reference_training, 0, None))(seeds[0]))
    expected_training = rates.reference_training or _work_seconds(counts.once, rates, 1)
    expected_compilation = rates.reference_compilation or counts.equations * rates.equation
    return Speed(float(np.median(training)) / expected_training, float(np.median(compilation)) / expected_compilation)


def _reference_training(salt: int, _: None, seed: Int[Array, ""]) -> Float[Array, "..."]:
    """Train a small recurrent network to remember noise."""
    x = jax.random.normal(jax.random.key(seed), (BATCH, HIDDEN))
    start = jnp.full((HIDDEN, HIDDEN), salt % 1_000_003 * 1e-9), jnp.zeros(HIDDEN)

    def loss(params: tuple[Array, Array]) -> Array:
        hidden = jnp.zeros_like(x)
        for _ in range(RECURRENT_STEPS):
            hidden = jnp.tanh(x + hidden @ params[0] + params[1])
        return jnp.mean((hidden - x) ** 2)

    def step(_: Int[Array, ""], params: tuple[Array, Array]) -> tuple[Array, Array]:
        return jax.tree.map(lambda leaf, slope: leaf - 0.01 * slope, params, jax.grad(loss)(params))

    return lax.fori_loop(0, OPTIMIZER_STEPS, step, start)[1]


def _epoch_seconds(plan: TrainingPlan, steps: float, rates: Rates, stacked: int) -> float:
    return steps * _work_seconds(plan.epoch.loop, rates, stacked) + _work_seconds(plan.epoch.once, rates, stacked)


def _work_seconds(work: Work, rates: Rates, stacked: int) -> float:
    """Stacked runs share the launches of their operations."""
    return stacked * float(np.dot(work[:3], rates[:3])) + work.operations * rates.operations


def _rates(platform: str) -> Rates:
    return RATES.get(platform, RATES["gpu"])
