"""Check: each injected error is reported, and a table without errors has no problems."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.patchseq.check import check_table
from data_prep.patchseq.feature_csv import read_feature_csv
from jaxephys.schemas.feature_table import FeatureTable

DATA = Path(os.environ.get("JAXEPHYS_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "patchseq"
CELLS = 40
# feature -> mean and sd, under the old names
SCALARS = {
    "subthreshold": {"vrest": (-68, 4), "tau": (15, 2), "sag": (0.1, 0.01)},
    "ramp_ap": {"threshold_v_ramp": (-32, 3), "threshold_i_ramp": (150, 20), "peak_minus_thr_t_ramp": (5e-4, 1e-5)},
}


@pytest.fixture
def clean():
    """A table as it should be: two species, two classes, eight donors, nothing out of the way."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(mean, sd, CELLS) for features in SCALARS.values() for mean, sd in features.values()]
    values = np.stack(columns, axis=1).astype(np.float32)
    about = {
        "label": ["Sst"] * 24 + ["Vip"] * 16,
        "species": ["mouse", "human"] * 20,
        "donor": [f"d{i // 2 % 8}" for i in range(CELLS)],
        "condition": ["acute"] * 30 + ["culture"] * 10,
    }
    families = {family: list(features) for family, features in SCALARS.items()}
    cells = [f"c{i}" for i in range(CELLS)]
    return FeatureTable.from_arrays(values, families, cell=cells, about=about, provenance={"naming": "old"})


def changed(table, feature, change, rows=slice(None)):
    values = table.values.copy()
    column = table.features.index(feature)
    values[rows, column] = change(values[rows, column])
    return replace(table, values=values, observed=np.isfinite(values))


def vectors(family, values):
    """A table of one family of feature vectors."""
    values = np.asarray(values, np.float32)
    return FeatureTable.from_arrays(values, {family: values.shape[1]}, cell=[f"c{i}" for i in range(len(values))])


def test_clean_table_has_no_problems(clean):
    found = check_table(clean)
    assert found.findings == [] and found.lines()[-1] == "nothing looks wrong"


def test_counts_of_classes(clean):
    blocks = {block.title: block for block in check_table(clean).blocks}
    assert blocks["classes and species"].header == ["class", "human", "mouse", "all"]
    assert blocks["classes and species"].rows == [
        ["Sst", "12", "12", "24"],
        ["Vip", "8", "8", "16"],
        ["all", "20", "20", "40"],
    ]
    assert blocks["classes and conditions"].rows[1] == ["Vip", "6", "10", "16"]


def test_missing_values_donors_and_majority_class_are_reported(clean):
    gaps = clean.values.copy()
    gaps[:10, 3:] = np.nan  # ten cells without a ramp
    gaps[10:13, 0] = np.nan
    found = check_table(replace(clean, values=gaps, observed=np.isfinite(gaps)))
    seen = next(block for block in found.blocks if block.title == "input of a model")
    assert seen.rows == [["1 subthreshold", "3", "2.5 %", "0"], ["2 ramp_ap", "3", "25.0 %", "10"]]
    assert "40 cells, 2 families, 6 features" in found.facts.values()
    assert "2 classes; always predicting Sst is right for 60.0 % of the cells" in found.facts.values()
    assert any(fact.startswith("8 donors, at most 6 cells of one") for fact in found.facts.values())
    assert any(fact.startswith("40 cells share their donor") for fact in found.facts.values())


@pytest.mark.parametrize(
    ("feature", "factor", "look"),
    [
        ("vrest", 1e-3, "volts: multiply by 1000"),
        ("threshold_v_ramp", 1e-3, "volts: multiply by 1000"),
        ("tau", 1e-3, "seconds: multiply by 1000"),
        ("threshold_i_ramp", 1e-12, "amperes: multiply by 1e12"),
        ("threshold_i_ramp", 1e-3, "nanoamperes: multiply by 1000"),
        ("peak_minus_thr_t_ramp", 1e3, "milliseconds: divide by 1000"),
        ("sag", 1e2, "per cent: divide by 100"),
    ],
)
def test_wrong_unit_is_recognized(clean, feature, factor, look):
    problems = check_table(changed(clean, feature, lambda x: x * factor)).findings
    assert len(problems) == 2  # one for each species
    assert all(problem.startswith(f"{feature} (") and problem.endswith(f"looks like {look}") for problem in problems)


def test_wrong_unit_in_one_species_is_reported_for_that_species(clean):
    (problem,) = check_table(changed(clean, "tau", lambda x: x / 1000, slice(1, None, 2))).findings
    assert problem.startswith("tau (human)") and problem.endswith("looks like seconds: multiply by 1000")


def test_unit_of_tau_depends_on_the_naming(clean):
    seconds = changed(clean, "tau", lambda x: x / 1000)
    assert check_table(replace(seconds, provenance={"naming": "new"})).findings == []
    assert check_table(replace(seconds, provenance={})).findings == []  # the naming is not given
    assert len(check_table(replace(clean, provenance={"naming": "new"})).findings) == 2


