"""Check: each planted fault is reported, and a table without faults is not blamed."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data_prep.patchseq.check import print_report, report
from data_prep.patchseq.feature_csv import read_ready
from data_prep.patchseq.table import Table

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
    return Table(cells, families, values, np.ones(values.shape, bool), about, {"naming": "old"})


def changed(table, feature, change, rows=slice(None)):
    values = table.values.copy()
    column = table.features.index(feature)
    values[rows, column] = change(values[rows, column])
    return replace(table, values=values, observed=np.isfinite(values))


def vectors(family, values):
    """A table of one family of feature vectors."""
    values = np.asarray(values, np.float32)
    cells, width = values.shape
    features = {family: [f"{family}_{i}" for i in range(width)]}
    return Table([f"c{i}" for i in range(cells)], features, values, np.ones(values.shape, bool))


def test_a_clean_table_is_not_blamed(clean):
    found = report(clean)
    assert found.problems == [] and found.lines()[-1] == "nothing looks wrong"


def test_the_counts_are_right(clean):
    blocks = {block.title: block for block in report(clean).blocks}
    assert blocks["classes and species"].header == ["class", "human", "mouse", "all"]
    assert blocks["classes and species"].rows == [
        ["Sst", "12", "12", "24"],
        ["Vip", "8", "8", "16"],
        ["all", "20", "20", "40"],
    ]
    assert blocks["classes and conditions"].rows[1] == ["Vip", "6", "10", "16"]


def test_what_a_model_will_see(clean):
    gaps = clean.values.copy()
    gaps[:10, 3:] = np.nan  # ten cells without a ramp
    gaps[10:13, 0] = np.nan
    found = report(replace(clean, values=gaps, observed=np.isfinite(gaps)))
    seen = next(block for block in found.blocks if block.title == "what a model will see")
    assert seen.rows == [["1 subthreshold", "3", "2.5 %", "0"], ["2 ramp_ap", "3", "25.0 %", "10"]]
    assert "40 cells, 2 families, 6 features" in found.facts
    assert "2 classes; always saying Sst is right for 60.0 % of the cells" in found.facts
    assert any(fact.startswith("8 donors, at most 6 cells of one") for fact in found.facts)
    assert any(fact.startswith("40 cells share their donor") for fact in found.facts)


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
def test_a_slip_of_the_unit_is_named(clean, feature, factor, look):
    problems = report(changed(clean, feature, lambda x: x * factor)).problems
    assert len(problems) == 2  # one for each species
    assert all(said.startswith(f"{feature} (") and said.endswith(f"looks like {look}") for said in problems)


def test_a_slip_in_one_species_is_named_for_that_one(clean):
    (said,) = report(changed(clean, "tau", lambda x: x / 1000, slice(1, None, 2))).problems
    assert said.startswith("tau (human)") and said.endswith("looks like seconds: multiply by 1000")


def test_the_unit_of_tau_goes_by_the_naming(clean):
    seconds = changed(clean, "tau", lambda x: x / 1000)
    assert report(replace(seconds, provenance={"naming": "new"})).problems == []
    assert report(replace(seconds, provenance={})).problems == []  # nobody said which
    assert len(report(replace(clean, provenance={"naming": "new"})).problems) == 2


def test_a_wild_cell_is_reported_but_is_no_slip(clean):
    """A sag of 1.5 would be plausible in per cent; in one cell of twenty it is a bad measurement."""
    (said,) = report(changed(clean, "sag", lambda x: x * 0 + 1.5, slice(4, 5))).problems
    assert said == "sag (mouse): 1 of 20 values outside -0.3 to 1.2 (1.5)"
    some = report(changed(clean, "sag", lambda x: x * 0 + 1.5, slice(0, 10))).problems
    assert all(said.endswith("looks like per cent: divide by 100") for said in some) and len(some) == 2


@pytest.mark.parametrize(
    ("family", "values", "look"),
    [
        ("first_ap_v", np.linspace(-0.06, 0.03, 30), "volts"),
        ("spiking_threshold_v", np.linspace(-0.05, -0.03, 30), "volts"),
        ("spiking_width", np.linspace(0.3, 0.9, 30), "milliseconds"),
        ("inst_freq", np.linspace(0.01, 0.09, 30), "kilohertz"),
    ],
)
def test_a_family_of_vectors_is_judged_as_a_whole(family, values, look):
    jitter = np.random.default_rng(1).uniform(0.9, 1.1, (8, 1))
    (said,) = [said for said in report(vectors(family, values * jitter)).problems if said.startswith(family)]
    assert f"looks like {look}" in said
    factor = {"volts": 1e3, "kilohertz": 1e3, "milliseconds": 1e-3}[look]
    right = report(vectors(family, values * jitter * factor))
    assert not any(said.startswith(family) for said in right.problems)


def test_values_that_were_not_observed_are_not_judged(clean):
    wild = changed(clean, "vrest", lambda x: x * 0 + 1e6, slice(0, 3))
    observed = wild.observed.copy()
    observed[:3, 0] = False
    assert report(replace(wild, observed=observed)).problems == []
    assert len(report(wild).problems) == 2


def test_columns_from_which_nothing_can_be_learnt_are_named(clean):
    problems = report(changed(clean, "sag", lambda x: x * 0 + 0.1)).problems
    assert problems == ["subthreshold: 1 of 3 columns are constant: sag"]
    problems = report(changed(clean, "tau", lambda x: x * np.nan)).problems
    assert problems == ["subthreshold: 1 of 3 columns were never measured: tau"]


def test_copies_and_near_ids_and_empty_cells(clean):
    values = clean.values.copy()
    values[7] = values[3]
    values[9] = np.nan
    cells = [*clean.cell[:-2], "12", "12.0"]
    problems = report(replace(clean, cell=cells, values=values, observed=np.isfinite(values))).problems
    assert problems == [
        "ids that differ only in how they are written: 12",
        "cells with exactly the features of an earlier one, perhaps copies: c7",
        "cells with nothing measured: c9",
    ]


def test_labels_and_donors_that_do_not_suffice(clean):
    labels = ["Sst"] * 24 + ["Vip"] * 3 + [""] * 2 + ["Lamp5"] * 11
    donors = ["d1"] + [f"d{i % 8}" for i in range(28)] + ["d3"] * 10 + [""]
    problems = report(replace(clean, about={**clean.about, "label": labels, "donor": donors})).problems
    assert [said.split(":")[0] for said in problems] == [
        "cells without a label, to be left out of training",
        "cells without a donor, where others have one",
        "class Lamp5 has fewer than 5 donors (2)",
        "class Vip has fewer than 5 cells (3)",
    ]


def test_a_table_of_bare_vectors_is_reported(clean):
    found = report(vectors("my_own_family", np.random.default_rng(0).normal(size=(6, 3))))
    assert "no donor is known: folds cannot be grouped by donor" in found.facts
    assert any("no unit is known of my_own_family" in fact for fact in found.facts)
    assert report(vectors("isi_shape", np.zeros((0, 3)))).problems == ["the table has no cells"]


def test_plain_text_off_a_terminal_and_frames_on_one(clean):
    plain, framed = io.StringIO(), io.StringIO()
    found = report(changed(clean, "sag", lambda x: x * 0 + 0.1))
    print_report(found, Console(file=plain, width=40))
    print_report(found, Console(file=framed, force_terminal=True, width=100))
    assert plain.getvalue() == "\n".join(found.lines()) + "\n"
    assert plain.getvalue().isascii() and "\x1b" not in plain.getvalue()
    assert "\x1b" in framed.getvalue() and "┃" in framed.getvalue() and "columns are constant: sag" in framed.getvalue()


@pytest.mark.parametrize("name", ["mouse_v1", "human", "mouse_human_aligned"])
def test_units_of_the_real_tables_are_right(name):
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{name}.csv is not here: put it into the folder patchseq of JAXEPHYS_DATA")
    found = report(read_ready(path, min_coverage=0, clock_times=True))
    assert not [said for said in found.problems if "median" in said or "looks like" in said]
    assert len(found.problems) < 15
