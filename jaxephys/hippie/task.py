"""The HIPPIE task: what binds units, network and losses into the five functions that the engine trains.

    published   sum_m mean-squared error_m + beta KL + warm 0.15 sum_m |x_m(class) - x_m(no class)|^2
    ours        - log-likelihood + beta sum_d max(KL_d, free) + contrast

Ours reads augmented curves, some of them hidden, and draws the whole unit as it was measured: what was augmented is not worth
a latent dimension, and a missing curve is something that the network was trained for, as is an unknown technology. The
noise of each modality is the running mean of its squared error, which is where its likelihood is greatest: one for
curves that the encoder saw and one for those it did not, since a guess must not excuse a poor drawing.

The labels of a run are those of its training rows; no other label is on the device. No row ever shows the encoder one.

Deviations of the published preset: an absent curve does not count in the error, where the original counts its constant; the
second pass of the consistency term reads the same batch statistics and does not move their averages once more;
validation is not augmented, draws no noise and sees no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.rows import over_blocks, plain_rows, stack_rows
from jaxephys.engine.task import Key, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation.splits import Split
from jaxephys.hippie import losses
from jaxephys.hippie.augmentation import STRENGTHS, Strength, augment
from jaxephys.hippie.network.cvae import ABSENT, ConditionalVAE, Conditions, Reading, remember
from jaxephys.hippie.network.initialization import draw_weights
from jaxephys.hippie.preprocessing import DEFAULT, Preparation, prepare
from jaxephys.schemas.unit_table import UnitTable

BLOCK = 256  # units read at a time
MOMENTUM = 0.1  # of the running squared error
LEAST = 1e-4  # variance: no curve is measured better
HIDDEN, SEEN = 0, 1  # curves that the encoder did not see, and those it did


@dataclass(frozen=True)
class Objective:
    """What tells one arm of a ladder from another. All arms train in one program."""

    likelihood: bool = True  # False: the published mean squared error
    beta: float = 1.0
    free_bits: float = 0.5  # nats a dimension
    hidden: float = 0.3  # how often a curve of a unit, or its technology, is hidden in training; one curve always stays
    clean: bool = True  # draw the curve as measured; False: as augmented
    augmentation: str = "light"
    conditioned: bool = False  # the decoder is told the class of training rows
    consistency: float = 0.0
    warm_up: float = 0.0  # epochs until the consistency term has its full weight
    contrast: float = 0.0  # supervised, on labels of training rows
    latent: int = 0  # dimensions that are used; 0: all of the network's

    def __post_init__(self) -> None:
        if self.augmentation not in STRENGTHS:
            raise ValueError(f"augmentation {self.augmentation!r} is unknown: choose one of {', '.join(STRENGTHS)}")
        if not 0 <= self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}: give the share of curves to hide, from 0 to below 1")


OURS = Objective()
PUBLISHED = Objective(
    likelihood=False, free_bits=0.0, hidden=0.0, clean=False, conditioned=True, consistency=0.15, warm_up=5.0
)
OBJECTIVES = {"ours": OURS, "published": PUBLISHED}


class Switches(NamedTuple):
    """An objective as numbers of the run."""

    likelihood: Bool[AnyArray, "*run"]
    beta: Float[AnyArray, "*run"]
    free_bits: Float[AnyArray, "*run"]
    hidden: Float[AnyArray, "*run"]
    clean: Bool[AnyArray, "*run"]
    conditioned: Bool[AnyArray, "*run"]
    consistency: Float[AnyArray, "*run"]
    warm_up: Float[AnyArray, "*run"]
    contrast: Float[AnyArray, "*run"]
    latent: Float[AnyArray, "*run"]


class Units(NamedTuple):
    """The data: once on the device, without labels."""

    curves: dict[str, Float[AnyArray, "cell _"]]
    present: Bool[AnyArray, "cell modality"]
    source: Int[AnyArray, "cell"]


class UnitConstants(NamedTuple):
    """In which runs differ."""

    switches: Switches
    strength: Strength
    label: Int[AnyArray, "*run cell"]  # -1 outside the training rows
    steps: Float[AnyArray, "*run"]  # of an epoch


class UnitBatch(NamedTuple):
    curves: dict[str, Float[AnyArray, "row _"]]  # what the encoder reads
    seen: Bool[AnyArray, "row modality"]  # and of them, which
    targets: dict[str, Float[AnyArray, "row _"]]
    counted: Bool[AnyArray, "row modality"]
    source: Int[AnyArray, "row"]
    label: Int[AnyArray, "row"]
    weight: Float[AnyArray, "row"]
    constants: Any  # UnitConstants; () where nothing is trained or scored


class Embedding(NamedTuple):
    """Where a run sees units."""

    mu: Float[AnyArray, "*run row latent"]
    log_var: Float[AnyArray, "*run row latent"]


@remember
def make_task(network: ConditionalVAE) -> Task:
    """The five functions of one run."""
    names = [name for name, _ in network.modalities]
    lengths = np.array([length for _, length in network.modalities], np.float32)
    reader = network.clone(form="plain")  # the fastest where nothing is trained

    def init(key: Key) -> Variables:
        tally = {"variance": jnp.ones((2, len(names))), "steps": jnp.float32(0)}
        return {**draw_weights(network, key), "tally": tally}

    def gather(data: Units, constants: Any, rows: RowSet, key: Key | None) -> UnitBatch:
        real = rows.weight > 0  # padding points at row 0, which may be a test row
        targets = {name: jnp.where(real[:, None], data.curves[name][rows.index], ABSENT) for name in names}
        counted = data.present[rows.index] & real[:, None]
        source = jnp.where(real, data.source[rows.index], -1)
        if key is None:
            nobody = jnp.full_like(source, -1)
            return UnitBatch(targets, counted, targets, counted, source, nobody, rows.weight, constants)
        change, hiding, blinding = jax.random.split(key, 3)
        curves = augment(targets, constants.strength, change)
        switches = constants.switches
        seen = hide(counted, switches.hidden, hiding)
        source = jnp.where(jax.random.uniform(blinding, source.shape) < switches.hidden, -1, source)
        targets = {name: jnp.where(switches.clean, targets[name], curves[name]) for name in names}
        label = jnp.where(real, constants.label[rows.index], -1)
        return UnitBatch(curves, seen, targets, counted, source, label, rows.weight, constants)

    def conditions(batch: UnitBatch) -> Conditions:
        label = jnp.where(batch.constants.switches.conditioned, batch.label, -1)
        return Conditions(batch.source if network.sources else None, label if network.classes else None)

    def kept(switches: Switches) -> Bool[Array, "latent"]:
        return (jnp.arange(network.latent) < switches.latent) | (switches.latent == 0)

    def misfit(errors: Array, variance: Array, batch: UnitBatch) -> Float[Array, ""]:
        published = losses.mean_squared_errors(errors, batch.counted, batch.weight).sum()
        noise = jnp.where(batch.seen, variance[SEEN], variance[HIDDEN])
        likelihood = losses.gaussian(errors, noise, lengths, batch.counted, batch.weight)
        return jnp.where(batch.constants.switches.likelihood, likelihood, published)

    def inconsistency(variables: Variables, batch: UnitBatch, reading: Reading, key: Key) -> Float[Array, ""]:
        """Of what is drawn with the class and, with noise of its own, without."""
        if not network.classes:
            return jnp.float32(0)

        def second() -> Float[Array, ""]:
            noise = jax.random.normal(key, reading.z.shape)
            z = reading.latent.mu + noise * jnp.exp(reading.latent.log_var / 2) * kept(batch.constants.switches)
            blind, how = conditions(batch)._replace(label=None), {"rows": batch.weight > 0, "train": True}
            curves: Any = network.apply(variables, z, blind, **how, method="decode", mutable=["batch_stats"])[0]
            errors = losses.squared_errors(curves, reading.curves, names)
            return losses.mean_squared_errors(errors, jnp.ones_like(batch.counted), batch.weight).sum()

        switches = batch.constants.switches
        epoch = jnp.floor(variables["tally"]["steps"] / batch.constants.steps)
        warm = jnp.minimum(1.0, (epoch + (switches.warm_up == 0)) / jnp.maximum(switches.warm_up, 1e-9))
        weight = switches.consistency * warm
        return weight * jax.lax.cond(weight > 0, second, lambda: jnp.float32(0))

    def loss(variables: Variables, batch: UnitBatch, key: Key):
        draw, drop, again = jax.random.split(key, 3)
        noise = jax.random.normal(draw, (len(batch.weight), network.latent))
        how = {"rows": batch.weight > 0, "train": True, "deterministic": False}
        inputs = (batch.curves, conditions(batch), batch.seen, noise, kept(batch.constants.switches))
        applied: Any = network.apply(variables, *inputs, **how, rngs={"dropout": drop}, mutable=["batch_stats"])
        reading, moved = applied
        errors, tally = losses.squared_errors(reading.curves, batch.targets, names), variables["tally"]
        reconstruction, switches = misfit(errors, tally["variance"], batch), batch.constants.switches
        cost = losses.kl(reading.latent.mu, reading.latent.log_var, batch.weight, switches.free_bits)
        value = reconstruction + switches.beta * cost + inconsistency(variables, batch, reading, again)
        value += switches.contrast * losses.contrast(reading.latent.mu, batch.label, batch.weight)
        moved = {**moved, "tally": count_up(tally, jax.lax.stop_gradient(errors), batch)}
        return value, (moved, {"reconstruction": reconstruction, "kl": cost})

    def outputs(variables: Variables, batch: UnitBatch) -> Embedding:
        told = Conditions(batch.source if network.sources else None)
        latent: Any = reader.apply(variables, batch.curves, told, batch.seen, method="encode")
        return Embedding(latent.mu, latent.log_var)

    def validate(variables: Variables, data: Units, constants: UnitConstants, rows: RowSet) -> dict[str, Array]:
        def look(some: RowSet) -> tuple[Array, Array, Array]:
            batch = gather(data, constants, some, None)
            asked = (batch.curves, conditions(batch), batch.seen, None, kept(constants.switches))
            reading: Any = network.apply(variables, *asked)
            errors = losses.squared_errors(reading.curves, batch.targets, names)
            return reading.latent.mu, reading.latent.log_var, errors

        mu, log_var, errors = over_blocks(look, rows, BLOCK)
        whole, switches = gather(data, constants, rows, None), constants.switches
        explained = explained_variance(errors, whole, names)
        known = whole.counted.any(axis=0)
        cost = losses.kl(mu, log_var, rows.weight, switches.free_bits)
        return {
            "loss": misfit(errors, variables["tally"]["variance"], whole) + switches.beta * cost,
            "r2": losses.weighted_mean(explained, known.astype(jnp.float32)),
            **{f"r2_{name}": explained[place] for place, name in enumerate(names)},
            "kl": losses.kl(mu, log_var, rows.weight),
            "active": losses.active_dimensions(mu, log_var, rows.weight).sum() / kept(switches).sum(),
        }

    return Task(init, gather, loss, outputs, validate)


def hide(present: Bool[AnyArray, "row modality"], share: Float[AnyArray, ""], key: Key) -> Bool[Array, "row modality"]:
    """Each present curve is hidden with probability ``share``; where all of a unit would be, the luckiest stays."""
    luck = jnp.where(present, jax.random.uniform(key, present.shape), -1.0)
    luckiest = luck == luck.max(axis=1, keepdims=True)
    return present & ((luck >= share) | luckiest)


def explained_variance(
    errors: Float[Array, "row modality"], batch: UnitBatch, names: Sequence[str]
) -> Float[Array, "modality"]:
    """``1 - sum error / sum |x - mean of these units|^2`` of each modality; NaN where no unit has it."""
    counted = batch.counted * batch.weight[:, None]
    spread = []
    for place, name in enumerate(names):
        weight, target = counted[:, [place]], batch.targets[name]
        mean = (weight * target).sum(axis=0) / weight.sum()
        spread.append((weight * (target - mean) ** 2).mean(axis=1).sum())
    return 1 - jnp.where(counted > 0, counted * errors, 0.0).sum(axis=0) / jnp.stack(spread)


def count_up(tally: dict[str, Array], errors: Float[Array, "row modality"], batch: UnitBatch) -> dict[str, Array]:
    """Steps so far, and the running squared error of hidden and seen curves, which stays where no row has one."""
    running = []
    for some, old in zip((batch.counted & ~batch.seen, batch.counted & batch.seen), tally["variance"], strict=True):
        mean = jnp.maximum(losses.mean_squared_errors(errors, some, batch.weight), LEAST)
        running.append(old + MOMENTUM * some.any(axis=0) * (mean - old))
    return {"variance": jnp.stack(running), "steps": tally["steps"] + 1}


def make_data(tables: UnitTable | Sequence[UnitTable], preparation: Preparation = DEFAULT) -> Units:
    """The units of one or more tables, one after the other."""
    tables = [tables] if isinstance(tables, UnitTable) else tables
    prepared = [prepare(table.raw, preparation) for table in tables]
    names = [name for name, _ in preparation.lengths]
    curves = {name: np.concatenate([part.curves[name] for part in prepared]) for name in names}
    present = np.concatenate([part.present for part in prepared])
    return Units(curves, present, np.concatenate([table.technology for table in tables]))


def make_runs(
    label: Int[np.ndarray, "*run cell"], splits: Sequence[Split], objectives: Sequence[Objective], *, batch_size: int
) -> RunInputs:
    """The row tables and constants of every run. ``label``, the same for all or each its own: -1 without one; a run is
    given those of its training rows."""
    constants = []
    labels = np.broadcast_to(label, (len(splits), label.shape[-1]))
    for split, objective, known in zip(splits, objectives, labels, strict=True):
        own = np.full(len(known), -1, np.int32)
        own[split.train] = known[split.train]
        constants.append(constants_of(objective, own, -(-len(split.train) // batch_size)))
    train, valid = (stack_rows([plain_rows(s) for s in part]) for part in zip(*[s[:2] for s in splits], strict=True))
    return RunInputs(train, valid, jax.tree.map(lambda *leaves: np.stack(leaves), *constants))


def constants_of(objective: Objective, label: Int[np.ndarray, "cell"], steps: int = 1) -> UnitConstants:
    """Of one run."""
    numbers = {name: getattr(objective, name) for name in Switches._fields}
    flags = {name: np.bool_(x) if isinstance(x, bool) else np.float32(x) for name, x in numbers.items()}
    return UnitConstants(Switches(**flags), STRENGTHS[objective.augmentation], label, np.float32(steps))


def even_batches(rows: Sequence[int], batch_size: int) -> int:
    """The batch size, near the one wished for, that cuts the rows of every run most evenly.

    ``rows``: how many each run trains on. The statistics of a last batch of one row are worthless, so that the smallest last
    batch of a run, as a share of a batch, is to be as large as can be.
    """
    counts = np.unique(rows)
    near = np.arange(-(-2 * batch_size // 3), max(3 * batch_size // 2, 1) + 1)
    sizes = np.minimum(near, counts.max())  # the whole of the longest run is the largest batch
    fullest = (((counts - 1) % sizes[:, None] + 1) / sizes[:, None]).min(axis=1)
    best = sizes[fullest == fullest.max()]
    return int(best[np.abs(best - batch_size).argmin()])
