"""Cells: who is recorded. Every cell is drawn from the seed and its own number alone, whatever else is drawn with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_prep.simulate.faults import draw_fault
from data_prep.simulate.neuron import Neurons

SPECIES = ("mouse", "human")
PER_DONOR = 4
GOLDEN = (np.sqrt(5) - 1) / 2

# pF; nS of leak, sodium, rectifier, Kv3, D, M and Ih; mV of rest and shift; pA of current noise in the membrane. Resting
# potential, resistance, time constant, spike shape and rheobase lie near the medians of mouse visual cortex.
MEANS = {
    "Pvalb": (67.0, 8.3, 3000.0, 20.0, 1000.0, 1.0, 0.1, 0.5, -70.4, -2.0, 3.0),
    "Sst": (80.0, 3.6, 2200.0, 60.0, 180.0, 0.5, 9.0, 2.0, -67.8, -6.5, 2.0),
    "Vip": (47.0, 3.3, 1100.0, 60.0, 25.0, 1.5, 7.0, 0.6, -67.5, -7.5, 4.0),
    "Lamp5": (64.0, 7.1, 2000.0, 90.0, 30.0, 20.0, 3.0, 0.2, -70.3, -4.0, 2.0),
    "Sncg": (54.0, 3.0, 1200.0, 60.0, 15.0, 0.5, 9.0, 1.6, -65.3, -7.5, 2.5),
}
NAMES = (*Neurons._fields, "noise")
# Spread between cells: of the logarithm, for the two potentials in mV. Draws are cut at two of these.
SPREAD = (0.18, 0.2, 0.12, 0.2, 0.2, 0.3, 0.3, 0.5, 3.0, 2.0, 0.3)
DONOR_SHARE = 0.4  # of that spread, common to the cells of a donor
# What makes a cell human: factors, and mV added to the two potentials.
HUMAN = (1.2, 0.85, 1.0, 1.2, 0.7, 1.0, 1.0, 3.0, 4.0, 1.0, 1.0)
ADDED = np.array([name in ("rest", "shift") for name in NAMES])

MIX = {
    "mouse": {"Sst": 0.36, "Pvalb": 0.23, "Vip": 0.19, "Lamp5": 0.13, "Sncg": 0.09},
    "human": {"Pvalb": 0.42, "Sst": 0.22, "Vip": 0.2, "Lamp5": 0.16},
}
T_TYPES = {
    "mouse": {
        "Pvalb": ("Pvalb Reln Itm2a", "Pvalb Tpbg", "Pvalb Sema3e Kank4"),
        "Sst": ("Sst Calb2 Pdlim5", "Sst Hpse Cbln4", "Sst Esm1", "Sst Rxfp1 Prdm8"),
        "Vip": ("Vip Gpc3 Slc18a3", "Vip Ptprt Pkp2", "Vip Crispld2 Kcne4"),
        "Lamp5": ("Lamp5 Lsp1", "Lamp5 Plch2 Dock5", "Lamp5 Ntn1 Npy2r"),
        "Sncg": ("Sncg Vip Itih5", "Sncg Gpr50"),
    },
    "human": {
        "Pvalb": ("Inh L2-4 PVALB WFDC2", "Inh L4-5 PVALB MEPE", "Inh L4-6 PVALB SULF1"),
        "Sst": ("Inh L1-3 SST CALB1", "Inh L3-5 SST ADGRG6", "Inh L4-5 SST STK32A"),
        "Vip": ("Inh L1-3 VIP SYT6", "Inh L2-3 VIP CASC6", "Inh L1-3 VIP CCDC184"),
        "Lamp5": ("Inh L2-6 LAMP5 CA1", "Inh L1-4 LAMP5 LCP2", "Inh L1-2 PAX6 CDH12"),
    },
}
STRUCTURES = {"mouse": ("VISp1", "VISp2/3", "VISp4", "VISp5", "VISp6a"), "human": ("MTG", "SFG", "STG", "TemL")}


@dataclass(frozen=True)
class Cell:
    """One cell before it is recorded."""

    species: str
    number: int
    cell: str  # the id of the recording session
    specimen: str
    donor: str
    subclass: str
    t_type: str
    structure: str
    condition: str
    sex: str
    fault: str  # "" for a flawless one
    parameters: Mapping[str, float]  # by NAMES


def generator(seed: int, species: str, purpose: str, number: int) -> np.random.Generator:
    """A stream of its own for each purpose and cell, so that nothing depends on what was drawn before."""
    purposes = ("order", "donor", "cell", "fault", "membrane", "amplifier")
    return np.random.default_rng([seed, SPECIES.index(species), purposes.index(purpose), number])


def draw_cell(seed: int, species: str, number: int, *, shift: bool = True, faults: Mapping[str, float]) -> Cell:
    """The cell of this number. Subclasses follow a golden-ratio sequence: any run of cells has nearly the same mix."""
    donor_number = number // PER_DONOR
    donor, own = generator(seed, species, "donor", donor_number), generator(seed, species, "cell", number)
    names, shares = zip(*MIX[species].items(), strict=True)
    place = (generator(seed, species, "order", 0).random() + GOLDEN * number) % 1
    subclass = names[int(np.searchsorted(np.cumsum(shares)[:-1], place, side="right"))]

    common, rest = donor.standard_normal(len(NAMES)), own.standard_normal(len(NAMES))
    jitter = np.array(SPREAD) * np.clip(DONOR_SHARE * common + np.sqrt(1 - DONOR_SHARE**2) * rest, -2, 2)
    values = np.array(MEANS[subclass])
    values = np.where(ADDED, values + jitter, values * np.exp(jitter))
    if shift and species == "human":
        values = np.where(ADDED, values + HUMAN, values * HUMAN)

    series = (seed % 1000) * 100_000  # so that no two seeds share an id
    human_donor = f"H{20 + donor_number // 999}.{seed % 99 + 1:02d}.{donor_number % 999 + 1:03d}"
    return Cell(
        species=species,
        number=number,
        cell=str(500_000_000 + 200_000_000 * SPECIES.index(species) + series + number),
        specimen=str(600_000_000 + 200_000_000 * SPECIES.index(species) + series + number),
        donor=human_donor if species == "human" else str(5_000_000 + series + donor_number),
        subclass=subclass,
        t_type=str(own.choice(T_TYPES[species][subclass])),
        structure=str(own.choice(STRUCTURES[species])),
        condition="culture" if species == "human" and donor.random() < 0.6 else "acute",
        sex=str(donor.choice(["F", "M"])),
        fault=draw_fault(faults, generator(seed, species, "fault", number).random()),
        parameters=dict(zip(NAMES, values.tolist(), strict=True)),
    )
