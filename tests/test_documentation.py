"""Commands and Python examples of the README and the documentation, run as a user would."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import jaxephys
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
