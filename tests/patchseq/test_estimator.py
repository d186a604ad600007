"""The classifier: independence of test rows, learning of a known answer, save and load. See also ``test_scikit_learn.py``."""

import os
import pickle
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from sklearn.base import clone

import jaxephys
from jaxephys import FeatureTable, PatchSeqClassifier
from jaxephys.evaluation.calibration import apply_temperature, fit_temperature
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.task import ABLATION, Variant, make_run_inputs

WIDTHS = {"isi": 3, "psth": 2}
SMALL = {
    "seeds": 2,
    "hidden": 4,
    "max_epochs": 25,
    "batch_size": 16,
    "learning_rate": 0.02,
    "families": WIDTHS,
    "progress": False,
}


def make_cells(cells: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.array(["Pvalb", "Sst", "Vip"])[np.arange(cells) % 3]
    x = rng.normal(size=(cells, 5)).astype(np.float32)
    x[:, 0] += 3 * (y == "Sst")
    x[:, 4] += 3 * (y == "Vip")
    return x, y


@pytest.fixture(scope="module")
def fitted():
    return PatchSeqClassifier(**SMALL).fit(*make_cells())


def test_separable_classes_are_learned(fitted):
    rng = np.random.default_rng(9)
    x, y = make_cells(60)
    x = x + 0.1 * rng.normal(size=x.shape).astype(np.float32)
    assert (fitted.predict(x) == y).mean() > 0.75


def test_probabilities_and_attention_sum_to_one_and_the_mean_is_over_seeds(fitted):
    x, _ = make_cells(12)
    each = fitted.predict_proba(x, per_network=True)
    assert each.shape == (2, 12, 3)
    np.testing.assert_allclose(fitted.predict_proba(x), each.mean(axis=0))
    np.testing.assert_allclose(fitted.predict_proba(x).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(fitted.attention(x).sum(axis=1), 1, atol=1e-5)


def test_what_is_loaded_predicts_bit_for_bit(fitted, tmp_path):
    x, _ = make_cells(12)
    fitted.save(tmp_path / "model")
    loaded = jaxephys.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(x), fitted.predict_proba(x))
    assert loaded.get_params() == fitted.get_params()
    with pytest.raises(ValueError, match="overwrite=True"):
        fitted.save(tmp_path / "model")


def test_a_pickled_classifier_predicts_the_same_and_trains_again(fitted):
    x, _ = make_cells(12)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(x), fitted.predict_proba(x))
    assert clone(copy).get_params() == fitted.get_params()
    again = clone(copy).fit(*make_cells())
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))


def test_a_pickled_classifier_is_trained_in_another_process_by_a_program_on_disk(tmp_path):
    """As joblib's workers do. The first process compiles, the second reads what it has compiled."""
    program = """
import pickle, sys
import jax
from jaxephys.engine import compile_cache
compile_cache.MIN_SECONDS = 0.0
model, x, y = pickle.load(open(sys.argv[1], "rb"))
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
model.fit(x, y)
print(hits.count("/jax/compilation_cache/cache_hits"), hits.count("/jax/compilation_cache/cache_misses"))
"""
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps((PatchSeqClassifier(**{**SMALL, "max_epochs": 2}), *make_cells())))
    unset = ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {
        "XDG_CACHE_HOME": str(tmp_path)
    }
    counts = []
    for _ in range(2):
        command = [sys.executable, "-c", program, str(file)]
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        counts.append(tuple(map(int, output.split())))
    (_, compiled), (read, compiled_again) = counts
    assert compiled > 0 and read >= compiled and compiled_again == 0


def damaged(folder, how: str) -> None:
    if how == "params cut short":
        path = folder / "params.npz"
        path.write_bytes(path.read_bytes()[:100])
    if how == "no params":
        (folder / "params.npz").unlink()
        shutil.rmtree(folder / "orbax")
    if how == "another kind":
        (folder / "config.json").write_text('{"kind": "Oracle"}')
    if how == "no json":
        (folder / "config.json").write_text("{")


@pytest.mark.parametrize("how", ["params cut short", "no params", "another kind", "no json"])
def test_a_damaged_model_is_one_sentence(fitted, tmp_path, how):
    fitted.save(tmp_path / "model")
    damaged(tmp_path / "model", how)
    with pytest.raises(ValueError, match="model") as caught:
        jaxephys.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_folder_of_an_unfinished_run_explains_how_to_continue(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="--resume"):
        jaxephys.load(tmp_path)


