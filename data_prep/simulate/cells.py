"""Draw simulated cells: subclass, donor, defect and membrane parameters. A cell depends on the seed and its number only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_prep.simulate.neuron import Neurons
from jaxephys.schemas.storage import DataError

SPECIES = ("mouse", "human")
PER_DONOR = 4
GOLDEN = (np.sqrt(5) - 1) / 2

# Capacitance in pF; conductances of leak, sodium, delayed rectifier, Kv3, D, M and Ih in nS; resting potential and shift in mV;
# current noise in the membrane in pA. Resting potential, resistance, time constant, spike shape and rheobase are close to the
# medians of mouse visual cortex.
MEANS = {
    "Pvalb": (67.0, 8.3, 3000.0, 20.0, 1000.0, 1.0, 0.1, 0.5, -70.4, -2.0, 3.0),
    "Sst": (80.0, 3.6, 2200.0, 60.0, 180.0, 0.5, 9.0, 2.0, -67.8, -6.5, 2.0),
    "Vip": (47.0, 3.3, 1100.0, 60.0, 25.0, 1.5, 7.0, 0.6, -67.5, -7.5, 4.0),
    "Lamp5": (64.0, 7.1, 2000.0, 90.0, 30.0, 20.0, 3.0, 0.2, -70.3, -4.0, 2.0),
    "Sncg": (54.0, 3.0, 1200.0, 60.0, 15.0, 0.5, 9.0, 1.6, -65.3, -7.5, 2.5),
}
NAMES = (*Neurons._fields, "noise")
# Standard deviation between cells, of the logarithm, or in mV for the two potentials. Draws are limited to two of these.
SPREAD = (0.18, 0.2, 0.12, 0.2, 0.2, 0.3, 0.3, 0.5, 3.0, 2.0, 0.3)
DONOR_SHARE = 0.4  # weight of the deviation that is common to the cells of a donor
# Human relative to mouse cells: factors, and mV added to the two potentials.
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


# Defects of recordings that the simulation can introduce, at most one in a cell.
DEFECTS = {
    "noise": "ten times the noise on the voltage",
    "truncated_sweep": "a long square that ends early, with zeros after that",
    "no_ramp": "no ramps",
    "no_short_square": "no short squares",
    "missing_level": "one long square between rheobase and rheobase + 100 pA is absent",
    "low_rate": "recorded at 12.5 kHz",
    "long_window": "the last long square lasts 1.26 s instead of 1 s",
    "noisy_current": "noise on the recorded current",
    "no_label": "no transcriptomic type",
}


@dataclass(frozen=True)
class Cell:
    """A simulated cell before it is recorded.

    Parameters
    ----------
    species : str
        "mouse" or "human".
    number : int
        Number of the cell within its species, from 0.
    cell : str
        Identifier of the recording session.
    specimen : str
        Identifier of the specimen.
    donor : str
        Identifier of the donor; four cells in a row have the same one.
    subclass : str
        Lamp5, Pvalb, Sncg, Sst or Vip.
    t_type : str
        Transcriptomic type.
    structure : str
        Brain structure.
    condition : str
        "acute" or "culture".
    sex : str
        "F" or "M".
    defect : str
        A key of ``DEFECTS``, or "".
    parameters : mapping of str to float
        Membrane parameters by ``NAMES``, in pF, nS, mV and pA.
    """

    species: str
    number: int
    cell: str
    specimen: str
    donor: str
    subclass: str
    t_type: str
    structure: str
    condition: str
    sex: str
    defect: str
    parameters: Mapping[str, float]


def draw_cell(seed: int, species: str, number: int, *, shift: bool = True, defects: Mapping[str, float]) -> Cell:
    """Draw the cell of a number.

    Subclasses follow a golden-ratio sequence, so that any range of numbers has nearly the same proportions.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    species : {"mouse", "human"}
        The species.
    number : int
        Number of the cell within its species.
    shift : bool, default True
        Whether human cells differ from mouse cells of the same subclass.
    defects : mapping of str to float
        Fraction of the cells with each defect.

    Returns
    -------
    Cell
        The cell.
    """
    donor_number = number // PER_DONOR
    donor_rng = random_stream(seed, species, "donor", donor_number)
    cell_rng = random_stream(seed, species, "cell", number)
    names, shares = zip(*MIX[species].items(), strict=True)
    position = (random_stream(seed, species, "order", 0).random() + GOLDEN * number) % 1
    subclass = names[int(np.searchsorted(np.cumsum(shares)[:-1], position, side="right"))]

    common, individual = donor_rng.standard_normal(len(NAMES)), cell_rng.standard_normal(len(NAMES))
    deviation = np.clip(DONOR_SHARE * common + np.sqrt(1 - DONOR_SHARE**2) * individual, -2, 2)
    jitter = np.array(SPREAD) * deviation
    values = np.array(MEANS[subclass])
    values = np.where(ADDED, values + jitter, values * np.exp(jitter))
    if shift and species == "human":
        values = np.where(ADDED, values + HUMAN, values * HUMAN)

    series = (seed % 1000) * 100_000  # so that no two seeds share an identifier
    human_donor = f"H{20 + donor_number // 999}.{seed % 99 + 1:02d}.{donor_number % 999 + 1:03d}"
    return Cell(
        species=species,
        number=number,
        cell=str(500_000_000 + 200_000_000 * SPECIES.index(species) + series + number),
        specimen=str(600_000_000 + 200_000_000 * SPECIES.index(species) + series + number),
        donor=human_donor if species == "human" else str(5_000_000 + series + donor_number),
        subclass=subclass,
        t_type=str(cell_rng.choice(T_TYPES[species][subclass])),
        structure=str(cell_rng.choice(STRUCTURES[species])),
        condition="culture" if species == "human" and donor_rng.random() < 0.6 else "acute",
        sex=str(donor_rng.choice(["F", "M"])),
        defect=draw_defect(defects, random_stream(seed, species, "defect", number).random()),
        parameters=dict(zip(NAMES, values.tolist(), strict=True)),
    )


def random_stream(seed: int, species: str, purpose: str, number: int) -> np.random.Generator:
    """Return an independent random generator for each purpose and cell, so that no draw depends on earlier ones.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    species : {"mouse", "human"}
        The species.
    purpose : {"order", "donor", "cell", "defect", "membrane", "amplifier"}
        What is drawn.
    number : int
        Number of the cell or donor.

    Returns
    -------
    numpy.random.Generator
        The generator.
    """
    purposes = ("order", "donor", "cell", "defect", "membrane", "amplifier")
    return np.random.default_rng([seed, SPECIES.index(species), purposes.index(purpose), number])


def check_defects(defects: Mapping[str, float]) -> None:
    """Check the fractions of cells with defects.

    Parameters
    ----------
    defects : mapping of str to float
        Fraction of the cells with each defect.

    Raises
    ------
    DataError
        If a defect is unknown, a fraction is negative, or the fractions exceed 1 in sum.
    """
    unknown = [name for name in defects if name not in DEFECTS]
    if unknown:
        raise DataError(f"there is no defect {unknown[0]!r}: choose from {', '.join(DEFECTS)}")
    if min(defects.values(), default=0) < 0 or sum(defects.values()) > 1 + 1e-9:
        raise DataError(
            f"the defects {dict(defects)} are not fractions of the cells: each is at least 0, and together at most 1"
        )


def draw_defect(defects: Mapping[str, float], uniform: float) -> str:
    """Choose the defect of a cell.

    Parameters
    ----------
    defects : mapping of str to float
        Fraction of the cells with each defect.
    uniform : float
        A random number in [0, 1).

    Returns
    -------
    str
        A key of ``DEFECTS``, or "" for none.

    Examples
    --------
    >>> fractions = {"no_ramp": 0.1, "low_rate": 0.1}
    >>> draw_defect(fractions, 0.05), draw_defect(fractions, 0.15), draw_defect(fractions, 0.5)
    ('no_ramp', 'low_rate', '')
    """
    for name in DEFECTS:
        uniform -= defects.get(name, 0.0)
        if uniform < 0:
            return name
    return ""
