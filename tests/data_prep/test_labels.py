"""Labels: three formats of metadata, in which every cell has a label or a reason."""

import pytest

from data_prep.patchseq.labels import LabelError, clean_id, label_column, read_labels
from data_prep.patchseq.table import TEXT_COLUMNS
from jaxephys.schemas.storage import DataError

MOUSE = """project,cell_specimen_id,structure,donor_id,full_genotype,ephys_session_id,T-type Label,MET-type Label
made-up,11,VISp2/3,901,some-Cre,101,Vip Gpc3 Slc18a3,NULL
made-up,12,VISp5,901,some-Cre,102,Sncg Gpr50,NULL
made-up,13,VISp5,902,some-Cre,103,,NULL
made-up,14,VISp1,902,some-Cre,104,Serpinf1 Aqp5 Vip,NULL
made-up,15,VISp1,903,some-Cre,,Sst Chodl,NULL
made-up,16,VISp1,903,some-Cre,106.0,Pvalb Vipr2,Pvalb-MET-1
made-up,17,VISp1,903,some-Cre,107,NULL,NULL
"""
HUMAN = """specimen_id_x,cell_name,Donor,structure,Transcriptomic_type ,condition,condition2,subclass_label,Revised_subclass_label,nwb_id
21,a,H1,MTG,Inh L1-4 LAMP5 LCP2 ,acute,acute,LAMP5/PAX6/Other,LAMP5/PAX6/Other,201.0
22,b,H1,MTG,Inh L1-2 PAX6 CDH12,culture,culture,LAMP5/PAX6/Other,LAMP5/PAX6/Other,202.0
23,c,H2,MTG,Inh L1 SST NMBR,acute,acute_microglial,LAMP5/PAX6/Other,VIP,203.0
24,d,H2,SFG,Inh L2-4 PVALB WFDC2,culture,culture,PVALB,PVALB,
25,e,H3,SFG,Inh L5-6 SST TH,culture,culture,SST,,205
26,f,H3,SFG,Exc L2-3 LINC00507 FREM3,acute,acute,IT,IT,206
"""


@pytest.fixture
def written(tmp_path):
    def write(text, **encoding):
        path = tmp_path / "labels.csv"
        path.write_text(text, **encoding)
        return path

    return write


def test_the_first_word_of_a_mouse_type_is_its_subclass(written):
    labels = read_labels(written(MOUSE))
    assert labels.layout == "mouse" and set(labels) == {"101", "102", "106"}
    about = dict(label="Vip", subclass4="Vip", subclass5="Vip", subclass_raw="Vip", t_type="Vip Gpc3 Slc18a3")
    assert labels["101"] == about | dict(donor="901", species="mouse", condition="acute", structure="VISp2/3")
    assert (labels["102"]["label"], labels["102"]["subclass5"], labels["102"]["subclass4"]) == ("Sncg", "Sncg", "Vip")
    assert labels.dropped == {
        "103": "no label",
        "104": "label outside the classes",
        "specimen 15": "no ephys_session_id",
        "107": "no label",
    }


def test_sncg_joins_lamp5_only_as_published(written):
    slip = read_labels(written(MOUSE), sncg="as published")
    assert (slip["102"]["subclass5"], slip["102"]["subclass4"]) == ("Sncg", "Lamp5")
    assert slip["101"]["subclass4"] == "Vip"
    with pytest.raises(LabelError, match="sncg is 'vip': it is one of 'Vip', 'as published'"):
        read_labels(written(MOUSE), sncg="vip")


def test_human_labels_are_the_revised_ones(written):
    labels = read_labels(written(HUMAN))
    assert labels.layout == "human"
    assert {cell: row["label"] for cell, row in labels.items()} == {"201": "Lamp5", "202": "Lamp5", "203": "Vip"}
    assert labels["201"]["t_type"] == "Inh L1-4 LAMP5 LCP2"
    assert labels["202"]["subclass_raw"] == "LAMP5/PAX6/Other"
    where = {name: labels["202"][name] for name in ("donor", "species", "condition", "structure")}
    assert where == {"donor": "H1", "species": "human", "condition": "culture", "structure": "MTG"}
    assert labels.dropped == {"specimen 24": "no nwb_id", "205": "no label", "206": "label outside the classes"}
    before = read_labels(written(HUMAN), revised=False)
    assert (before["203"]["label"], before["205"]["label"]) == ("Lamp5", "Sst")


def test_strict_lamp5_drops_pax6_and_other_with_a_reason(written):
    labels = read_labels(written(HUMAN), strict_lamp5=True, revised=False)
    reason = "pax6 or other (strict lamp5)"
    assert set(labels) == {"201", "205"}
    assert {cell for cell, given in labels.dropped.items() if given == reason} == {"202", "203"}


def test_plain_csv_keeps_the_labels_of_a_lab(written):
    text = "cell,label,donor,species\nA1,sst,m1,mouse\nA2,Chandelier,m1,mouse\nA3,,m2,mouse\nA4,LAMP5/PAX6/Other,h1,human\n"
    labels = read_labels(written(text, encoding="utf-8-sig"))
    assert labels.layout == "plain" and labels.dropped == {"A3": "no label"}
    assert [labels["A1"][name] for name in ("label", "subclass4", "subclass_raw")] == ["sst", "Sst", "sst"]
    assert [labels["A2"][name] for name in ("label", "subclass4", "condition")] == ["Chandelier", "", ""]
    assert labels["A4"]["subclass4"] == "Lamp5"
    assert all(tuple(row) == TEXT_COLUMNS for row in labels.values())


def test_rows_that_disagree_drop_the_cell(written):
    text = "cell,label\nA1,Sst\nA1,Sst\nA2,Sst\nA2,Vip\nA3,Vip\nA3,\n"
    labels = read_labels(written(text))
    assert list(labels) == ["A1"]
    assert labels.dropped == {"A2": "repeated id", "A3": "repeated id"}


@pytest.mark.parametrize("text", [MOUSE, HUMAN, "cell,label\na,Vip\nb,\nc,Odd\n"])
def test_every_cell_is_known_or_dropped(written, text):
    labels = read_labels(written(text))
    assert len(labels) + len(labels.dropped) == len(text.splitlines()) - 1
    assert not set(labels) & set(labels.dropped)


def test_unknown_columns_raise_one_sentence(written):
    with pytest.raises(
        LabelError, match="has the columns id, class, but labels need .*T-type Label; .*; or cell, label"
    ):
        read_labels(written("id,class\n1,Vip\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("cell,label,label\n1,Vip,Vip\n", "has 2 columns 'label'"),
        ("cell,label\n1,Vip\n\n2\n", "line 4 .* has 1 entries for 2 columns"),
        ("cell,label\n,Vip\n", r"names no cell \(Vip\)"),
    ],
)
def test_invalid_file_is_refused(written, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(written(text))


def test_unreadable_file_is_refused(written, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        read_labels(written("cell,label\nα,Vip\n", encoding="utf-16"))


@pytest.mark.parametrize(
    ("text", "cell"),
    [("636982248.0", "636982248"), (" 12 ", "12"), ("12.5", "12.5"), ("H17.06.003", "H17.06.003"), ("nan", "")],
)
def test_ids_written_as_floats_are_restored(text, cell):
    assert clean_id(text) == cell


def test_label_column_depends_on_the_species():
    assert label_column(["mouse", "human"]) == "subclass4"
    assert label_column(["mouse", ""]) == "subclass5"
