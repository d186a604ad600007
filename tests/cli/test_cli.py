"""The command line: help, one sentence for every error, and the experiments of a checkout and of an installed package."""

import subprocess
import sys
import tomllib
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from jaxephys.cli import experiments, main

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "checkpoints" / "0.1.0"
COMMANDS = ("doctor", "info", "predict", "components", "convert", "validate", "embed", "impute", "counterfactual")
SHARING = ("push", "fetch", "export")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(capsys, *words) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    for command in (*COMMANDS, *SHARING, "traverse", "generate"):
        assert f"\n    {command}" in printed


@pytest.mark.parametrize("command", [*COMMANDS, *SHARING, "traverse", "generate"])
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and len(printed.split()) > 20
    assert command not in SHARING or f"example: python -m jaxephys {command} " in printed


@pytest.mark.parametrize(
    "name, words",
    [("patchseq", "2 networks of"), ("hippie", "trained on 50 units"), ("spikes", "predicts the next bin")],
)
def test_info_describes_a_saved_model(capsys, name, words):
    status, printed, _ = run(capsys, "info", FIXTURES / name)
    assert status == 0 and words in printed


def test_predict_writes_one_row_per_cell(capsys, tmp_path):
    out = tmp_path / "new" / "predictions.csv"
    status, printed, _ = run(capsys, "predict", FIXTURES / "patchseq", FIXTURES / "patchseq_cells.npz", "--out", out)
    assert status == 0 and f"-> {out}" in printed
    assert len(out.read_text().splitlines()) == 11


ERRORS = {
    "no model": (("info", "nowhere"), "nowhere holds no saved model"),
    "a model of another kind": (
        ("predict", FIXTURES / "spikes", "x"),
        "is a SpikeTransformer: give the folder of a PatchSeqClassifier",
    ),
    "no table": (("predict", FIXTURES / "patchseq", "nothing.npz"), "nothing.npz"),
    "an output folder that is a file": (
        (
            "predict",
            FIXTURES / "patchseq",
            FIXTURES / "patchseq_cells.npz",
            "--out",
            FIXTURES / "patchseq_cells.npz" / "x",
        ),
        "patchseq_cells.npz: ",
    ),
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_one_sentence(capsys, error):
    words, expected = ERRORS[error]
    status, _, printed = run(capsys, *words)
    assert status == 2
    assert printed.startswith("error: ") and expected in printed and printed.count("\n") == 1


# Console scripts and experiments.


@pytest.mark.parametrize("name", PROJECT["project"]["scripts"])
def test_the_functions_of_the_console_scripts_exist(name):
    module, function = PROJECT["project"]["scripts"][name].split(":")
    parameters = signature(getattr(import_module(module), function)).parameters.values()
    assert all(parameter.default is not parameter.empty for parameter in parameters), "a script passes no argument"


def test_the_wheel_installs_only_the_packages_that_users_import():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["jaxephys", "data_prep"]
    assert wheel["force-include"] == {"experiments": "jaxephys/bundled/experiments"}


@pytest.fixture
def restored_process(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))


@pytest.mark.usefixtures("restored_process")
@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_experiments_are_listed(capsys, arguments):
    assert experiments.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "\nquickstart " in printed and "jaxephys-experiments NAME" in printed


@pytest.mark.usefixtures("restored_process")
def test_an_unknown_experiment_is_one_sentence(capsys):
    assert experiments.main(["quickstrat"]) == 2
    assert capsys.readouterr().err == "error: there is no experiment 'quickstrat': did you mean quickstart?\n"


def test_an_installed_package_runs_its_bundled_experiments(tmp_path):
    """In an empty folder, with a package ``experiments`` of somebody else beside the bundled one."""
    package, other = tmp_path / "jaxephys" / "bundled" / "experiments", tmp_path / "empty" / "experiments"
    for folder in (package, other):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text("def list_experiments():\n    return {'hello': 'Print the arguments.'}\n")
    (package / "hello.py").write_text("import sys\nif __name__ == '__main__':\n    print('bundled', sys.argv[1:])\n")
    code = (
        "import sys; from pathlib import Path; from jaxephys.cli import experiments; "
        f"experiments.PACKAGE = Path({str(tmp_path / 'jaxephys')!r}); sys.exit(experiments.main(['hello', '--seeds', '3']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        cwd=other.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bundled ['--seeds', '3']\n"


def test_an_installation_without_experiments_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(experiments, "PACKAGE", tmp_path / "jaxephys")
    assert experiments.main(["quickstart"]) == 2
    assert "contains no experiments" in capsys.readouterr().err
