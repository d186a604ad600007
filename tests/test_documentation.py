"""Commands and Python examples of the README and the documentation, run as a user would.

All Python blocks of a page run in one namespace in their order. `prepare` makes the files and variables that a page takes for granted,
the reader's own data, and `small_models` replaces the sizes of networks that a page does not show for their own sake.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import jaxephys
from jaxephys.hippie.synthetic import make_synthetic_units
from jaxephys.patchseq.synthetic import make_synthetic_cells
from tests.data_prep import toy
from tests.experiments.command import ROOT, only_run, run

PAGES = ("README.md", "docs/install.md", "docs/checkpoints.md")
SMALL = ("--cells", "400", "--hidden", "8", "--max-epochs", "3", "--seeds", "2")  # of the preset smoke: compiled once
FIRST = "python -m experiments.quickstart smoke"  # the other commands use the folder that it writes
# Run by other tests, because they need data, a trained model, PyTorch, or network access: commands of data_prep in
# tests/data_prep, experiments in tests/experiments, commands on models in the tests of each system.
ELSEWHERE = (
    "python -m benchmarks", "python -m data_prep", "python -m pip", "python -m experiments.patchseq",
    "python -m experiments.hippie", "python -m experiments.spikes",
    *(f"python -m jaxephys {command}" for command in (
        "predict", "convert", "embed", "impute", "counterfactual", "traverse", "validate", "generate"))
)  # fmt: skip

TESTED_BELOW = (
    "README.md",
    "docs/checkpoints.md",
    "docs/engine.md",
)  # pages whose examples have a test of their own below
LONG_PAGES = ("docs/data_preparation.md", "docs/hippie.md", "docs/spikes.md")
SMALL_MODELS: dict[str, dict[str, Any]] = {
    "Hippie": {"latent": 4, "width": 2, "trunk": "dense", "seeds": 2, "max_epochs": 2},
    "PatchSeqClassifier": {"hidden": 4, "token": 4, "seeds": 2, "max_epochs": 2},
    "SpikeTransformer": {
        "network": jaxephys.NetworkOptions(width=8, window=16), "length": 64, "max_epochs": 1, "calibration_bins": 200},
}  # fmt: skip


def commands() -> list[str]:
    """Return the ``python -m ...`` lines of code blocks and inline code, without comments."""
    found = set()
    for page in PAGES:
        text = (ROOT / page).read_text()
        blocks = re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL)
        lines = [
            line.split("#")[0].strip() for language, block in blocks if not language for line in block.splitlines()
        ]
        found |= {*lines, *re.findall(r"`(python -m [^`]*)`", text)}
    return sorted(line for line in found if line.startswith("python -m ") and not line.startswith(ELSEWHERE))


def examples(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def pages_with_examples() -> list[str]:
    pages = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").glob("*.md")))]
    return [page for page in pages if examples(page)]


def prepare_first_hour() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"X": rng.normal(size=(40, 300)), "y": np.array(["Pvalb", "Sst"])[np.arange(40) % 2]}


def prepare_hippie() -> dict[str, Any]:
    units = make_synthetic_units(80)
    texts = {**units.about, "label": np.where(units.label == "fast", "PV", "SOM")}
    units = jaxephys.UnitTable(units.raw, np.array([f"unit {row}" for row in range(80)]), texts)
    units.rows(np.arange(60)).write("units")
    return {"other_units": units.rows(np.arange(60, 72)), "test_units": units.rows(np.arange(72, 80))}


def prepare_patchseq() -> dict[str, Any]:
    cells = make_synthetic_cells(80).table
    jaxephys.FeatureTable.from_arrays(
        cells.values,
        dict(zip(cells.families, cells.widths, strict=True)),
        cells.label,
        about={"subclass4": cells.label},
    ).write("table")
    frame = pandas.DataFrame(cells.values, columns=list(cells.features))
    return {"new_cells": cells.rows(np.arange(10)), "X": cells.values[:, :250], "y": cells.label, "frame": frame}


def prepare_data_preparation() -> dict[str, Any]:
    sweep = toy.square(0, 50.0)
    return {**prepare_patchseq(), "voltage": sweep.voltage, "current": sweep.current}


def prepare_spikes() -> dict[str, Any]:
    for seed, name in enumerate(("slice", "session")):
        spikes = np.random.default_rng(seed).random((3000, 4)) < 0.05
        jaxephys.Recording.from_array(spikes, name=name).write(".")
    return {}


# What the reader of a page has: files in the working folder, and variables.
PREPARE: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/first_hour.md": prepare_first_hour,
    "docs/hippie.md": prepare_hippie,
    "docs/patchseq.md": prepare_patchseq,
    "docs/data_preparation.md": prepare_data_preparation,
    "docs/spikes.md": prepare_spikes,
}


@pytest.fixture
def small_models(monkeypatch):
    """Let every fit train small networks for a few epochs."""
    for name, sizes in SMALL_MODELS.items():
        estimator = getattr(jaxephys, name)

        def small_fit(model, *arguments, fit=estimator.fit, sizes=sizes, **options):
            for parameter, value in sizes.items():
                setattr(model, parameter, value)
            return fit(model, *arguments, **options)

        monkeypatch.setattr(estimator, "fit", small_fit)


def pages_by_duration() -> list[Any]:
    pages = sorted({*pages_with_examples()} - {*TESTED_BELOW})
    return [pytest.param(page, marks=pytest.mark.slow if page in LONG_PAGES else ()) for page in pages]


@pytest.mark.parametrize("page", pages_by_duration())
def test_examples_of_the_page(page, finished, small_models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = PREPARE.get(page, dict)()
    for number, code in enumerate(examples(page), start=1):
        if "from_pretrained(" in code:  # needs the network
            continue
        code = code.replace("runs/quickstart/<folder>", str(only_run(finished)))
        exec(compile(code, f"example {number} of {page}", "exec"), values)


def test_pages_that_are_tested_separately_have_examples():
    assert {*TESTED_BELOW, *PREPARE} <= {*pages_with_examples()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    done = run(*shlex.split(FIRST)[2:], cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_first_command(finished):
    assert FIRST in commands()
    assert (only_run(finished) / "report.md").exists()


@pytest.mark.parametrize("command", sorted({*commands()} - {FIRST}))
def test_command(command, finished, tmp_path):
    made = only_run(finished)
    words = shlex.split(command.replace("runs/quickstart/<folder>", str(made)).replace("<folder>", str(made)))[2:]
    trains = words[0] == "experiments.quickstart" and not {"--help", "--resume"} & set(words)
    done = run(*words, *(SMALL if trains else ()), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_commands_are_found():
    assert len(commands()) >= 6


@pytest.mark.parametrize("system", ["PatchSeqClassifier", "Hippie", "SpikeTransformer"])
def test_first_use_of_the_readme(system, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code in examples("README.md") if system in code)
    values: dict = {}
    exec(code, values)
    if system == "PatchSeqClassifier":
        assert values["probability"].shape == (60, 2) and values["attention"].shape == (60, 12)
        assert (values["same"] == values["probability"]).all()
    elif system == "Hippie":
        assert values["embedding"].shape == (60, 6)
    else:
        assert values["probability"].shape[1] == 8
        assert {"roc_auc", "bits_per_spike"} <= set(values["scores"][0])


def test_model_of_the_engine_page():
    (code,) = examples("docs/engine.md")
    values: dict = {}
    exec(code, values)
    best = values["result"].run_results.best_score
    assert best.shape == (6,)
    assert (best[:2] < best[4:]).all(), "a large penalty biases the weights"


def test_run_folder_is_loaded_and_its_checkpoint_is_read(finished):
    from jaxephys.engine.checkpoint import restore_run

    folder = only_run(finished)
    assert jaxephys.load(folder).classes_.size == 5
    assert restore_run(folder / "checkpoints", run=3).best["params"]["encoder"]["kernel"].ndim == 3


def test_examples_of_the_page_on_checkpoints(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values: dict = {}
    for code in examples("docs/checkpoints.md"):
        exec(code.replace("runs/quickstart/<folder>", str(only_run(finished))), values)
    np.testing.assert_array_equal(values["same"], values["kernel"])
    assert values["config"]["kind"] == "PatchSeqClassifier"
    best_scores = values["runs"].best_score
    assert values["best"].training_[0]["best_score"] == best_scores.max()
    assert values["variant"].training_[0]["best_score"] == best_scores[2:4].max()
    assert values["third"].training_ == values["chosen"].training_ == values["several"].training_[1:]
    kernel = values["variables"]["params"]["encoder"]["kernel"]
    np.testing.assert_array_equal(kernel, values["third"].variables_["params"]["encoder"]["kernel"][0])
    np.testing.assert_array_equal(kernel, values["ensemble"].variables_["params"]["encoder"]["kernel"][1])


@pytest.mark.parametrize(
    "page", [*PAGES, *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").glob("*.md")))]
)
def test_local_links_exist(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#]*?)(?:#[^)]*)?\)", text):
        if link and "://" not in link and not link.startswith("mailto:"):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