MISTAKES = {
    "head": (lambda x, y: PatchSeqClassifier("arc", **SMALL).fit(x, y), "head is 'arc'"),
    "dropout": (
        lambda x, y: PatchSeqClassifier("arcface", **SMALL, dropout=0.5).fit(x, y),
        "the ArcFace head has none",
    ),
    "weights": (lambda x, y: PatchSeqClassifier(**SMALL, class_weights="fair").fit(x, y), "class weights 'fair'"),
    "one class": (
        lambda x, y: PatchSeqClassifier(**SMALL).fit(x, np.full(len(x), "Sst")),
        "all 90 labels are 'Sst', one class: at least two classes are needed",
    ),
    "rare class": (
        lambda x, y: PatchSeqClassifier(**SMALL).fit(x, np.r_[["Lamp5"], y[1:]]),
        "class 'Lamp5' has 1 row, but 3 are needed: add some, merge it with another class or leave it out",
    ),
    "nan": (lambda x, y: PatchSeqClassifier(**SMALL).fit(np.full_like(x, np.nan), y), "has no value at all"),
    "no labels": (lambda x, y: PatchSeqClassifier(**SMALL).fit(x), "requires y to be passed"),
    "a table without labels": (
        lambda x, y: PatchSeqClassifier(**SMALL).fit(FeatureTable.from_arrays(x, WIDTHS)),
        "the table has no labels",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake):
    call, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint):
        call(*make_cells())


def test_other_families_than_in_training_are_refused(fitted):
    with pytest.raises(ValueError, match="the same families in the same order"):
        fitted.predict(FeatureTable.from_arrays(np.zeros((2, 5)), {"psth": 2, "isi": 3}))


def make_grid(values: np.ndarray, y: np.ndarray):
    table = FeatureTable.from_arrays(values, WIDTHS, y)
    layout = RaggedLayout.from_widths(table.widths)
    split = Split(np.arange(0, 60), np.arange(60, 75), np.arange(75, 90))
    variants = list(ABLATION.values())
    return table, layout, split, make_run_inputs(table, [split] * 4, variants, [0] * 4)


def test_nothing_that_is_fitted_knows_the_test_rows():
    x, y = make_cells()
    *_, inputs = make_grid(x, y)
    moved = x.copy()
    moved[75:] = 1e6
    for ours, again in zip(jax.tree.leaves(inputs), jax.tree.leaves(make_grid(moved, y)[-1]), strict=True):
        np.testing.assert_array_equal(ours, again)
    changed = x.copy()
    changed[:60] += 1
    assert not np.array_equal(make_grid(changed, y)[-1].constants.scale.median, inputs.constants.scale.median)


def test_variants_differ_in_constants_only():
    *_, inputs = make_grid(*make_cells())
    assert list(inputs.constants.switches.attention) == [False, True, True, True]
    assert list(inputs.constants.switches.arcface) == [False, False, False, True]
    assert (inputs.train.mix[:2] == 0).all()
    with pytest.raises(ValueError, match="choose one of none"):
        Variant(weights="heavy")


# Outputs besides the label.


def test_the_published_encoder_is_saved_and_loaded_as_well(tmp_path):
    x, y = make_cells(60)
    model = PatchSeqClassifier(**{**SMALL, "seeds": 1, "max_epochs": 2}, token=None).fit(x, y)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(jaxephys.load(tmp_path / "model").predict_proba(x), model.predict_proba(x))


def test_temperature_and_sets_come_from_cells_that_a_network_did_not_train_on(fitted):
    """By hand: every network's validation cells, pooled for the temperature, averaged a cell for the sets."""
    x, y = make_cells()
    codes = np.unique(y, return_inverse=True)[1]
    rows = [fitted._split(codes, seed).validation for seed in (0, 1)]
    plain = fitted._predict(x).probability
    pooled = np.concatenate([run[part] for run, part in zip(plain, rows, strict=True)])
    assert fitted.temperature_ == pytest.approx(fit_temperature(pooled, codes[np.concatenate(rows)]))
    held = np.unique(np.concatenate(rows))
    assert len(held) < len(x) and len(fitted.held_out_) == len(held)
    cooled = apply_temperature(plain, fitted.temperature_)
    want = [np.mean([cooled[run, cell] for run in (0, 1) if cell in rows[run]], axis=0) for cell in held]
    np.testing.assert_allclose(fitted.held_out_, want, atol=1e-6)
    np.testing.assert_array_equal(fitted.held_out_codes_, codes[held])


def test_sets_contain_the_truth_with_the_requested_coverage_and_grow_with_it(fitted):
    x, y = make_cells(300)
    x = x + 0.5 * np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
    codes = np.unique(y, return_inverse=True)[1]
    few, many = (fitted.predict_set(x, coverage) for coverage in (0.5, 0.9))
    assert few.sum() < many.sum() and not (few & ~many).any()
    assert many[np.arange(300), codes].mean() > 0.8


def test_the_embedding_is_of_one_network(fitted):
    x, _ = make_cells(12)
    assert fitted.embed(x).shape == (12, 2 * SMALL["hidden"])
    assert not np.allclose(fitted.embed(x, network=0), fitted.embed(x, network=1))
    with pytest.raises(ValueError, match="there is no network 2: this classifier has 2"):
        fitted.embed(x, network=2)


def test_the_score_table_has_a_row_for_the_ensemble_and_one_a_network(fitted):
    x, y = make_cells()
    rows = fitted.score_table(x, y)
    assert [row["network"] for row in rows] == ["ensemble", 0, 1]
    assert rows[0]["accuracy"] == pytest.approx((fitted.predict(x) == y).mean())
    some = y != "Vip"  # a class that is not among the cells
    assert fitted.score_table(x[some], y[some])[0]["n"] == some.sum()
