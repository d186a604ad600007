"""The verb generate: a file of spikes, and how far they lie from the test bins."""

import argparse

import numpy as np
import pytest

from jaxephys.spikes import command
from tests.spikes.planted import planted

RECORDING = planted(0)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("spikes")
    model.save(place / "model")
    splits, units = RECORDING.splits, RECORDING.units
    np.savez(
        place / "planted.npz",
        schema="jaxephys spikes 1",
        name=RECORDING.name,
        domain="",
        packed=RECORDING.packed,
        units=units,
        unit_id=RECORDING.unit_id,
        bin_ms=1.0,
        splits=splits,
        split_sha256=RECORDING.sha256,
    )
    return place


def called(*words):
    parser = argparse.ArgumentParser()
    command.add_verbs(parser.add_subparsers())
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.call(arguments)


def test_generate_writes_spikes_and_says_how_true_they_are(folder):
    out = folder / "new" / "drawn.npz"
    said = called("generate", folder / "model", folder / "planted.npz", "--bins", 400, "--out", out)
    with np.load(out) as file:
        assert file["packed"].shape == (400, 1) and int(file["units"]) == 6
        assert np.unpackbits(file["packed"], axis=1, bitorder="little").sum() > 0
    lines = said.splitlines()
    assert "leak test at 6 times: causal" in said and lines[-1] == f"-> {out}"
    assert {line.split()[0] for line in lines} >= {"rate", "intervals", "cv2", "autocorrelation", "population_coupling"}


def test_another_kind_of_model_is_refused(folder, monkeypatch):
    monkeypatch.setattr(command, "load", lambda path: object())
    with pytest.raises(ValueError, match="is a object: generate needs a SpikeTransformer"):
        called("generate", folder / "model", folder / "planted.npz")
