"""A failed invocation leaves no run folder; a run with results keeps its folder for --resume."""

import sys

import pytest

from experiments.command_line import main
from jaxephys.reporting.settings import Settings


def start(tmp_path, monkeypatch, run, *arguments):
    monkeypatch.setattr(sys, "argv", ["demo", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseException) as caught:
        main("demo", "A demo.", {"default": Settings(), "smoke": Settings()}, run)
    return caught.value


def raise_value_error(settings, folder):
    folder.announce_run(1)
    (folder.path / "checkpoints" / "host0" / "live").mkdir(parents=True)
    raise ValueError("there is no folder none: give --data")


def raise_key_error(settings, folder):
    raise KeyError("a defect")


def interrupt_before(settings, folder):
    raise KeyboardInterrupt


def interrupt_after(settings, folder):
    (folder.path / "checkpoints" / "host0" / "live" / "1").mkdir(parents=True)
    (folder.path / "checkpoints" / "host0" / "live" / "1" / "_METADATA").touch()
    raise KeyboardInterrupt


@pytest.mark.parametrize("run", [raise_value_error, raise_key_error, interrupt_before])
def test_a_failure_before_the_first_result_leaves_no_folder(run, tmp_path, monkeypatch, capsys):
    error = start(tmp_path, monkeypatch, run, "smoke")
    assert not list((tmp_path / "runs").rglob("*"))
    if run is raise_value_error:
        assert error.code == 2 and "error: there is no folder none" in capsys.readouterr().err
    else:
        assert isinstance(error, KeyError) or error.code == "interrupted before the first result"


def test_an_interrupted_training_keeps_its_folder(tmp_path, monkeypatch):
    error = start(tmp_path, monkeypatch, interrupt_after)
    (folder,) = (tmp_path / "runs" / "demo").iterdir()
    assert error.code == f"interrupted; continue with --resume {folder.relative_to(tmp_path)}"
    again = start(tmp_path, monkeypatch, raise_value_error, "--resume", str(folder))
    assert again.code == 2 and folder.exists(), "a resumed folder is never removed"


def test_a_folder_of_other_runs_is_kept(tmp_path, monkeypatch):
    (tmp_path / "runs" / "demo" / "default-1").mkdir(parents=True)
    start(tmp_path, monkeypatch, raise_key_error)
    assert [path.name for path in (tmp_path / "runs" / "demo").iterdir()] == ["default-1"]


@pytest.mark.parametrize("arguments", [("smok",), ("smoke", "--sedes", "3")])
def test_a_misspelt_word_leaves_nothing_at_all(arguments, tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, raise_key_error, *arguments)
    assert not list(tmp_path.iterdir())
