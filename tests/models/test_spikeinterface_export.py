"""A classifier of metrics is stored as SpikeInterface loads it, and labels units there as it does here."""

import json

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

import jaxephys
from jaxephys.evaluation.kernel_classifier import KernelClassifier
from jaxephys.models.hub import push_model
from jaxephys.models.spikeinterface_export import export_for_spikeinterface
from jaxephys.schemas.feature_table import FeatureTable
from tests.checkpoints.write_fixtures import HERE
from tests.models.hub_server import HubServer

pandas = pytest.importorskip("pandas")
skops = pytest.importorskip("skops.io")
NAMES = ["snr", "firing_rate", "half_width"]


@pytest.fixture(scope="module")
def metrics():
    rng = np.random.default_rng(0)
    labels = np.repeat(["good", "mua", "noise"], 20)
    values = rng.normal(size=(60, 3)) + 3 * np.eye(3)[np.repeat(range(3), 20)]
    values[5, 1] = np.nan
    return pandas.DataFrame(values, columns=NAMES), labels


@pytest.fixture(scope="module")
def exported(metrics, tmp_path_factory):
    """By name a fitted classifier, the rows that it predicts, and its folder."""
    (frame, labels), path = metrics, tmp_path_factory.mktemp("exported")
    network, cells = (
        jaxephys.load(HERE / "schema-2" / "patchseq"),
        FeatureTable.read(HERE / "schema-2" / "patchseq_cells.npz"),
    )
    classifiers = {
        "kernel": (KernelClassifier().fit(frame.to_numpy(), labels), frame),
        "scikit-learn": (make_pipeline(SimpleImputer(), LogisticRegression()).fit(frame, labels), frame),
        "network": (network, pandas.DataFrame(cells.values, columns=list(network.features_))),
    }
    return {
        name: (classifier, rows, export_for_spikeinterface(classifier, path / name, list(rows.columns)))
        for name, (classifier, rows) in classifiers.items()
    }


def load_as_spikeinterface(folder, trusted=None):
    """What ``model_based_label_units`` does with a folder, its metadata and the metrics of an analyzer."""
    (file,) = folder.glob("*.skops")
    pipeline = skops.load(file, trusted=trusted or skops.get_untrusted_types(file=file))
    info = json.loads((folder / "model_info.json").read_text())
    assert isinstance(pipeline, Pipeline)
    return pipeline, info


def label_as_spikeinterface(folder, metrics):
    pipeline, info = load_as_spikeinterface(folder)
    metrics = metrics[list(pipeline.feature_names_in_)].astype("float32")
    conversion = {int(code): name for code, name in info["label_conversion"].items()}
    codes, probability = pipeline.predict(metrics), pipeline.predict_proba(metrics)
    assert set(codes) <= set(conversion) and info["requirements"].get("spikeinterface") is None
    return [conversion[code] for code in codes], probability.max(axis=1)


