"""Every command and every line of Python in the README, run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import jaxephys
from tests.experiments.command import ROOT, only_run, run

README = (ROOT / "README.md").read_text()
TINY = ("--cells", "400", "--hidden", "8", "--max-epochs", "2", "--seeds", "2")
# The benchmarks need PyTorch and an idle machine; the data commands run in their order in tests/data_prep, those of the three
# systems on small data in tests/experiments, verbs with a model in the tests of its system.
ELSEWHERE = (
    "python -m benchmarks.", "python -m data_prep", "python -m experiments.patchseq", "python -m experiments.hippie",
    "python -m experiments.spikes", *(f"python -m jaxephys {verb}" for verb in (
        "predict", "convert", "embed", "impute", "counterfactual", "traverse", "validate", "generate"))
)  # fmt: skip


def commands() -> list[str]:
    """The lines ``python -m ...`` of the README's blocks and sentences, without their comments."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for _, block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(python -m [^`]*)`", README)
    return sorted({line for line in lines if line.startswith("python -m ") and not line.startswith(ELSEWHERE)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    assert run("experiments.quickstart", *TINY, cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize("command", commands())
def test_command(command, finished, tmp_path):
    made = only_run(finished)
    words = shlex.split(command.replace("runs/quickstart/<folder>", str(made)).replace("<folder>", str(made)))[2:]
    trains = words[0] == "experiments.quickstart" and not {"--help", "--resume"} & set(words)
    preset = words[1:2] if len(words) > 1 and not words[1].startswith("-") else []
    words = [words[0], *preset, *words[1 + len(preset) :], *(TINY if trains else ())]
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_commands_are_found():
    assert len(commands()) >= 6


def test_the_notebook_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    rng = np.random.default_rng(0)
    y = np.repeat(["Pvalb", "Sst"], 20)
    X = rng.normal(size=(40, 3, 4)) + (y == "Sst")[:, None, None]
    small = code.replace("seeds=10", "seeds=2, hidden=4, max_epochs=2, progress=False")
    assert small != code
    exec(small, {"X": X, "y": y, "X_new": X[:5]})


def test_the_checkpoint_lines(finished):
    from jaxephys.engine.checkpoint import pick

    folder = only_run(finished)
    assert jaxephys.load(folder).classes_.size == 5
    assert pick(folder / "checkpoints", run=3).best["params"]["encoder"]["kernel"].ndim == 3


def test_the_picture_exists():
    for link in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / link).is_file()
