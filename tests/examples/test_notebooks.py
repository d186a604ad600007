"""The notebooks of ``examples/`` run with small sizes, and hold the outputs of the code that they hold.

One runs in every test run; the others, and all of them in a kernel of their own, are marked ``slow``.
"""

from __future__ import annotations

import base64
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.examples.notebooks import FOLDER, HASH, NAMES, code_cells, code_hash, read, run_here, run_in_kernel

SMALL = {
    "own_units": {"N_UNITS": 90, "MINUTES": 0.5, "EPOCHS": 2, "SEEDS": 1},
    "own_features": {"N_CELLS": 200, "SEEDS": 2, "HIDDEN": 4, "EPOCHS": 2},
    "transfer_grid": {"MINUTES": 0.3, "N_UNITS": 8, "EPOCHS": 1, "KINDS": ("vitro_tonic", "vivo_theta", "vivo_gamma"), "LENGTH": 64},
    "hyperparameter_grid": {"N_CELLS": 200, "SEEDS": 2, "HIDDEN": 4, "EPOCHS": 2},
    "published_checkpoint": {"WIDTH": 2, "N_UNITS": 12},
}  # fmt: skip
PATHS = re.compile(r"/(home|tmp|work|usr|opt|Users|root)/")
MAX_BYTES = 600_000  # of a notebook with its figures
pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder next to a link to the repository, as for a notebook in ``examples/``."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "tests").symlink_to(FOLDER.parent / "tests")
    monkeypatch.chdir(tmp_path / "examples")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    plt.close("all")


def test_every_notebook_has_small_sizes_and_is_listed():
    assert set(SMALL) == set(NAMES)
    listed, linked = ((FOLDER.parent / page).read_text() for page in ("docs/examples.md", "README.md"))
    assert all(f"examples/{name}\n" in listed and f"examples/{name}.ipynb" in linked for name in NAMES)


def test_units_get_an_embedding_and_labels(folder):
    values = run_here("own_units", SMALL["own_units"])
    assert values["embedding"].shape == (90, 8) and len(values["scores"]) == 5
    assert len(values["answer"]) == 60 and set(values["answer"]) <= set(values["TYPES"])
    np.testing.assert_allclose(values["probability"].sum(axis=1), 1, atol=1e-6)
    assert values["right"].mean() > 0.6
    assert (folder / "examples" / "my_units" / "config.json").exists()


@pytest.mark.slow
def test_features_get_sets_of_subclasses(folder):
    values = run_here("own_features", SMALL["own_features"])
    assert values["sets"].shape == (60, 4) and values["covered"].mean() > 0.75
    np.testing.assert_allclose(values["attention"].sum(axis=1), 1, atol=1e-5)
    assert any("input_resistance" in message for message in values["matched"].messages)


@pytest.mark.slow
def test_recordings_get_a_transfer_grid(folder):
    values = run_here("transfer_grid", SMALL["transfer_grid"])
    for grid in values["grids"].values():
        assert {score: scores.shape for score, scores in grid.items() if score in values["SCORES"]} == dict.fromkeys(
            values["SCORES"], (3, 3)
        )
    assert values["generated"].shape == (4000, 8) and set(np.unique(values["generated"])) <= {0, 1}


@pytest.mark.slow
def test_levels_are_chosen_by_validation(folder):
    values = run_here("hyperparameter_grid", SMALL["hyperparameter_grid"])
    assert len(values["all_runs"]) == 2 * 16 and values["model"].n_networks_ == 2
    chosen = values["chosen"].run_results.best_score
    np.testing.assert_array_equal(chosen, values["result"].run_results.best_score[values["chosen_runs"]])


@pytest.mark.slow
def test_a_file_of_the_published_layout_is_read(folder):
    values = run_here("published_checkpoint", SMALL["published_checkpoint"])
    assert values["STAND_IN"] and len(values["state"]) == 786
    assert values["embedding"].shape == (12, 30) and np.isfinite(values["embedding"]).all()
    np.testing.assert_array_equal(values["again"].embed(values["units"]), values["embedding"])


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_are_those_of_the_code(name):
    notebook = read(name)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if HASH not in notebook["metadata"]:  # never executed
        assert not any(cell["outputs"] for cell in cells)
        return
    assert notebook["metadata"][HASH] == code_hash(notebook), f"run python -m tests.examples.notebooks {name}"
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert all(output["name"] == "stdout" for output in outputs if output["output_type"] == "stream")
    images = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) >= 2 and all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MAX_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_hold_no_path_of_a_machine(name):
    notebook = read(name)
    for cell in notebook["cells"]:
        texts = ["".join(cell["source"])]
        for output in cell.get("outputs", []):
            texts += ["".join(output.get("text", ""))]
            texts += ["".join(text) for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
        assert not any(PATHS.search(text) for text in texts)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_begin_with_a_title_and_sizes(name):
    cells = read(name)["cells"]
    assert "".join(cells[0]["source"]).startswith("# ")
    assert cells[1]["metadata"].get("tags") == ["parameters"]
    assert set(SMALL[name]) <= set(re.findall(r"^(\w+) = ", code_cells({"cells": cells})[0], flags=re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebooks_run_in_a_kernel(name, tmp_path):
    notebook = read(name)
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"] = (
        "".join(first["source"]) + "\n" + "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
    )
    executed = run_in_kernel(notebook, tmp_path)
    assert all(cell["execution_count"] for cell in executed["cells"] if cell["cell_type"] == "code")
