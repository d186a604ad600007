"""``python -m data_prep NAME VERB``: from recordings to the files that ``jaxephys`` reads."""

from __future__ import annotations

import importlib
import sys

from data_prep.cli import lacking

SYSTEMS = {
    "patchseq": "current-clamp recordings (NWB, or a table of features) -> families, labels, one table",
    "units": "sorted units (spike times and templates, or tables of features) -> waveform, intervals, autocorrelogram",
    "spikes": "spike times of sorted units (asdf, IBL, NumPy, NWB), or simulated populations -> packed bins with splits",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in SYSTEMS:
        unknown = f"there is no {arguments[0]!r}\n\n" if arguments and not arguments[0].startswith("-") else ""
        listed = "\n".join(f"  {name:<10} {line}" for name, line in SYSTEMS.items())
        print(
            f"{unknown}python -m data_prep NAME VERB ...\n\n{listed}\n\nVerbs and their fields: python -m data_prep NAME --help"
        )
        return 2 if unknown else 0
    try:
        command = importlib.import_module(f"data_prep.{arguments[0]}.command")
    except ModuleNotFoundError as error:
        return lacking(error)
    return command.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
