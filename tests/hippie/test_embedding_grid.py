"""Networks that embed units for the benchmark: none uses a test unit, and each is used for its fold."""

from typing import Any

import jax
import numpy as np

from data_prep.units.registry import find_dataset, held_out
from jaxephys.engine.fit import FitResult
from jaxephys.hippie.benchmark import (
    SHUFFLED,
    Benchmark,
)
from jaxephys.hippie.embedding_grid import OBJECTIVES, EmbeddingGrid, EmbeddingSettings
from jaxephys.reporting.run_folder import RunFolder

REGISTRY = (find_dataset, held_out)


SMALL = EmbeddingSettings(width=4, latent=4, seeds=2, pretraining=1, max_epochs=1, contrast=10.0)


class Untrained(FitResult):
    """The result of a training that ended at its initial weights."""

    best = None

    def __init__(self, grid, best):
        self.grid, self.best = grid, best


class NoTraining(RunFolder):
    """A run folder whose fits return initial weights and that stores their arguments."""

    def __init__(self):
        self.fits = {}

    def fit(self, task, data, inputs, grid, config, name="", initial=None):
        best = jax.jit(jax.vmap(task.init))(jax.vmap(jax.random.key)(grid.seeds))
        self.fits[name] = (inputs, grid, initial, best)
        return Untrained(grid, best)


def test_no_network_uses_a_test_unit_or_its_label(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    grid = EmbeddingGrid(bench, bench.pretraining_tables(tables, *REGISTRY), SMALL)
    assert len(grid.fold_grid) == (len(OBJECTIVES) * SMALL.seeds + 1) * 5 and grid.n_runs == len(grid.fold_grid) + 4
    assert grid.pretraining_rows.min() >= len(bench.table), "pretraining uses no unit of the benchmark"
    for run in grid.fold_grid:
        split, test = grid.split(run["fold"], run["seed"]), bench.split(run["fold"])[1]
        both = np.concatenate([split.train, split.validation])
        assert not np.isin(test, both).any() and set(both) | set(test) == set(range(len(bench.table)))
        assert len(np.unique(bench.codes[split.train])) == len(bench.classes)


def test_networks_start_from_those_of_their_objective_and_seed_and_are_used_for_their_fold(tables):
    bench, folder = Benchmark.from_table("hull", tables["hull"]), NoTraining()
    grid = EmbeddingGrid(bench, bench.pretraining_tables(tables, *REGISTRY), SMALL)
    embeddings: Any = grid.train(folder)
    first, grid_, _, best = folder.fits["hull_pretrain"]
    assert (np.asarray(first.constants.label) == -1).all(), "pretraining uses no label"
    inputs, second, initial, _ = folder.fits["hull_folds"]
    kernel = ("params", "z_mean", "kernel")
    for index, run in enumerate(second):
        label, test = inputs.constants.label[index], bench.split(run["fold"])[1]
        assert (label[test] == -1).all() and not np.isin(test, inputs.train.index[index]).any()
        expected = bench.shuffled_codes(run["seed"]) if run["objective"] == SHUFFLED else bench.codes
        known = np.flatnonzero(label >= 0)
        np.testing.assert_array_equal(label[known], expected[known])
        objective = "ours" if run["objective"] == SHUFFLED else run["objective"]
        (before,) = grid_.where(objective=objective, seed=run["seed"])
        np.testing.assert_array_equal(leaf(initial, kernel)[index], leaf(best, kernel)[before])
        assert bool(inputs.constants.objective.likelihood[index]) == (objective == "ours")
    assert "steps" not in initial["tally"]
    embedding = embeddings["ours"](1, 0)
    assert embedding.shape == (len(bench.table), SMALL.latent)
    np.testing.assert_allclose(
        embedding, embeddings["ours"](1, 1), atol=1e-6
    )  # untrained, they differ only by the seed
    assert np.abs(embedding - embeddings["ours"](0, 0)).max() > 1e-4


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)
