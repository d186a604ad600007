"""The transfer task: one encoder learns from two species, a head for each.

    loss = CE_human + alpha CE_mouse,   each the class-weighted mean over the cells of that species in the batch

``alpha`` is a number of the run: with 0 only human cells count, so that a grid over alpha and its control are one program.
A run without rows of a species is the same task too; the term that has no cells is 0.

Deviation: the original draws a batch of each species, and begins the human cells anew until the mouse cells are through.
Here both stand in one table, human rows repeated until they are as many, and a shuffled batch of twice the size holds about
half of each. The terms are means over their own cells, so only the number of cells behind them varies a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.rows import Rows, over_blocks, plain_rows, stack_rows
from jaxephys.engine.task import Key, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation import metrics
from jaxephys.patchseq.losses import cross_entropy, inverse_frequency_weights, weighted_mean
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.network.two_species import BySpecies, TwoHeads
from jaxephys.patchseq.preprocessing import Scale, fit_z_score, flags, scaled
from jaxephys.patchseq.task import BLOCK, packed_scale
from jaxephys.schemas.feature_table import FeatureTable

MOUSE = "mouse"


def no_rows() -> Rows:
    return np.array([], np.int32)


@dataclass(frozen=True)
class Mixture:
    """What one run learns from, and the cells that select its epoch: human ones, or in pretraining mouse ones."""

    validation: Rows
    human: Rows = field(default_factory=no_rows)
    mouse: Rows = field(default_factory=no_rows)
    alpha: float = 1.0
    by_accuracy: bool = False  # selects the epoch by accuracy, as the published baseline does; otherwise by macro-F1


class Species(NamedTuple):
    """What is fitted to the training cells of one species."""

    scale: Scale  # in the packed layout
    class_weight: Float[AnyArray, "*run class"]


class MixtureConstants(NamedTuple):
    human: Species
    mouse: Species
    alpha: Float[AnyArray, "*run"]
    by_accuracy: Bool[AnyArray, "*run"]


class TwoSpecies(NamedTuple):
    """The data: once on the device."""

    packed: Float[AnyArray, "cell packed"]
    label: Int[AnyArray, "cell"]
    mouse: Bool[AnyArray, "cell"]


class MixedBatch(NamedTuple):
    x: Float[Array, "row packed"]
    missing: Float[Array, "row packed"]
    label: Int[Array, "row"]
    mouse: Bool[Array, "row"]
    weight: Float[Array, "row"]
    class_weight: Float[Array, "row"]  # of the row's label in its own species
    alpha: Float[Array, ""]


def make_transfer_task(network: TwoHeads) -> Task:
    """The five functions of one run."""

    def init(key: Key) -> Variables:
        nothing = jnp.zeros((1, network.stairs.size))
        return dict(network.init(key, nothing, nothing, train=False))

    def gather(data: TwoSpecies, constants: MixtureConstants, rows: RowSet, key: Key | None) -> MixedBatch:
        del key  # nothing is drawn
        values, label, mouse = data.packed[rows.index], data.label[rows.index], data.mouse[rows.index]
        ours, theirs = constants.human, constants.mouse
        scale = jax.tree.map(lambda a, b: jnp.where(mouse[:, None], b, a), ours.scale, theirs.scale)
        real = rows.weight[:, None] > 0  # padding points at row 0, which may be a test row
        x, missing = (jnp.where(real, seen(values, scale), 0.0) for seen in (scaled, flags))
        class_weight = jnp.where(mouse, theirs.class_weight[label], ours.class_weight[label])
        return MixedBatch(x, missing, label, mouse, rows.weight, class_weight, constants.alpha)

    def read(variables: Variables, batch: MixedBatch, key: Key | None) -> BySpecies:
        rngs = None if key is None else {"dropout": key}
        return cast(BySpecies, network.apply(variables, batch.x, batch.missing, train=key is not None, rngs=rngs))

    def loss(variables: Variables, batch: MixedBatch, key: Key):
        logits = own_head(read(variables, batch, key), batch.mouse)
        rows, weight = cross_entropy(logits, batch.label), batch.weight * batch.class_weight
        human, mouse = (weighted_mean(rows, weight * member) for member in (~batch.mouse, batch.mouse))
        right = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
        return human + batch.alpha * mouse, ({}, {"accuracy": weighted_mean(right, batch.weight)})

    def outputs(variables: Variables, batch: MixedBatch) -> BySpecies:
        """Probabilities, of either head."""
        return jax.tree.map(jax.nn.softmax, read(variables, batch, None))

    def validate(
        variables: Variables, data: TwoSpecies, constants: MixtureConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        def probability(some: RowSet) -> Float[Array, "row class"]:
            return own_head(outputs(variables, gather(data, constants, some, None)), data.mouse[some.index])

        predicted = over_blocks(probability, rows, BLOCK)
        scores = metrics.classification_scores(data.label[rows.index], predicted, rows.weight)
        return scores | {"selection": jnp.where(constants.by_accuracy, scores["accuracy"], scores["macro_f1"])}

    return Task(init, gather, loss, outputs, validate)


def own_head(said: BySpecies, mouse: Bool[Array, "row"]) -> Float[Array, "row class"]:
    """What the head of each cell's own species says. The other one gets no gradient from it."""
    return jnp.where(mouse[:, None], said.mouse, said.human)


