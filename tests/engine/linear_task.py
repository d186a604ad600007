"""A small regression with everything that a real system has: two modules, mutables, dropout, constants of each run."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.rows import RowSet, plain_rows, stack_rows, take_rows
from jaxephys.engine.task import RunInputs, Task

ROWS, FEATURES, HIDDEN, BATCH = 160, 5, 3, 16
GARBAGE = ROWS  # a row of NaN behind the real ones: only weight 0 may point at it

TRAIN_CONFIG = TrainConfig(
    max_epochs=40,
    patience=3,
    monitor="mse",
    mode="min",
    batch_size=BATCH,
    learning_rate=3e-2,
    chunk_epochs=5,
    execution="map",
)


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS + 1, FEATURES)).astype(np.float32)
    y = (np.sin(x @ rng.normal(size=FEATURES)) + 0.3 * rng.normal(size=ROWS + 1)).astype(np.float32)
    x[GARBAGE], y[GARBAGE] = np.nan, np.nan
    return {"x": x, "y": y}


DATA = make_data()


def init(key):
    body, head = jax.random.split(key)
    params = {
        "body": {"w": 0.5 * jax.random.normal(body, (FEATURES, HIDDEN))},
        "head": {"w": 0.5 * jax.random.normal(head, (HIDDEN,))},
    }
    return {
        "params": params,
        "stats": {"mean": jnp.zeros(FEATURES), "steps": jnp.int32(0), "partial": jnp.int32(0)},
    }


def gather(data, constants, rows, key):
    real = jnp.asarray(rows.weight) > 0
    x = jnp.where(real[:, None], take_rows(data["x"], rows), 0.0)
    y = jnp.where(real, take_rows(data["y"], rows), 0.0)
    if key is not None:
        x = x + 0.05 * jax.random.normal(key, x.shape)
    return {"x": x, "y": y * constants["scale"], "weight": rows.weight}


def outputs(variables, batch):
    x = batch["x"] - 0.1 * variables["stats"]["mean"]
    return jnp.tanh(x @ variables["params"]["body"]["w"]) @ variables["params"]["head"]["w"]


def weighted_mean(values, weight):
    return jnp.sum(values * weight, axis=-1) / jnp.sum(weight)


def loss(variables, batch, key):
    keep = jax.random.bernoulli(key, 0.9, batch["x"].shape)
    error = outputs(variables, {**batch, "x": batch["x"] * keep}) - batch["y"]
    old = variables["stats"]
    stats = {
        "mean": 0.9 * old["mean"] + 0.1 * weighted_mean(batch["x"].T, batch["weight"]),
        "steps": old["steps"] + 1,
        "partial": old["partial"] + jnp.any(batch["weight"] == 0),
    }
    metrics = {"mae": weighted_mean(jnp.abs(error), batch["weight"])}
    return weighted_mean(error**2, batch["weight"]), ({"stats": stats}, metrics)


def validate(variables, data, constants, rows):
    batch = gather(data, constants, rows, None)
    mse = weighted_mean((outputs(variables, batch) - batch["y"]) ** 2, batch["weight"])
    return {"mse": mse, "skill": -mse}


TASK = Task(init, gather, loss, outputs, validate)


def train_length(run):
    return 32 + 7 * run


def train_table(run) -> RowSet:
    return plain_rows(np.random.default_rng(run).permutation(ROWS - 40)[: train_length(run)])


def valid_table(run) -> RowSet:
    return plain_rows(np.arange(ROWS - 40 + run, ROWS))


def scales(indices):
    return np.array([1.0 + 0.1 * run for run in indices], np.float32)


def make_grid(indices=range(5)) -> tuple[RunGrid, RunInputs]:
    """Return grid and inputs of some runs; run 3 is the same run in every grid."""
    indices = list(indices)
    inputs = RunInputs(
        stack_rows([train_table(run) for run in indices]),
        stack_rows([valid_table(run) for run in indices]),
        {"scale": scales(indices)},
    )
    return RunGrid.cross(seed=indices), inputs


def assert_same_runs(left, right, atol=0.0):
    """Compare scores, epochs, history and best variables of two fits, bit for bit by default."""
    np.testing.assert_array_equal(left.run_results.status, right.run_results.status)
    np.testing.assert_array_equal(left.run_results.epochs, right.run_results.epochs)
    np.testing.assert_array_equal(left.run_results.best_epoch, right.run_results.best_epoch)
    assert left.history.keys() == right.history.keys()
    pairs = [(left.history, right.history), (left.best, right.best)]
    pairs.append(({"best": left.run_results.best_score}, {"best": right.run_results.best_score}))
    for a, b in pairs:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=atol, atol=atol), a, b)
