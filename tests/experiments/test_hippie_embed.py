"""The experiment hippie_embed with a PyTorch checkpoint, and without the published weights."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from data_prep.units.simulate import simulate_units
from experiments import hippie_embed
from experiments.command_line import main, parse
from jaxephys.hippie.estimator import Hippie
from jaxephys.schemas.unit_table import UnitTable
from tests.experiments.command import only_run
from tests.hippie.test_estimator import card_checkpoint
from tests.hippie.test_torch_checkpoint import TINY


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("one", "two", "three")):
        simulate_units(30, 3, seed=seed).with_technology("neuropixels").write(folder / name)
    return folder


def run_experiment(monkeypatch, folder, *arguments):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["hippie_embed", *map(str, arguments)])
    main("hippie_embed", hippie_embed.__doc__, hippie_embed.PRESETS, hippie_embed.run)
    return only_run(folder)


def test_units_are_embedded_by_a_pytorch_checkpoint(data, tmp_path, monkeypatch):
    checkpoint = card_checkpoint(tmp_path)
    options = ("--datasets-root", data, "--checkpoint", checkpoint, "--output", tmp_path / "e.npz", "--no-umap")
    run = run_experiment(monkeypatch, tmp_path, *options, "--datasets", "one", "three")
    with np.load(tmp_path / "e.npz") as file:
        made = dict(file)
    units = [UnitTable.read(data / name) for name in ("one", "three")]
    expected = np.concatenate([Hippie.from_checkpoint(checkpoint).embed(table) for table in units])
    np.testing.assert_allclose(made["embeddings"], expected, atol=1e-5)
    assert made["dataset_ids"].tolist() == ["one"] * 30 + ["three"] * 30 and made["embeddings"].shape[1] == TINY.latent
    assert (run / "pca_coords.npz").exists() and (run / "figures" / "pca_by_dataset.png").exists()
    report = (run / "report.md").read_text()
    assert "the weights of hippie_techcond_v1.ckpt (1 network of" in report and not (run / "model").exists()


def test_the_published_weights_are_the_default_and_are_not_downloaded_without_permission(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SystemExit, match="2"):
        run_experiment(monkeypatch, tmp_path, "--datasets-root", data)
    message = capsys.readouterr().err
    assert "the published weights hippie_techcond_v1.ckpt of Jesusgf23/hippie are not on this machine" in message
    assert "--fetch" in message and message.count("error:") == 1


def test_the_options_have_their_published_names():
    arguments = ["--datasets-root", "d", "--checkpoint", "c.ckpt", "--output", "e.npz", "--datasets", "a", "b"]
    settings = parse("hippie_embed", "", hippie_embed.PRESETS, arguments)[1]
    assert (str(settings.checkpoint), settings.datasets, str(settings.output)) == ("c.ckpt", ("a", "b"), "e.npz")
    trained = parse("hippie_embed", "", hippie_embed.PRESETS, ["--checkpoint", "None"])[1]
    assert trained == replace(hippie_embed.PRESETS["default"], checkpoint=None)
