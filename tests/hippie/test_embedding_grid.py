"""Networks that embed units for the benchmark: which units, labels and options each stage has, and each network is used for its fold."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from data_prep.units.registry import find_dataset, held_out
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import RunInputs, Task
from jaxephys.hippie.benchmark import (
    SHUFFLED,
    Benchmark,
    transfer_benchmark,
)
from jaxephys.hippie.embedding_grid import EmbeddingGrid, make_embedding_grids
from jaxephys.hippie.protocol import (
    GENERATIVE_BENCHMARK,
    HOLD_OUT_BENCHMARK,
    PUBLISHED_STAGES,
    TRANSFER_STAGES,
    BenchmarkSettings,
    EmbeddingSettings,
)
from jaxephys.hippie.task import UnitArrays
from jaxephys.reporting.run_folder import RunFolder

REGISTRY = (find_dataset, held_out)
TINY: dict[str, Any] = {"trunk": "dense", "width": 4, "latent": 4, "seeds": 2}
SMALL = EmbeddingSettings(**TINY, pretraining=1, max_epochs=1, contrast=10.0)


class Untrained(FitResult):
    """The result of a training that ended at its initial weights."""

    best: Any = None  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __init__(self, grid, best):
        self.grid, self.best = grid, best  # pyright: ignore[reportAttributeAccessIssue]


class Fit(NamedTuple):
    """The arguments of a training, and its result."""

    task: Task
    data: UnitArrays
    inputs: RunInputs
    grid: RunGrid
    config: TrainConfig
    initial: Any
    best: Any


class NoTraining(RunFolder):
    """A run folder whose fits return initial weights and that stores their arguments."""

    def __init__(self):
        self.fits: dict[str, Fit] = {}

    def fit(self, task, data, inputs, grid, config, name="", initial=None, template=None):
        best = jax.jit(jax.vmap(task.init))(jax.vmap(jax.random.key)(grid.seeds + len(self.fits)))
        self.fits[name] = Fit(task, data, inputs, grid, config, initial, best)
        return Untrained(grid, best)


def test_no_network_uses_a_test_unit_or_its_label(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    grid = EmbeddingGrid(bench, bench.pretraining_tables(tables, *REGISTRY), SMALL)
    first, second = grid.stages.values()
    assert len(first) == 4 and len(second) == (2 * SMALL.seeds + 1) * 5 and grid.n_runs == len(second) + 4
    assert grid.pretraining_rows.min() >= len(bench.table), "pretraining uses no unit of the benchmark"
    for run in second:
        split, test = grid.split(run["fold"], run["seed"]), bench.split(run["fold"])[1]
        both = np.concatenate([split.train, split.validation])
        assert not np.isin(test, both).any() and set(both) | set(test) == set(range(len(bench.table)))
        assert len(np.unique(bench.codes[split.train])) == len(bench.classes)


def test_networks_start_from_those_of_their_objective_and_seed_and_are_used_for_their_fold(tables):
    bench, folder = Benchmark.from_table("hull", tables["hull"]), NoTraining()
    grid = EmbeddingGrid(bench, bench.pretraining_tables(tables, *REGISTRY), SMALL)
    embeddings: Any = grid.train(folder)
    pretrained, tuned = folder.fits.values()
    grid_, best = pretrained.grid, pretrained.best
    assert (np.asarray(pretrained.inputs.constants.label) == -1).all(), "pretraining uses no label"
    inputs, second, initial = tuned.inputs, tuned.grid, tuned.initial
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


def published(**changed):
    return EmbeddingSettings(**{**PUBLISHED_STAGES, **TINY, **changed})


@pytest.fixture(scope="module")
def stages(tables):
    """The fits of the published protocol on Hull, of which some units have no autocorrelogram."""
    acg = tables["hull"].raw["acg"].copy()
    acg[::9] = np.nan
    hull = replace(tables["hull"], raw={**tables["hull"].raw, "acg": acg})
    bench, folder = Benchmark.from_table("hull", hull), NoTraining()
    (grid,) = make_embedding_grids([bench], {**tables, "hull": hull}, *REGISTRY, published())
    grid.train(folder)
    return bench, grid, folder.fits


def test_the_published_protocol_has_three_stages(stages):
    _, grid, fits = stages
    assert list(fits) == ["hull_pretrain", "hull_fine_tune", "hull_folds"]
    assert grid.n_runs == sum(len(fit.grid) for fit in fits.values()) == 2 + 2 + 2 * 5 + 5
    configs = [fit.config for fit in fits.values()]
    assert [config.max_epochs for config in configs] == [100, 20, 10]
    assert [config.learning_rate for config in configs] == pytest.approx([1e-3, 1e-4, 1e-4])
    for config in configs:
        assert (config.patience, config.min_delta, config.batch_size, config.warmup_steps) == (5, 1e-4, 128, 0)
        assert (config.weight_decay, config.clip_norm, config.monitor, config.mode) == (0.01, 1.0, "loss", "min")
    strengths = [set(np.asarray(fit.inputs.constants.augmentation.probability).tolist()) for fit in fits.values()]
    assert strengths == [{np.float32(0.3)}, {np.float32(0.3)}, {0.0}], "no augmentation with labels"
    assert not any(np.asarray(fit.inputs.constants.objective.likelihood).any() for fit in fits.values())


def test_test_units_are_in_all_published_stages_without_their_label(stages):
    bench, _, fits = stages
    everyone = set(range(len(bench.table)))
    for fit in fits.values():
        for run, level in enumerate(fit.grid):
            train, validation = (
                rows.index[run][np.asarray(rows.weight[run]) > 0] for rows in (fit.inputs.train, fit.inputs.validation)
            )
            assert not set(train) & set(validation) and set(train) | set(validation) == everyone
            label = np.asarray(fit.inputs.constants.label[run])
            if "fold" not in level:
                assert len(validation) == pytest.approx(0.1 * len(everyone), abs=1) and (label == 0).all()
                continue
            known, test = bench.split(level["fold"])
            assert set(test) <= set(train) and (label[test] == 0).all(), "the first class, whatever their own is"
            codes = bench.shuffled_codes(level["seed"]) if level["objective"] == SHUFFLED else bench.codes
            np.testing.assert_array_equal(label[known], codes[known])
            assert len(validation) == pytest.approx(0.1 * len(known), abs=1)
    assert len(np.unique(bench.codes[bench.split(0)[1]])) > 1, "test units have several classes"


def test_the_class_table_is_drawn_anew_before_the_stage_with_labels_and_nothing_else_is(stages):
    _, _, fits = stages
    pretrained, tuned, supervised = fits.values()
    assert pretrained.initial is None
    kernel, table = ("params", "z_mean", "kernel"), ("params", "label_embedding")
    for path in (kernel, table):
        np.testing.assert_array_equal(leaf(tuned.initial, path), leaf(pretrained.best, path))
    runs = [tuned.grid.where(objective="published", seed=run["seed"])[0] for run in supervised.grid]
    before = jax.tree.map(lambda array: np.asarray(array)[runs], tuned.best)
    np.testing.assert_array_equal(leaf(supervised.initial, kernel), leaf(before, kernel))
    drawn = leaf(supervised.initial, table)
    assert drawn.shape == leaf(before, table).shape and np.abs(drawn - leaf(before, table)).min() > 0
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), supervised.initial["params"], before["params"])
    assert [name for name, leaves in changed.items() if any(jax.tree.leaves(leaves))] == ["label_embedding"]


def test_a_missing_curve_is_a_constant_and_there_is_no_mask_token_in_the_published_protocol(stages):
    _, _, fits = stages
    for fit in fits.values():
        assert np.asarray(fit.data.present).all() and (np.asarray(fit.data.curves["acg"])[::9] == -1).all()
        assert not any(name.startswith("mask_token") for name in fit.best["params"])


def test_a_protocol_without_test_curves_uses_none(tables):
    settings = EmbeddingSettings(**TINY, pretraining=1, fine_tuning=1, max_epochs=1, objectives=("published",))
    bench, folder = Benchmark.from_table("watson", tables["watson"]), NoTraining()
    grid = EmbeddingGrid(bench, bench.pretraining_tables(tables, *REGISTRY), settings)
    embeddings = grid.train(folder)
    tuned = folder.fits["watson_fine_tune"]
    assert (
        tuned.grid.factors == ("objective", "fold", "seed") and (np.asarray(tuned.inputs.constants.label) == -1).all()
    )
    for fit in (tuned, folder.fits["watson_folds"]):
        for run, level in enumerate(fit.grid):
            test = bench.split(level["fold"])[1]
            for rows in (fit.inputs.train, fit.inputs.validation):
                assert not np.isin(rows.index[run][np.asarray(rows.weight[run]) > 0], test).any()
    assert set(embeddings) == {"published", SHUFFLED} and not settings.uses_test_curves


def test_the_published_transfer_trains_on_the_target_in_pretraining_only(tables):
    bench, folder = transfer_benchmark(tables, "lisberger", "hull_counts", 10), NoTraining()
    settings = EmbeddingSettings(**{**TRANSFER_STAGES, **TINY})
    (grid,) = make_embedding_grids([bench], tables, *REGISTRY, settings)
    grid.train(folder)
    target = bench.split(0)[1]
    used = [
        np.concatenate([rows.index[0][np.asarray(rows.weight[0]) > 0] for rows in fit.inputs[:2]])
        for fit in folder.fits.values()
    ]
    assert np.isin(target, used[0]).all() and max(used[0]) >= len(bench.table), "and on other data sets"
    assert not any(np.isin(target, rows).any() for rows in used[1:])
    assert settings.uses_test_curves


def test_a_held_out_data_set_is_embedded_by_networks_that_have_seen_none_of_it(tables):
    bench, folder = Benchmark.from_table("watson", tables["watson"]), NoTraining()
    settings = BenchmarkSettings(**{**HOLD_OUT_BENCHMARK, **TINY})
    (grid,) = make_embedding_grids([bench], tables, *REGISTRY, settings)
    embeddings = grid.train(folder)
    ((name, fit),) = folder.fits.items()
    assert name == "watson_pretrain" and fit.inputs.train.index.min() >= len(bench.table)
    assert not settings.uses_test_curves and (np.asarray(fit.inputs.constants.label) <= 0).all()
    np.testing.assert_array_equal(embeddings["published"](1, 0), embeddings["published"](1, 4))
    np.testing.assert_array_equal(embeddings[SHUFFLED](0, 0), embeddings["published"](0, 0))
    assert (embeddings["published"](1, 0) != embeddings["published"](0, 0)).any()


def test_the_generative_model_is_one_training_without_a_class(tables):
    bench, folder = Benchmark.from_table("hull", tables["hull"]), NoTraining()
    settings = BenchmarkSettings(**{**GENERATIVE_BENCHMARK, **TINY})
    (grid,) = make_embedding_grids([bench], tables, *REGISTRY, settings)
    grid.train(folder)
    ((name, fit),) = folder.fits.items()
    objective = fit.inputs.constants.objective
    assert name == "hull_pretrain" and fit.config.max_epochs == 80 and fit.config.batch_size == 256
    assert fit.config.weight_decay == 1e-4 and "label_embedding" not in fit.best["params"]
    assert np.asarray(objective.beta) == pytest.approx(0.1) and (np.asarray(objective.free_bits) == 0.5).all()


def test_a_protocol_without_a_stage_is_refused(tables):
    bench = Benchmark.from_table("hull", tables["hull"])
    with pytest.raises(ValueError, match="no stage trains the networks of hull"):
        EmbeddingGrid(bench, [], replace(SMALL, max_epochs=0))


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)
