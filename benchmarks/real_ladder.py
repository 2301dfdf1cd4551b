"""The ladder on real films: what each way of training reaches on 11,217 films of ChestX-ray14 at
two budgets, from drawn films and from another real hospital's.

In: `--data-root`, the folder with `Data_Entry_2017.csv`. Out: `results/real_ladder.json`: a row a
run, levels with intervals over test patients and seeds, contrasts by sex, age and view. Nothing but
numbers of groups leaves the scratch folder. The same command goes on where it stopped.

Nothing is chosen on test patients: the number of passes without privacy is the best on `valid`
with the first seed, once all were tried (until then the first); all else is the package's rule and
default.
"""

import argparse
import dataclasses
import datetime
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import real_arms
import real_cohorts
import real_tables
from real_arms import CEILING_EPOCHS, EPSILONS, SEEDS, Settings

from helpers.analysis import metrics
from helpers.core import errors, files, run_records

RESULTS = Path(__file__).resolve().parent / "results" / "real_ladder.json"
OTHER_HEADS = ("levels",)  # tried with the first seed, from drawn films, on `valid`


def wanted(ceiling_epochs: dict[str, int]) -> list[Settings]:
    """Return all runs, those that say most first.

    Args:
        ceiling_epochs: by start, passes of the arm without privacy for further seeds; a start that
            is not in it has its trials only.
    """
    both_starts, paper = real_cohorts.STARTS, "paper, our start"
    runs = [Settings("zero-shot", start) for start in both_starts]
    runs += [Settings("no privacy", start, epochs=CEILING_EPOCHS[0]) for start in both_starts]

    def add(arm: str, *seeds: int) -> None:
        for seed in seeds:
            for start in both_starts:
                runs.extend(Settings(arm, start, epsilon, seed) for epsilon in EPSILONS)

    add("ours, head", 0)
    add("ours, both", 0)
    add("ours, head", *SEEDS[1:])  # seconds each
    add("ours, all", 0)
    add(paper, 0)
    for start in both_starts:
        runs += [Settings("no privacy", start, epochs=epochs) for epochs in CEILING_EPOCHS]
    for head in OTHER_HEADS:
        runs.append(Settings("zero-shot", "drawn", head=head))
        for arm in ("ours, head", "ours, all"):
            runs.append(Settings(arm, "drawn", EPSILONS[0], head=head))
    for arm in ("ours, both", paper, "ours, all"):
        add(arm, *SEEDS[1:])
    for seed in SEEDS[1:]:
        for start, epochs in ceiling_epochs.items():
            runs.append(Settings("no privacy", start, seed=seed, epochs=epochs))
    return list(dict.fromkeys(runs))


def best_epochs(rows: list[dict]) -> dict[str, int]:
    """Return by start the passes without privacy that were best on `valid`, if all were tried."""
    chosen = {}
    for start in real_cohorts.STARTS:
        tried = {
            row["epochs"]: row["valid_auroc"]
            for row in rows
            if (row["arm"], row["start"], row["seed"]) == ("no privacy", start, 0)
        }
        if set(tried) >= set(CEILING_EPOCHS):
            chosen[start] = max(tried, key=tried.get)
    return chosen


def rows_of(out: Path) -> dict[Settings, dict]:
    """Return the rows that the results have, by their settings."""
    stored = json.loads(out.read_text())["rows"] if out.exists() else []
    names = [field.name for field in dataclasses.fields(Settings)]
    return {Settings(**{name: row[name] for name in names}): row for row in stored}


def is_kept(settings: Settings, row: dict) -> bool:
    """Return whether a row stays: its run is there, and was made by the rule as it is now."""
    return run_records.is_whole(settings.key) and real_arms.is_by_rule(settings, row)


def row_of(settings: Settings, kept: dict) -> dict:
    """Return the row of a finished run: what was measured, and AUROC on `valid` and `test`."""
    predictions = run_records.read_predictions(settings.key)
    by_finding = {
        split: metrics.auroc_by_finding({"auroc": predictions}, split=split).set_index("finding")
        for split in ("valid", "test")
    }
    aurocs = {split: table["auroc"] for split, table in by_finding.items()}
    return (
        dataclasses.asdict(settings)
        | kept
        | {
            "valid_auroc": float(aurocs["valid"].mean()),
            "auroc": float(aurocs["test"].mean()),
            "by_finding": aurocs["test"].round(4).to_dict(),
            "date": datetime.date.today().isoformat(),
            "commit": run_records.commit(),
        }
    )


def collect(out: Path, cohorts: dict, minutes: float) -> dict[Settings, dict]:
    """Make the runs that are missing, one after the other, and return all rows.

    Args:
        out: the results, written after each run.
        cohorts: {start: (private, public)}.
        minutes: no run is begun later.
    """
    until, rows = time.monotonic() + 60 * minutes, rows_of(out)
    while True:
        left = [
            settings
            for settings in wanted(best_epochs(list(rows.values())))
            if settings not in rows or not is_kept(settings, rows[settings])
        ]
        if not left or time.monotonic() > until:
            return rows
        began = time.monotonic()
        kept = real_arms.run(left[0], *cohorts[left[0].start])
        kept["seconds"] = round(time.monotonic() - began, 1)
        rows[left[0]] = row_of(left[0], kept)
        about = json.loads(out.read_text()) if out.exists() else {}
        files.write_json(out, about | {"rows": list(rows.values())})
        print(left[0].key, round(rows[left[0]]["auroc"], 4), kept["seconds"], flush=True)


def main() -> None:
    """Run what is missing, and write rows, levels and contrasts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="of the real films")
    parser.add_argument(
        "--scratch", type=Path, required=True, help="folder for all that is private"
    )
    parser.add_argument("--minutes", type=float, default=90.0, help="no run is begun later")
    options = parser.parse_args()
    scratch = options.scratch.resolve()
    os.environ["RESULTS_DIR"] = str(scratch / "results")
    cohorts = {
        start: real_cohorts.of_start(start, options.data_root.resolve(), scratch)
        for start in real_cohorts.STARTS
    }
    rows = collect(RESULTS, cohorts, options.minutes)
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()}
    about |= {"delta": real_arms.DELTA, "goals": real_tables.GOALS, "counts": {}}
    of_start = {}
    for start, (private, public) in cohorts.items():
        about["counts"][start] = {
            name: real_tables.counts(cohort)
            for name, cohort in (("private", private), ("public", public))
        }
        of_start[start] = real_tables.shown(list(rows), start, best_epochs(list(rows.values())))
    levels = [row for start in cohorts for row in real_tables.levels(of_start[start], start)]
    contrasts = [
        row
        for start, (private, _) in cohorts.items()
        for row in real_tables.contrasts(of_start[start], start, private.table)
    ]
    files.write_json(
        RESULTS, about | {"levels": levels, "contrasts": contrasts, "rows": list(rows.values())}
    )


if __name__ == "__main__":
    try:
        main()
    except errors.InputError as error:
        sys.exit(str(error))
