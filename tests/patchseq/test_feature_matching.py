"""New cells for a trained model: columns are matched by name, absent ones are missing, suspicious ones are reported."""

import argparse
import csv

import numpy as np
import pytest

import jaxephys
from jaxephys import FeatureTable, PatchSeqClassifier
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import hold_out
from jaxephys.patchseq.cli import predict
from jaxephys.patchseq.feature_matching import match_features
from jaxephys.patchseq.preprocessing import LogZScore, fit_log_z_score, fit_z_score, typical_values
from jaxephys.patchseq.task import Variant, make_data, make_run_inputs
from tests.patchseq.class_means import class_means  # noqa: F401  a fixture

FEATURES = ("tau", "ri", "width", "updown")
MIDDLE, UNIT = np.array([20.0, 150.0, 0.4, 2.0]), np.array([5.0, 40.0, 0.1, 0.5])


def make_table(values, features=FEATURES, **known) -> FeatureTable:
    values = np.asarray(values, np.float32)
    cell = np.array([f"c{i}" for i in range(len(values))])
    return FeatureTable(values, ("one",), (values.shape[1],), tuple(features), cell, **known)


def matched(table: FeatureTable):
    return match_features(table, ("passive", "spike"), (2, 2), FEATURES, MIDDLE, UNIT)


def usual(cells: int = 8) -> np.ndarray:
    return MIDDLE + UNIT * np.random.default_rng(0).normal(size=(cells, 4))


def test_columns_are_put_in_the_order_of_the_model_by_name():
    values = usual()
    ours = matched(make_table(values[:, [2, 0, 3, 1]], ("width", "tau", "updown", "ri")))
    np.testing.assert_allclose(ours.table.values, values, rtol=1e-6)
    assert ours.messages == [] and ours.table.families == ("passive", "spike")


def test_absent_features_are_missing_and_unused_features_are_reported():
    values = usual()
    ours = matched(make_table(np.c_[values[:, :3], np.ones(8)], ("tau", "ri", "width", "depth")))
    assert np.isnan(ours.table.values[:, 3]).all() and not np.isnan(ours.table.values[:, :3]).any()
    assert ours.messages == [
        "1 of 4 features are not in the table and count as missing: updown",
        "1 features of the table are not read by the model: depth",
    ]


def test_a_cell_without_any_feature_is_left_out_by_name():
    values = np.c_[usual(), np.ones(8)]
    values[3, :4] = np.nan
    ours = matched(make_table(values, (*FEATURES, "depth")))
    assert len(ours.table) == 7 and "c3" not in ours.table.cell
    assert ours.messages[-1] == "1 cells have no feature that the model reads and are left out: c3"


@pytest.mark.parametrize(
    "column, factor, hint", [(0, 1e-3, "factor of 1e-3"), (2, 1e3, "factor of 1e3"), (1, 40, "check it")]
)
def test_another_unit_is_noticed(column, factor, hint):
    values = usual()
    values[:, column] = factor * np.abs(values[:, column])
    far = np.array([1.0, 1.0, 1.0, 1.0]) * UNIT / 4  # narrow classes: 20 ms in s is 16 deviations away
    (sentence,) = match_features(make_table(values), ("all",), (4,), FEATURES, MIDDLE, far).messages
    assert sentence.startswith(FEATURES[column]) and hint in sentence


