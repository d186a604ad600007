"""A model of each system is exported, read without its classes, and computes what the model computes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import jaxephys
from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.models.export import ExportedArray, ExportProgram, export_model, load_exported
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.unit_table import UnitTable
from tests.checkpoints.write_fixtures import FIXTURES, HERE

SAVED = HERE / "schema-2"
KINDS = ("patchseq", "hippie", "spikes")
TOLERANCE = {"rtol": 2e-4, "atol": 1e-5}


def read_inputs(kind):
    return FIXTURES[kind].read(SAVED / FIXTURES[kind].inputs)


@pytest.fixture(scope="module")
def models():
    return {kind: jaxephys.load(SAVED / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    pytest.importorskip("flatbuffers")
    path = tmp_path_factory.mktemp("exported")
    return {kind: export_model(model, path / kind) for kind, model in models.items()}


def test_a_classifier_of_features(models, folders):
    table, model, program = read_inputs("patchseq"), models["patchseq"], load_exported(folders["patchseq"])
    values = table.values.copy()
    values[0, 0] = np.nan
    cells = FeatureTable.from_arrays(values, dict(zip(table.families, table.widths, strict=True)))
    expected = {
        "probability": model.predict_proba(cells),
        "attention": model.attention(cells),
        "embedding": np.stack([model.embed(cells, network=network) for network in range(model.n_networks_)]),
    }
    for n_cells in (len(table), 3):
        found = program(values=values[:n_cells])
        for name in ("probability", "attention"):
            np.testing.assert_allclose(found[name], expected[name][:n_cells], **TOLERANCE)
        np.testing.assert_allclose(found["embedding"], expected["embedding"][:, :n_cells], **TOLERANCE)
    assert program.signature["outputs"][0]["description"] == f"classes {', '.join(model.classes_)}"


def prepare_as_documented(folder):
    """The functions of the README of an exported network."""
    functions = {}
    code = (folder / "README.md").read_text().split("## Preparation")[1].split("```python\n")[1].split("```")[0]
    exec(code, functions)
    return functions["prepare"]


def test_an_encoder_of_curves_some_of_which_are_absent(models, folders):
    units, model = read_inputs("hippie"), models["hippie"]
    raw = {name: curves.copy() for name, curves in units.raw.items()}
    raw["acg"][:3] = np.nan
    raw["wave"][2:5] = 1.0
    units = UnitTable.from_arrays(**raw, technology=units.column("technology"))
    program, prepare = load_exported(folders["hippie"]), prepare_as_documented(folders["hippie"])
    lengths = {array["name"]: int(array["shape"].split(", ")[-1]) for array in program.signature["inputs"][:-1]}
    curves = {name: prepare(raw[name], length, name == "isi") for name, length in lengths.items()}
    found = program(**curves, technology=units.technology_codes)
    for network in range(model.n_networks_):
        np.testing.assert_allclose(found["embedding"][network], model.embed(units, network=network), **TOLERANCE)
    assert found["log_variance"].shape == found["embedding"].shape


def test_a_forecast_of_spikes(models, folders):
    recording, model, program = read_inputs("spikes"), models["spikes"], load_exported(folders["spikes"])
    start, stop = recording.span("test")
    bins = recording.bits(0, stop)
    found = program(spikes=np.pad(bins, ((0, -len(bins) % model.length), (0, 0))))
    rows = slice(start - 1, stop - 1)
    np.testing.assert_allclose(found["probability"][rows], model.predict_proba(recording), **TOLERANCE)
    logits = model.forecaster_.compute_logits(recording, start, stop)
    np.testing.assert_allclose(found["logit"][:, rows], logits, **TOLERANCE)


WITHOUT_CLASSES = """
import sys, numpy as np
from jaxephys.models.export import load_exported
print(load_exported(sys.argv[1])(x=np.arange(3))["y"].tolist())
print(sorted({"patchseq", "hippie", "spikes"} & {name.split(".")[1] for name in sys.modules if name.startswith("jaxephys.")}))
"""


def test_a_program_is_read_without_the_classes_of_models(tmp_path):
    pytest.importorskip("flatbuffers")
    program = ExportProgram(lambda x: {"y": 2 * x}, [ExportedArray("x", "n", "float32", "")], [], "")
    model = SimpleNamespace(export_program=lambda: program, _saved_arrays=dict, describe=lambda: "")
    folder = export_model(model, tmp_path / "toy")
    command = [sys.executable, "-c", WITHOUT_CLASSES, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[0.0, 2.0, 4.0]", "[]"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_is_for_all_platforms_and_any_number_of_samples(folders, kind):
    program = load_exported(folders[kind]).program
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    assert all("n" in str(argument.shape) for argument in program.in_avals)


def test_every_damage_is_refused(folders, tmp_path):
    content = (folders["patchseq"] / "model.stablehlo").read_bytes()
    signature = json.loads((folders["patchseq"] / "signature.json").read_text())
    (tmp_path / "signature.json").write_text(json.dumps(signature))
    for offset in np.random.default_rng(0).choice(len(content), 5):
        damaged = content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]
        (tmp_path / "model.stablehlo").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="was damaged or changed after the export"):
            load_exported(tmp_path)
    (tmp_path / "signature.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"signature.json is damaged"):
        load_exported(tmp_path)
    with pytest.raises(CheckpointError, match=r"signature.json is missing, export it as stablehlo"):
        load_exported(tmp_path / "nowhere")


def test_wrong_inputs_are_one_sentence(folders):
    program = load_exported(folders["spikes"])
    with pytest.raises(ValueError, match="the inputs are missing: give spikes"):
        program()
    with pytest.raises(ValueError, match=r"the inputs have the shapes spikes \(3, 2\): give spikes \("):
        program(spikes=np.zeros((3, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_for_numpy_are_those_of_the_model(models, kind, tmp_path):
    folder = export_model(models[kind], tmp_path / "arrays", "numpy")
    with np.load(SAVED / kind / "params.npz") as saved, np.load(folder / "params.npz") as exported:
        for name in exported.files:
            assert f"| `{name}` |" in (folder / "README.md").read_text()
        if kind != "hippie":  # whose layout has changed since
            assert set(saved.files) <= set(exported.files)
            np.testing.assert_array_equal(saved[saved.files[0]], exported[saved.files[0]])
    with pytest.raises(CheckpointError, match=r"model.stablehlo is missing"):
        load_exported(folder)
    with pytest.raises(ValueError, match="exists: choose another name"):
        export_model(models[kind], folder)


def test_an_unknown_format_and_a_missing_package_are_one_sentence(models, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no format 'onnx': choose from stablehlo, numpy"):
        export_model(models["patchseq"], tmp_path / "model", "onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    program = ExportProgram(lambda x: {"y": x}, [ExportedArray("x", "n", "float32", "")], [], "")
    model = SimpleNamespace(export_program=lambda: program, _saved_arrays=dict, describe=lambda: "")
    with pytest.raises(ValueError, match=r'pip install "jaxephys\[export\]"'):
        export_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
