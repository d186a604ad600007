"""How training scales: with the number of runs, the length of a window, the number of units, and the number of devices.

    python -m benchmarks scaling                                       all curves and the figure, on the device at hand
    python -m benchmarks scaling --kinds runs --systems patchseq --runs 1 10 100
    python -m benchmarks scaling --small                               small sizes, as a check
    python -m benchmarks scaling --draw                                only the figure of the stored measurements

runs       steps of all runs a second, for 1 to 400 runs as far as the memory allows
length     time of a step of the spike networks, by the bins of a window
units      time of a step of the spike networks, by the units of a recording
weak       1, 2, 4 and 8 virtual devices of a CPU with four runs each, which is only meaningful with as many cores
strong     eight runs on 1, 2, 4 and 8 virtual devices

Each measurement has a process of its own. The rows are appended to results/DEVICE/scaling.csv, and the figure is scaling.png beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.accelerator import Worker, append_row, find_device, make_row
from benchmarks.runner import RESULTS, Row, read_rows, select

SYSTEMS = ("patchseq", "hippie", "spikes-published", "spikes-population")
RUNS = (1, 2, 5, 10, 20, 50, 100, 200, 400)
LENGTHS, UNITS, DEVICES = (512, 1024, 3125, 8192), (32, 64, 128, 256, 512), (1, 2, 4, 8)
KINDS = ("runs", "length", "units", "weak", "strong")
RUNS_PER_DEVICE, RUNS_IN_ALL = 4, 8
COLUMNS = (
    "kind", "value", "system", "small", "status", "runs", "execution", "precision", "compile_s", "ms_step", "ms_run_step", "kernels_step",
    "gib_step", "gflop_step", "peak_gib", "same_bits", "device", "devices", "date", "versions",
)  # fmt: skip
COLORS = {"patchseq": "#0072B2", "hippie": "#D55E00", "spikes-published": "#009E73", "spikes-population": "#CC79A7"}
LABELS = {
    "runs": ("Runs trained together", "Steps a second, all runs"),
    "length": ("Bins of a window", "Time of a step (ms)"),
    "units": ("Units of the recording", "Time of a step (ms)"),
    "devices": ("Virtual devices", "Steps a second, all runs"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all points of the curves, write them and draw the figure.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="curves (all)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM", help="(all)")
    parser.add_argument("--runs", nargs="+", type=int, default=list(RUNS), help="numbers of runs (1 to 400)")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of a measurement (%(default)s)")
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds for one point with compilation (%(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, help="file to append to (results/DEVICE/scaling.csv)")
    options = parser.parse_args(arguments)
    device = find_device()
    path = options.out or RESULTS / device / "scaling.csv"
    exhausted: set[tuple[str, str]] = set()
    points = make_points(options.kinds, options.systems, options.runs, small=options.small, on_cpu=device == "cpu")
    for kind, value, case, environment in () if options.draw else points:
        if (kind, case["system"]) in exhausted:
            continue
        row = measure(kind, value, case | {"seconds": options.seconds}, environment, options.patience)
        append_row(row, path)
        print(
            f"{kind:7} {case['system']:18} {value:5}: {row['status']}, {row['ms_step']} ms a step, {row['peak_gib']} GiB",
            flush=True,
        )
        if row["status"] != "measured":
            exhausted.add((kind, case["system"]))  # larger ones fit even less
    print(f"all measurements: {path}\nfigure: {draw(read_rows(path), path.with_suffix('.png'))}")


def make_points(
    kinds: Sequence[str], systems: Sequence[str], runs: Sequence[int], *, small: bool, on_cpu: bool
) -> Iterator[tuple[str, int, Row, dict[str, str]]]:
    """Return the points of the curves, in ascending order on each.

    Parameters
    ----------
    kinds, systems : sequence of str
        Curves and systems.
    runs : sequence of int
        Numbers of runs.
    small : bool
        Whether to use small sizes.
    on_cpu : bool
        Whether there are virtual devices.

    Yields
    ------
    kind : str
        The curve.
    value : int
        The quantity that is varied.
    case : dict
        Arguments of `benchmarks.worker`.
    environment : dict
        Environment variables of the process.
    """
    scale = 8 if small else 1
    for system in systems:
        case: Row = {"kind": "train", "system": system, "runs": 1, "small": small, "sizes": {}}
        if "runs" in kinds:
            yield from (("runs", value, case | {"runs": value}, {}) for value in sorted(runs))
        if system.startswith("spikes"):
            for kind, values in (("length", LENGTHS), ("units", UNITS)):
                values = [value // scale for value in values if kind in kinds]
                yield from ((kind, value, case | {"sizes": {kind: value}}, {}) for value in values)
        for kind in {"weak", "strong"} & set(kinds) if on_cpu else ():
            for value in DEVICES:
                flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={value}"}
                yield kind, value, case | {"runs": RUNS_PER_DEVICE * value if kind == "weak" else RUNS_IN_ALL}, flags


def measure(kind: str, value: int, case: Row, environment: dict[str, str], patience: float) -> Row:
    """Measure a point.

    Parameters
    ----------
    kind, value, case, environment : see make_points
        The point.
    patience : float
        Seconds after which it is given up.

    Returns
    -------
    dict
        The columns of `COLUMNS`.
    """
    worker = Worker(case, environment)
    worker.start()
    try:
        measured = worker.measure(patience) if worker.wait(patience) else None
        status = "measured" if measured is not None else worker.failure() or f"late: not measured in {patience:.0f} s"
        row = make_row("", case, worker.information | (measured or {}), {})
        row |= {"kind": kind, "value": value, "status": status}
        return {column: row.get(column, "") for column in COLUMNS}
    finally:
        worker.stop()


def draw(rows: Sequence[Row], path: Path) -> Path:
    """Draw the curves.

    Parameters
    ----------
    rows : sequence of dict
        Measurements; of repeated ones the last counts.
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The path of the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    measured = [row for row in rows if row["status"] == "measured"]
    panels = {"runs": ("runs",), "length": ("length",), "units": ("units",), "devices": ("weak", "strong")}
    shown = {name: kinds for name, kinds in panels.items() if any(row["kind"] in kinds for row in measured)}
    figure = Figure(figsize=(3.6 * max(len(shown), 1), 3.4), layout="constrained")
    for position, (name, kinds) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(1, len(shown), position)
        ticks: set[int] = set()
        for kind in kinds:
            for system in SYSTEMS:
                curve = {row["value"]: row for row in select(measured, kind=kind, system=system)}
                values = sorted(curve)
                if not values:
                    continue
                times = [curve[value]["ms_step"] for value in values]
                if name in ("runs", "devices"):
                    times = [1e3 * curve[value]["runs"] / time for value, time in zip(values, times, strict=True)]
                label = f"{system}, {kind}" if name == "devices" else system
                axes.plot(
                    values, times, "o--" if kind == "strong" else "o-", color=COLORS[system], label=label, markersize=4
                )
                ticks |= set(values)
        axes.set(xscale="log", yscale="log", xlabel=LABELS[name][0], ylabel=LABELS[name][1])
        chosen: list[int] = []
        for tick in sorted(ticks):
            if not chosen or tick >= 1.6 * chosen[-1]:  # the numbers do not overlap
                chosen.append(tick)
        axes.set_xticks(chosen, [f"{tick:,}" for tick in chosen])
        axes.xaxis.set_minor_locator(NullLocator())
        low, high = axes.get_ylim()
        widen = max(1.0, 10 * low / high) ** 0.5  # at least a factor of ten is shown, so that a flat curve looks flat
        axes.set_ylim(low / widen, high * widen)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:,g}" if str(y).lstrip("0.")[0] in "25" else ""))
        axes.tick_params(axis="y", which="both", labelsize=8)
        axes.legend(frameon=False, fontsize=7, handlelength=3)
    figure.savefig(path, dpi=150)
    return path


if __name__ == "__main__":
    main()
