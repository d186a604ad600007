"""The leakage audit: every kind of leak is constructed and found, a clean table passes, and the command prints the findings."""

import sys

import numpy as np
import pytest

from data_prep.units.simulate import simulate_units
from jaxephys.cli import main
from jaxephys.hippie.benchmark import assign_folds
from jaxephys.hippie.leakage_audit import (
    audit,
    check_copies,
    check_groups,
    check_row_position,
    check_rows,
    check_shuffled_labels,
)
from jaxephys.schemas.unit_table import UnitTable

COUNT, FOLDS = 120, 4


def make_synthetic_units(codes=None, *, seed=0, **about):
    """Two classes with different waveforms, in random order and in random folds."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(COUNT) % 2) if codes is None else codes
    time = np.linspace(-1, 1, 30)
    width = 0.1 + 0.05 * codes + 0.02 * rng.normal(size=COUNT)
    wave = -np.exp(-((time / width[:, None]) ** 2)) + 0.02 * rng.normal(size=(COUNT, 30))
    isi = rng.poisson(4.0, size=(COUNT, 20)) + 1.0
    fold = rng.permutation(np.arange(COUNT) % FOLDS).astype(str)
    return UnitTable.from_arrays(wave=wave, isi=isi, label=np.array(["PV", "SOM"])[codes], fold=fold, **about)


def parts(units):
    chosen, fold = assign_folds(units, FOLDS, 0)
    return units.rows(chosen), units.codes()[chosen], fold


def severities(findings):
    return [finding.severity for finding in findings]


def changed(units, **raw):
    return UnitTable({**units.raw, **raw}, units.unit, units.about)


@pytest.fixture(scope="module")
def units():
    return make_synthetic_units()


def test_a_clean_table_passes_and_every_check_reports_something(units):
    found = audit(units, shuffles=4)
    assert set(severities(found)) <= {"ok", "note"}
    assert {finding.check for finding in found} == {
        "row position",
        "shuffled labels",
        "copies",
        "subjects and sessions",
        "rows",
    }
    assert str(found[0]).startswith("ok       row position: the row number alone reaches 0.")


# Row position.


def test_rows_sorted_by_class_are_reported():
    units, codes, fold = parts(make_synthetic_units(np.repeat([0, 1], COUNT // 2)))
    (finding,) = check_row_position(units, np.zeros((COUNT, 1)), codes, fold)
    assert finding.severity == "warning" and "sorted by class" in finding.text
    assert float(finding.text.split("reaches ")[1][:5]) > 0.9


def test_a_row_index_among_the_columns_is_a_leak_and_a_constant_is_not(units):
    index = np.arange(COUNT, dtype=np.float32)[:, None]
    wave = np.c_[units.raw["wave"][:, :3], -2 * index + 5, np.ones_like(index), units.raw["wave"][:, 3:]]
    labelled, codes, fold = parts(changed(units, wave=wave))
    found = list(
        check_row_position(labelled, np.c_[np.random.default_rng(0).normal(size=(COUNT, 2)), index], codes, fold)
    )
    assert severities(found) == ["ok", "leak", "leak"]
    assert "column 3 of wave" in found[1].text and "column 2 of features" in found[2].text


# Shuffled labels.


def shuffled_label_finding(units, features):
    (found,) = [one for one in audit(units, features, shuffles=4) if one.check == "shuffled labels"]
    return found


def test_features_that_contain_the_labels_of_test_units_are_found(units):
    noise = np.random.default_rng(1).normal(size=(COUNT, 3))
    assert shuffled_label_finding(units, lambda codes, train: noise).severity == "ok"

    def on_training_rows(codes, train):
        """Supervised, but on training rows."""
        return np.c_[noise, np.where(np.isin(np.arange(COUNT), train), codes, 0.5)]

    def leaking(codes, train):
        return np.c_[noise, codes]

    assert shuffled_label_finding(units, leaking).severity == "leak"
    assert "the features contain the labels of test units" in shuffled_label_finding(units, leaking).text
    assert shuffled_label_finding(units, on_training_rows).severity == "ok"


def test_chance_is_that_of_the_classes_that_occur():
    _, codes, fold = parts(make_synthetic_units())
    three = np.random.default_rng(0).permutation(np.arange(COUNT) % 3)
    values = np.random.default_rng(1).normal(size=(COUNT, 2))
    for labels, chance in ((codes, "0.500"), (three, "0.333")):
        (found,) = check_shuffled_labels(lambda codes, train: values, labels, fold, 3, 0)
        assert f"(chance {chance})" in found.text


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
    labelled, _, fold = copy_row(units, *apart, scale=3.0)
    leak = next(check_copies(labelled, fold))
    assert leak.severity == "leak" and set(leak.units) == {str(units.unit[row]) for row in apart}
    labelled, _, fold = copy_row(units, *together)
    assert severities(check_copies(labelled, fold)) == ["ok"], "two copies in one fold do not leak into the test"


def test_one_copied_curve_is_a_warning(units):
    labelled, _, fold = copy_row(units, *across(units)[0], names=("wave",))
    found = list(check_copies(labelled, fold))
    assert severities(found) == ["ok", "warning"]
    assert found[1].text.startswith("the wave of 2 units")


# Subjects, sessions and rows.


def test_subjects_divided_by_folds_are_reported(units):
    fold = units.fold
    subject = np.where(fold < 2, "left", "right")
    mixed = np.where(np.arange(COUNT) % 2, "odd", "even")
    labelled, _, folds = parts(make_synthetic_units(subject=subject, session=mixed))
    found = {finding.text.split(" are in")[0]: finding for finding in check_groups(labelled, folds // 2)}
    assert [one.severity for one in found.values()] == ["ok", "warning"]
    assert "2 of 2 sessions" in found and f"({COUNT} units)" in found["2 of 2 sessions"].text
    assert severities(check_groups(units, fold)) == ["note", "note"]


def test_empty_constant_and_misaligned_rows_are_counted(units):
    wave, isi = units.raw["wave"].copy(), units.raw["isi"].copy()
    wave[3], isi[[5, 6]] = np.nan, 4.0
    shifted = np.random.default_rng(0).choice(COUNT, 50, replace=False)
    wave[shifted] = np.roll(wave[shifted], 6, axis=1)
    texts = [finding.text for finding in check_rows(changed(units, wave=wave, isi=isi))]
    assert "wave is missing in 1 of 120 units" in texts and "isi is constant in 2 of 120 units" in texts
    assert "no unit has acg" in texts
    (aligned,) = [text for text in texts if "misaligned" in text]
    assert 40 <= int(aligned.split(", ")[1].split()[0]) <= 70


# Folds, and the command.


def test_folds_are_those_of_the_table_or_drawn_for_classes_with_enough_units(units):
    chosen, fold = assign_folds(units, 3, 0)
    np.testing.assert_array_equal(fold, units.fold)
    label = units.label.copy()
    label[:2], label[2:4] = "VIP", ""
    bare = UnitTable(units.raw, units.unit, {"label": label})
    chosen, fold = assign_folds(bare, 3, 0)
    assert chosen[0] == 4 and len(np.unique(fold)) == 3
    with pytest.raises(ValueError, match="fewer than two classes have 90 units"):
        assign_folds(bare, 90, 0)


def run_validate(monkeypatch, capsys, folder):
    monkeypatch.setattr(sys, "argv", ["jaxephys", "validate", str(folder)])
    code = main()
    return code, capsys.readouterr()


def test_the_command_prints_its_findings_and_fails_on_a_leak(tmp_path, monkeypatch, capsys):
    simulate_units(100, 5, seed=0).write(tmp_path)
    code, output = run_validate(monkeypatch, capsys, tmp_path)
    assert code == 0 and "shuffled labels" in output.out and "of 5 subjects are in several folds" in output.out
    units = UnitTable.read(tmp_path)
    np.savetxt(tmp_path / "wave.csv", units.raw["wave"])
    folder = tmp_path / "csv"
    folder.mkdir()
    header = ",".join(map(str, range(units.raw["wave"].shape[1] + 1)))
    table = np.c_[np.arange(len(units)), units.raw["wave"]]
    np.savetxt(folder / "waveforms.csv", table, delimiter=",", header=header, comments="")
    (folder / "labels.csv").write_text("label\n" + "\n".join(units.label) + "\n")
    code, output = run_validate(monkeypatch, capsys, folder)
    assert code == 2 and "leak     row position: column 0 of wave" in output.out
    assert "checks found a leak" in output.err
