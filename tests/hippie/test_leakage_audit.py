"""The audit: every kind of leak is planted and found, and a clean table passes. And the verb that prints it."""

import sys

import numpy as np
import pytest

from data_prep.units.simulate import simulate_units
from data_prep.units.table import write_units
from jaxephys.__main__ import main
from jaxephys.hippie.leakage_audit import audit, copies, folds_of, row_position, rows, shuffled_labels, siblings
from jaxephys.schemas.unit_table import UnitTable

COUNT, FOLDS = 120, 4


def make_units(codes=None, *, seed=0, **about):
    """Two classes with different waveforms, in random order and in random folds."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(COUNT) % 2) if codes is None else codes
    time = np.linspace(-1, 1, 30)
    width = 0.1 + 0.05 * codes + 0.02 * rng.normal(size=COUNT)
    wave = -np.exp(-((time / width[:, None]) ** 2)) + 0.02 * rng.normal(size=(COUNT, 30))
    isi = rng.poisson(4.0, size=(COUNT, 20)) + 1.0
    fold = rng.permutation(np.arange(COUNT) % FOLDS).astype(str)
    return UnitTable.of(wave=wave, isi=isi, label=np.array(["PV", "SOM"])[codes], fold=fold, **about)


def parts(units):
    chosen, fold = folds_of(units, FOLDS, 0)
    return units.rows(chosen), units.codes()[chosen], fold


def severities(findings):
    return [finding.severity for finding in findings]


def changed(units, **raw):
    return UnitTable({**units.raw, **raw}, units.unit, units.about)


@pytest.fixture(scope="module")
def units():
    return make_units()


def test_a_clean_table_passes_and_every_check_says_something(units):
    found = audit(units, shuffles=4)
    assert set(severities(found)) <= {"ok", "note"}
    assert {finding.check for finding in found} == {"row position", "shuffled labels", "copies", "siblings", "rows"}
    assert str(found[0]).startswith("ok       row position: the number of the row alone reaches 0.")


# Row position.


def test_rows_sorted_by_class_are_told():
    units, codes, fold = parts(make_units(np.repeat([0, 1], COUNT // 2)))
    (told,) = row_position(units, np.zeros((COUNT, 1)), codes, fold)
    assert told.severity == "warning" and "sorted by class" in told.text
    assert float(told.text.split("reaches ")[1][:5]) > 0.9


def test_a_row_index_among_the_columns_is_a_leak_and_a_constant_is_none(units):
    index = np.arange(COUNT, dtype=np.float32)[:, None]
    wave = np.c_[units.raw["wave"][:, :3], -2 * index + 5, np.ones_like(index), units.raw["wave"][:, 3:]]
    own, codes, fold = parts(changed(units, wave=wave))
    found = list(row_position(own, np.c_[np.random.default_rng(0).normal(size=(COUNT, 2)), index], codes, fold))
    assert severities(found) == ["ok", "leak", "leak"]
    assert "column 3 of wave" in found[1].text and "column 2 of features" in found[2].text


# Shuffled labels.


def told_of_labels(units, features):
    (found,) = [one for one in audit(units, features, shuffles=4) if one.check == "shuffled labels"]
    return found


def test_features_that_have_seen_the_labels_of_test_units_are_caught(units):
    noise = np.random.default_rng(1).normal(size=(COUNT, 3))
    assert told_of_labels(units, lambda codes, train: noise).severity == "ok"

    def blind(codes, train):
        """Supervised, but on training rows."""
        return np.c_[noise, np.where(np.isin(np.arange(COUNT), train), codes, 0.5)]

    def leaking(codes, train):
        return np.c_[noise, codes]

    assert told_of_labels(units, leaking).severity == "leak"
    assert "features know the labels of test units" in told_of_labels(units, leaking).text
    assert told_of_labels(units, blind).severity == "ok"


def test_chance_is_that_of_the_classes_that_there_are():
    _, codes, fold = parts(make_units())
    three = np.random.default_rng(0).permutation(np.arange(COUNT) % 3)
    values = np.random.default_rng(1).normal(size=(COUNT, 2))
    for labels, chance in ((codes, "0.500"), (three, "0.333")):
        (found,) = shuffled_labels(lambda codes, train: values, labels, fold, _nearest, 3, 0)
        assert f"(chance {chance})" in found.text


def _nearest():
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1)


# Copies.


def across(units):
    """Two rows of different folds, two of one fold."""
    fold = units.fold
    return (0, int(np.flatnonzero(fold != fold[0])[0])), (0, int(np.flatnonzero(fold == fold[0])[1]))


def copy_row(units, source, target, scale=1.0, names=("wave", "isi")):
    raw = {name: units.raw[name].copy() for name in names}
    for values in raw.values():
        values[target] = scale * values[source]
    return parts(changed(units, **raw))


def test_a_unit_in_two_folds_is_a_leak_on_whatever_scale(units):
    apart, together = across(units)
    own, _, fold = copy_row(units, *apart, scale=3.0)
    leak = next(copies(own, fold))
    assert leak.severity == "leak" and set(leak.units) == {str(units.unit[row]) for row in apart}
    own, _, fold = copy_row(units, *together)
    assert severities(copies(own, fold)) == ["ok"], "two copies in one fold tell the test nothing"


def test_one_curve_alike_is_a_warning(units):
    own, _, fold = copy_row(units, *across(units)[0], names=("wave",))
    found = list(copies(own, fold))
    assert severities(found) == ["ok", "warning"]
    assert found[1].text.startswith("the wave of 2 units")


# Siblings and rows.


def test_subjects_on_both_sides_of_a_fold_are_told(units):
    fold = units.fold
    subject = np.where(fold < 2, "left", "right")
    mixed = np.where(np.arange(COUNT) % 2, "odd", "even")
    own, _, folds = parts(make_units(subject=subject, session=mixed))
    found = {finding.text.split(" stand")[0]: finding for finding in siblings(own, folds // 2)}
    assert [one.severity for one in found.values()] == ["ok", "warning"]
    assert "2 of 2 sessions" in found and f"({COUNT} units)" in found["2 of 2 sessions"].text
    assert severities(siblings(units, fold)) == ["note", "note"]


def test_empty_constant_and_misaligned_rows_are_counted(units):
    wave, isi = units.raw["wave"].copy(), units.raw["isi"].copy()
    wave[3], isi[[5, 6]] = np.nan, 4.0
    shifted = np.random.default_rng(0).choice(COUNT, 50, replace=False)
    wave[shifted] = np.roll(wave[shifted], 6, axis=1)
    texts = [finding.text for finding in rows(changed(units, wave=wave, isi=isi))]
    assert "wave is missing in 1 of 120 units" in texts and "isi is constant in 2 of 120 units" in texts
    assert "no unit has acg" in texts
    (aligned,) = [text for text in texts if "misaligned" in text]
    assert 40 <= int(aligned.split(", ")[1].split()[0]) <= 70


# Folds, and the verb.


def test_folds_are_those_of_the_table_or_drawn_for_classes_that_fill_them(units):
    chosen, fold = folds_of(units, 3, 0)
    np.testing.assert_array_equal(fold, units.fold)
    label = units.label.copy()
    label[:2], label[2:4] = "VIP", ""
    bare = UnitTable(units.raw, units.unit, {"label": label})
    chosen, fold = folds_of(bare, 3, 0)
    assert chosen[0] == 4 and len(np.unique(fold)) == 3
    with pytest.raises(ValueError, match="fewer than two classes have 90 units"):
        folds_of(bare, 90, 0)


def run_verb(monkeypatch, capsys, folder):
    monkeypatch.setattr(sys, "argv", ["jaxephys", "validate", str(folder)])
    code = main()
    return code, capsys.readouterr()


def test_the_verb_prints_what_it_found_and_fails_on_a_leak(tmp_path, monkeypatch, capsys):
    write_units(simulate_units(100, 5, seed=0), tmp_path)
    code, said = run_verb(monkeypatch, capsys, tmp_path)
    assert code == 0 and "shuffled labels" in said.out and "of 5 subjects stand in several folds" in said.out
    units = UnitTable.read(tmp_path)
    np.savetxt(tmp_path / "wave.csv", units.raw["wave"])
    folder = tmp_path / "csv"
    folder.mkdir()
    header = ",".join(map(str, range(units.raw["wave"].shape[1] + 1)))
    table = np.c_[np.arange(len(units)), units.raw["wave"]]
    np.savetxt(folder / "waveforms.csv", table, delimiter=",", header=header, comments="")
    (folder / "labels.csv").write_text("label\n" + "\n".join(units.label) + "\n")
    code, said = run_verb(monkeypatch, capsys, folder)
    assert code == 2 and "leak     row position: column 0 of wave" in said.out
    assert "checks found a leak" in said.err
