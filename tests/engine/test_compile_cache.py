"""Programs are compiled once: within a process, across folds of unequal size, and across processes."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from jaxephys.engine import compile_cache
from jaxephys.engine.callbacks import ProgressBar
from jaxephys.engine.fit import fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.rows import pad_samples, plain_rows, stack_rows
from jaxephys.engine.task import RunInputs
from tests.engine.linear_task import DATA, TASK, TRAIN_CONFIG

SHORT = replace(TRAIN_CONFIG, max_epochs=2, chunk_epochs=2)
GRID = RunGrid.cross(seed=range(2))


def inputs(n_train, n_validation=12):
    train, validation = np.arange(n_train), np.arange(n_train, n_train + n_validation)
    tables = ([plain_rows(rows)] * 2 for rows in (train, validation))
    return RunInputs(*map(stack_rows, tables), {"scale": np.full(2, 1.3, np.float32)})


@pytest.fixture
def compiled(monkeypatch):
    """The titles of the programs that are compiled."""
    monkeypatch.setattr(compile_cache, "_kept", type(compile_cache._kept)())
    titles, original = [], compile_cache.compiled_program

    def spy(key, title, lower, announce):
        program, seconds = original(key, title, lower, announce)
        titles.extend([title] * (seconds > 0))
        return program, seconds

    monkeypatch.setattr(compile_cache, "compiled_program", spy)
    return titles


def test_fits_of_equal_shapes_share_what_is_compiled(compiled):
    first = fit(TASK, DATA, inputs(30), GRID, SHORT)
    assert len(compiled) == 2 and first.compile_seconds > 0, "initialization and training"
    second = fit(TASK, DATA, inputs(29), GRID, SHORT)
    assert len(compiled) == 2 and second.compile_seconds == 0
    assert (first.best["params"]["head"]["w"] != second.best["params"]["head"]["w"]).any()
    fit(TASK, DATA, inputs(30), GRID, replace(SHORT, learning_rate=0.5))
    assert len(compiled) == 4, "another config is another program"


def test_samples_are_padded_to_the_same_length():
    lengths = {len(pad_samples({"x": np.ones((n, 2))})["x"]) for n in range(225, 241)}
    assert lengths == {240}
    padded = pad_samples(np.array([1, 2, 3] * 7), fill=-1.0)
    np.testing.assert_array_equal(padded, [1, 2, 3] * 7 + [-1])


@pytest.mark.parametrize("step", [1, 64])
def test_padded_lengths_are_few_and_hardly_longer(step):
    lengths = np.arange(1, 3000)
    padded = np.array([compile_cache.padded_length(int(n), step) for n in lengths])
    assert (padded >= lengths).all() and (padded % step == 0).all() and (np.diff(padded) >= 0).all()
    assert (padded <= 9 / 8 * lengths + step).all() and len(set(padded)) < 80


@dataclass(frozen=True)
class Scaled:
    """An object whose methods are the same function if its field is equal."""

    factor: float

    def times(self, x):
        return self.factor * x


def test_methods_of_equal_objects_have_one_key():
    key = compile_cache.function_key
    assert key(Scaled(2.0).times) == key(Scaled(2.0).times) != key(Scaled(3.0).times)
    assert key(functools.partial(max, 1)) == key(functools.partial(max, 1)) != key(functools.partial(max, 2))


def test_a_compilation_is_announced_with_the_time_of_the_last_one(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "use_persistent_cache", lambda: tmp_path)
    bars = []
    monkeypatch.setattr(ProgressBar, "announce", lambda self, text: bars.append(text))
    fit(TASK, DATA, inputs(30), GRID, SHORT, title="linear")
    assert sorted(bars) == [
        f"compiling the {name} of 2 runs of 18 parameters" for name in ("initialization", "training")
    ]
    times = json.loads((tmp_path / compile_cache.TIMES).read_text())
    assert len(times) == 2 and all(seconds >= 0 for seconds in times.values())
    fit(TASK, DATA, inputs(30), GRID, replace(SHORT, learning_rate=0.25), title="linear")
    assert bars[-1].endswith("s last time)")


def test_the_cache_of_a_user_is_on_unless_it_is_turned_off(tmp_path):
    script = "from jaxephys.engine.compile_cache import use_persistent_cache as use; import jax\n"
    script += "print(use(), jax.config.jax_compilation_cache_dir)\n"
    script += "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0); jax.jit(lambda x: x + 1)(2.0)"
    base = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}

    def run(**env):
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env={**base, **env}, capture_output=True, text=True, check=True)
        assert "Warning" not in done.stderr
        return done.stdout.split()

    default = str(tmp_path / "jaxephys" / "xla")
    assert run(XDG_CACHE_HOME=str(tmp_path)) == [default, default]
    assert any((tmp_path / "jaxephys" / "xla").glob("jit_*")), "the program was written"
    chosen = str(tmp_path / "mine")
    assert run(JAX_COMPILATION_CACHE_DIR=chosen) == [chosen, chosen]
    assert run(JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"


def test_the_oldest_files_are_deleted_first(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compile_cache.delete_oldest(tmp_path, 25)
    assert sorted(file.name for file in tmp_path.glob("*")) == ["a", "b"]
    compile_cache.delete_oldest(tmp_path / "none", 25)


def test_a_fit_from_initial_variables_compiles_another_initialization(compiled):
    first = fit(TASK, DATA, inputs(30), GRID, SHORT)
    initial = {"params": {"head": {"w": np.full_like(first.best["params"]["head"]["w"], 2.0)}}}
    frozen = replace(SHORT, freeze=("head",))
    fit(TASK, DATA, inputs(30), GRID, frozen)
    tuned = fit(TASK, DATA, inputs(30), GRID, frozen, initial=initial)
    np.testing.assert_array_equal(tuned.best["params"]["head"]["w"], 2.0)