def test_a_table_of_something_else_is_refused():
    with pytest.raises(ValueError, match="none of the 4 features of the model: it has a, b, the model reads tau, ri"):
        matched(make_table(np.ones((3, 2)), ("a", "b")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two classes that differ in the width only."""
    rng = np.random.default_rng(1)
    label = np.array(["Pvalb", "Sst"])[np.arange(60) % 2]
    values = MIDDLE + UNIT * rng.normal(size=(60, 4))
    values[:, 2] += 0.5 * (label == "Sst")
    table = FeatureTable.from_arrays(values, {"passive": FEATURES[:2], "spike": FEATURES[2:]}, label)
    small = {"seeds": 2, "hidden": 4, "max_epochs": 25, "batch_size": 16, "learning_rate": 0.02, "progress": False}
    folder = tmp_path_factory.mktemp("model") / "model"
    PatchSeqClassifier(**small).fit(table).save(folder)
    return folder, values, label


def predict_cells(model, table, out, coverage=0.9, label=None):
    return predict(argparse.Namespace(model=model, table=table, out=out, coverage=coverage, label=label))


def test_predict_writes_one_row_per_cell_and_reports_changes(model, tmp_path):
    folder, values, label = model
    order = [3, 2, 0]  # without the resistance
    table = make_table(values[:, order], [FEATURES[i] for i in order], about={"subclass4": label})
    table.save(tmp_path / "table.npz")
    printed = predict_cells(str(folder), str(tmp_path), str(tmp_path / "predictions.csv"), label="subclass4")
    assert "1 of 4 features are not in the table and count as missing: ri" in printed
    assert "against subclass4 (60 cells): macro-F1" in printed
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == [f"c{i}" for i in range(60)]
    assert np.mean([row["prediction"] == name for row, name in zip(rows, label, strict=True)]) > 0.8
    for row in rows:
        assert float(row["p_Pvalb"]) + float(row["p_Sst"]) == pytest.approx(1, abs=1e-4)
        members = set(row["set_0.9"].split("|"))
        assert row["prediction"] in members <= {"Pvalb", "Sst"} and row["unusual"] in ("0", "1")


def test_predict_needs_a_model_and_a_table(model, tmp_path):
    with pytest.raises(ValueError, match="holds no saved model"):
        predict_cells(str(tmp_path), str(tmp_path), "out.csv")
    with pytest.raises(ValueError, match="there is no table"):
        predict_cells(str(model[0]), str(tmp_path / "nothing.npz"), "out.csv")


def test_typical_values_of_logarithms_are_in_the_unit_of_the_feature():
    values = np.random.default_rng(0).lognormal(3.0, 0.1, (500, 1)) ** [[4.0, 1.0]]
    scale, plain = fit_log_z_score(values), fit_z_score(values)
    assert (scale.floor > 0).tolist() == [True, False]
    for ours, expected in zip(typical_values(scale), typical_values(plain), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0.15)


def test_a_model_of_logarithms_is_saved_and_matches_features(class_means, tmp_path):  # noqa: F811
    """As runs of the published preset: the resistance is skewed, so that its median is stored as a logarithm."""
    values = usual(90)
    values[:, 1] = 150 * np.exp(np.random.default_rng(1).normal(scale=0.8, size=90))
    label = np.array(["Pvalb", "Sst"])[(values[:, 1] > 150).astype(int)]
    table = FeatureTable.from_arrays(values, {"passive": FEATURES[:2], "spike": FEATURES[2:]}, label)
    grid, splits = RunGrid.cross(seed=range(2)), [hold_out(table.codes(), seed) for seed in range(2)]
    inputs = make_run_inputs(table, splits, [Variant()] * 2, [0, 1], fit_scale=fit_log_z_score)
    result = class_means.fit(None, make_data(table), inputs, grid, TrainConfig())
    model = PatchSeqClassifier(seeds=2, token=None).keep_runs(result, inputs, table, splits)
    loaded = jaxephys.load(model.save(tmp_path / "model"))
    assert isinstance(loaded.constants_.scale, LogZScore) and (loaded.constants_.scale.floor > 0).any()
    np.testing.assert_array_equal(loaded.predict_proba(table), model.predict_proba(table))
    order = [3, 1, 0, 2]
    ours = loaded.match_features(make_table(values[:, order], [FEATURES[i] for i in order]))
    assert ours.messages == []
    np.testing.assert_array_equal(loaded.predict(ours.table), model.predict(table))
    ohm = values[:, order] * [1, 1e6, 1, 1]
    (message,) = loaded.match_features(make_table(ohm, [FEATURES[i] for i in order])).messages
    assert message.startswith("ri is 1.") and "in training 1" in message and "a factor of 1e6" in message