def test_outlier_is_reported_but_is_no_wrong_unit(clean):
    """A sag of 1.5 would be plausible in per cent; in one cell of twenty it is a bad measurement."""
    (problem,) = check_table(changed(clean, "sag", lambda x: x * 0 + 1.5, slice(4, 5))).findings
    assert problem == "sag (mouse): 1 of 20 values outside -0.3 to 1.2 (1.5)"
    some = check_table(changed(clean, "sag", lambda x: x * 0 + 1.5, slice(0, 10))).findings
    assert all(problem.endswith("looks like per cent: divide by 100") for problem in some) and len(some) == 2


@pytest.mark.parametrize(
    ("family", "values", "look"),
    [
        ("first_ap_v", np.linspace(-0.06, 0.03, 30), "volts"),
        ("spiking_threshold_v", np.linspace(-0.05, -0.03, 30), "volts"),
        ("spiking_width", np.linspace(0.3, 0.9, 30), "milliseconds"),
        ("inst_freq", np.linspace(0.01, 0.09, 30), "kilohertz"),
    ],
)
def test_family_of_vectors_is_checked_as_a_whole(family, values, look):
    jitter = np.random.default_rng(1).uniform(0.9, 1.1, (8, 1))
    (problem,) = [
        problem for problem in check_table(vectors(family, values * jitter)).findings if problem.startswith(family)
    ]
    assert f"looks like {look}" in problem
    factor = {"volts": 1e3, "kilohertz": 1e3, "milliseconds": 1e-3}[look]
    right = check_table(vectors(family, values * jitter * factor))
    assert not any(problem.startswith(family) for problem in right.findings)


def test_values_that_were_not_observed_are_not_checked(clean):
    wild = changed(clean, "vrest", lambda x: x * 0 + 1e6, slice(0, 3))
    observed = wild.observed.copy()
    observed[:3, 0] = False
    assert check_table(replace(wild, observed=observed)).findings == []
    assert len(check_table(wild).findings) == 2


def test_constant_and_unmeasured_columns_are_reported(clean):
    problems = check_table(changed(clean, "sag", lambda x: x * 0 + 0.1)).findings
    assert problems == ["subthreshold: 1 of 3 columns are constant: sag"]
    problems = check_table(changed(clean, "tau", lambda x: x * np.nan)).findings
    assert problems == ["subthreshold: 1 of 3 columns were never measured: tau"]


def test_copies_similar_ids_and_empty_cells_are_reported(clean):
    values = clean.values.copy()
    values[7] = values[3]
    observed = clean.observed.copy()
    observed[9] = False  # its values are substitutes
    cells = np.array([*clean.cell[:-2], "12", "12.0"])
    problems = check_table(replace(clean, cell=cells, values=values, observed=observed)).findings
    assert problems == [
        "ids that differ only in how they are written: 12",
        "cells with exactly the features of an earlier one, perhaps copies: c7",
        "cells with nothing measured: c9",
    ]


def test_missing_labels_and_small_classes_are_reported(clean):
    labels = np.array(["Sst"] * 24 + ["Vip"] * 3 + [""] * 2 + ["Lamp5"] * 11)
    donors = np.array(["d1"] + [f"d{i % 8}" for i in range(28)] + ["d3"] * 10 + [""])
    problems = check_table(replace(clean, about={**clean.about, "label": labels, "donor": donors})).findings
    assert [problem.split(":")[0] for problem in problems] == [
        "cells without a label, to be left out of training",
        "cells without a donor, where others have one",
        "class Lamp5 has fewer than 5 donors (2)",
        "class Vip has fewer than 5 cells (3)",
    ]


def test_table_without_texts_and_units_is_reported(clean):
    found = check_table(vectors("my_own_family", np.random.default_rng(0).normal(size=(6, 3))))
    assert "no donor is known: folds cannot be grouped by donor" in found.facts.values()
    assert any("no unit is known for my_own_family" in fact for fact in found.facts.values())


def test_report_is_plain_text_with_aligned_columns(clean):
    lines = check_table(changed(clean, "sag", lambda x: x * 0 + 0.1)).lines()
    assert lines[:3] == ["classes and species", "  class  human  mouse  all", "  Sst       12     12   24"]
    assert lines[-2:] == ["1 to look at:", "  - subthreshold: 1 of 3 columns are constant: sag"]
    assert "\n".join(lines).isascii() and not any("\n" in line or "\x1b" in line for line in lines)


@pytest.mark.parametrize("name", ["mouse_v1", "human", "mouse_human_aligned"])
def test_units_of_the_real_tables_are_plausible(name):
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{name}.csv is not here: put it into the folder patchseq of JAXEPHYS_DATA")
    found = check_table(read_feature_csv(path, min_coverage=0, clock_times=True))
    assert not [problem for problem in found.findings if "median" in problem or "looks like" in problem]
    assert len(found.findings) < 15