@pytest.mark.parametrize("name", ["kernel", "scikit-learn", "network"])
def test_units_are_labelled_as_by_the_classifier(exported, name):
    classifier, rows, folder = exported[name]
    rows = rows.astype("float32")
    expected = classifier.predict_proba(rows if name == "scikit-learn" else rows.to_numpy())
    labels, probability = label_as_spikeinterface(folder, rows[rows.columns[::-1]].assign(isi_violations=0.0))
    assert labels == classifier.classes_[expected.argmax(axis=1)].tolist()
    assert np.ptp(probability) > 1e-3 and (name == "network" or len(set(labels)) == 3)
    np.testing.assert_allclose(probability, expected.max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("name", ["kernel", "scikit-learn", "network"])
def test_the_card_names_exactly_the_types_that_must_be_trusted(exported, name):
    folder = exported[name][2]
    pipeline, info = load_as_spikeinterface(
        folder, trusted=json.loads((folder / "model_info.json").read_text())["trusted"]
    )
    assert json.dumps(info["trusted"]) in (folder / "README.md").read_text()
    assert all(kind.startswith(("jaxephys.", "numpy.")) for kind in info["trusted"])
    assert pipeline.classes_.tolist() == list(range(len(info["label_conversion"])))
    with pytest.raises(Exception, match="jaxephys"):
        load_as_spikeinterface(folder, trusted=["numpy.dtype"])


def test_a_model_that_has_predicted_is_stored_without_its_compiled_form(exported, tmp_path):
    classifier, rows, folder = exported["network"]
    pipeline, _ = load_as_spikeinterface(folder)
    rows = rows.to_numpy(np.float32)
    before = pipeline.predict_proba(rows)
    skops.dump(pipeline, tmp_path / "again.skops")
    again = skops.load(tmp_path / "again.skops", trusted=skops.get_untrusted_types(file=tmp_path / "again.skops"))
    np.testing.assert_array_equal(again.predict_proba(rows), before)
    np.testing.assert_allclose(before, classifier.predict_proba(rows), rtol=1e-5)


def test_labels_and_metadata_are_those_given(exported, tmp_path):
    classifier = exported["kernel"][0]
    params = {"quality_metric_params": {"metric_names": ["snr"], "metric_params": {"snr": {"peak_sign": "neg"}}}}
    about = {"license": "mit", "intended_use": "Neuropixels in mice."}
    folder = export_for_spikeinterface(
        classifier, tmp_path / "model", NAMES, ["SUA", "MUA", "noise"], metric_params=params, about=about
    )
    info = json.loads((folder / "model_info.json").read_text())
    assert info["label_conversion"] == {"0": "SUA", "1": "MUA", "2": "noise"} and info["metric_params"] == params
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and 'license: "mit"\n---' in card and "Neuropixels in mice." in card


def test_what_does_not_fit_is_one_sentence(exported, tmp_path):
    classifier, _, folder = exported["kernel"]
    cases = [
        ((classifier, folder, NAMES), "exists: choose another name"),
        ((classifier, tmp_path / "a"), "without names of columns: give feature_names"),
        ((classifier, tmp_path / "a", NAMES, ["good"]), "1 labels do not fit 3 classes"),
        (
            (classifier, tmp_path / "a", ["snr", "snr", "snr"]),
            "3 names do not fit 3 columns: give one for each column, each once",
        ),
        ((exported["scikit-learn"][0], tmp_path / "a", ["snr"]), "1 names do not fit 3 columns"),
    ]
    for arguments, expected in cases:
        with pytest.raises(ValueError, match=expected):
            export_for_spikeinterface(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_uploaded_as_it_is_and_a_damaged_one_is_refused(exported, tmp_path):
    server, folder = HubServer(), exported["kernel"][2]
    push_model(folder, "some/curation", endpoint=server.endpoint)
    assert server.repositories["some/curation"][-1] == {path.name: path.read_bytes() for path in folder.iterdir()}
    info = json.loads((folder / "model_info.json").read_text())
    (tmp_path / "model_info.json").write_text(json.dumps(info))
    (tmp_path / "model.skops").write_bytes((folder / "model.skops").read_bytes() + b"?")
    with pytest.raises(ValueError, match=r"model.skops was damaged or changed after the export"):
        push_model(tmp_path, "some/curation", endpoint=server.endpoint)
    server.shutdown()
    server.server_close()


def test_the_real_package_labels_units(exported, metrics):
    curation = pytest.importorskip("spikeinterface.curation")
    core = pytest.importorskip("spikeinterface.core")
    recording, sorting = core.generate_ground_truth_recording(durations=[5], num_channels=4, num_units=6, seed=0)
    analyzer = core.create_sorting_analyzer(sorting, recording, format="memory")
    analyzer.compute(["random_spikes", "noise_levels", "templates"])
    analyzer.compute("quality_metrics", metric_names=["snr", "firing_rate"])
    analyzer.compute("template_metrics")
    classifier = KernelClassifier().fit(metrics[0][["snr", "firing_rate"]].to_numpy(), metrics[1])
    folder = export_for_spikeinterface(classifier, exported["kernel"][2].parent / "two", ["snr", "firing_rate"])
    labels = curation.model_based_label_units(analyzer, model_folder=folder, trust_model=True)
    values = analyzer.get_metrics_extension_data()[["snr", "firing_rate"]].to_numpy(np.float32)
    assert labels["prediction"].tolist() == classifier.predict(values).tolist()
    np.testing.assert_allclose(labels["probability"], classifier.predict_proba(values).max(axis=1), rtol=1e-5)