def make_two_species(table: FeatureTable, stairs: Staircase) -> TwoSpecies:
    mouse = is_mouse(table)
    return TwoSpecies(stairs.pack(table.values), table.codes(), mouse)


def is_mouse(table: FeatureTable) -> Bool[np.ndarray, "cell"]:
    found = np.zeros(len(table), bool) if table.species is None else table.species == MOUSE
    if found.all() or not found.any():
        raise ValueError(
            f"{found.sum()} of {len(table)} cells are said to be of the mouse: give a table of both species"
        )
    return found


def make_transfer_runs(table: FeatureTable, stairs: Staircase, mixtures: Sequence[Mixture]) -> RunInputs:
    """The row tables and constants of every run. What is fitted to a species is fitted to the run's training cells of it."""
    fitted: dict[bytes, Species] = {}  # runs share the cells of their fold, or of their seed
    for rows in (rows for mixture in mixtures for rows in (mixture.human, mixture.mouse)):
        if rows.tobytes() not in fitted:
            fitted[rows.tobytes()] = fit_species(table, stairs, rows)
    constants = [
        MixtureConstants(
            fitted[mixture.human.tobytes()],
            fitted[mixture.mouse.tobytes()],
            np.float32(mixture.alpha),
            np.bool_(mixture.by_accuracy),
        )
        for mixture in mixtures
    ]
    return RunInputs(
        stack_rows([mixed_rows(mixture) for mixture in mixtures]),
        stack_rows([plain_rows(mixture.validation) for mixture in mixtures]),
        jax.tree.map(lambda *leaves: np.stack(leaves), *constants),
    )


def mixed_rows(mixture: Mixture) -> RowSet:
    """The human rows, repeated until they are as many as the mouse rows, and those."""
    times = max(len(mixture.human), len(mixture.mouse)) if len(mixture.human) else 0
    return plain_rows(np.concatenate([np.resize(mixture.human, times), mixture.mouse]))


def fit_species(table: FeatureTable, stairs: Staircase, rows: Rows) -> Species:
    """Scale and class weights from these cells; neutral ones where a run has none of the species."""
    classes = len(table.classes)
    values = table.values[rows] if len(rows) else np.zeros((1, table.values.shape[1]), np.float32)
    counts = np.bincount(table.codes()[rows], minlength=classes) if len(rows) else np.ones(classes)
    return Species(packed_scale(fit_z_score(values), stairs), inverse_frequency_weights(counts))
