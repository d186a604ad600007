"""The commands that share a model: push, fetch and export."""

import shutil

import numpy as np
import pytest

import jaxephys
from jaxephys.cli import main
from jaxephys.cli.share import score_rows
from tests.checkpoints.write_fixtures import HERE
from tests.models.hub_server import HubServer

RUN = HERE / "0.1.0" / "run_folder"


@pytest.fixture
def server():
    server = HubServer()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_of_an_experiment_is_pushed_with_its_scores_and_fetched(server, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    words = ["push", str(RUN), "some/interneurons", "--license", "cc0-1.0", "--not-intended-use", "Patients."]
    assert main([*words, "--endpoint", server.endpoint]) == 0
    assert f"-> {server.endpoint}/some/interneurons/commit/" in capsys.readouterr().out
    card = server.repositories["some/interneurons"][-1]["README.md"].decode()
    assert "| attention |" in card and 'license: "cc0-1.0"' in card and "**Not intended.** Patients." in card
    out = tmp_path / "copy"
    assert main(["fetch", "some/interneurons", str(out), "--endpoint", server.endpoint]) == 0
    assert f"-> {out}" in capsys.readouterr().out
    assert jaxephys.load(out).describe() == jaxephys.load(RUN).describe()


def test_an_error_of_the_hub_ends_the_command_with_one_sentence(server, capsys):
    assert main(["fetch", "some/missing", "--endpoint", server.endpoint]) == 2
    assert "error: there is no repository some/missing" in capsys.readouterr().err


def test_scores_have_intervals_where_the_numbers_of_rows_are_stored(tmp_path):
    shutil.copy(RUN / "scores.csv", tmp_path)
    header, *lines = (RUN / "scores.csv").read_text().splitlines()
    seed = header.split(",").index("seed")
    more = [",".join([*(fields := line.split(","))[:seed], "1", *fields[seed + 1 :]]) for line in lines]
    (tmp_path / "scores.csv").write_text("\n".join([header, *lines, *more]) + "\n")
    rows = score_rows(tmp_path)
    assert {"model", "trained on", "tested on", "accuracy"} <= set(rows[0])
    assert "±" in rows[0]["accuracy"] and "[" not in rows[0]["accuracy"]
    np.savez(tmp_path / "predictions.npz", part=np.zeros((2, 100), np.int8))
    assert "[" in score_rows(tmp_path / "model")[0]["accuracy"]
    assert score_rows(tmp_path / "other" / "model") == []


def test_a_model_is_exported_as_arrays(capsys, tmp_path):
    out = tmp_path / "arrays"
    assert main(["export", str(HERE / "schema-2" / "hippie"), str(out), "--format", "numpy"]) == 0
    printed = capsys.readouterr().out
    assert f"-> {out}" in printed and "input wave (n, 50): prepared curve" in printed
    assert {path.name for path in out.iterdir()} == {"params.npz", "signature.json", "README.md"}
