"""Check a results folder: compute its claims again from its own files, and say which hold.

    python verify.py results

In: a folder that `run_all.py` wrote, one's own or one that somebody sent. Nothing in it is
executed: notebooks 04 and 05 of this package run again on its predictions, into a temporary folder,
and their tables, figures' numbers and sentences are compared; ledgers follow from their constants,
scores from weights, pages from notebooks, hashes from files. Out: a line a claim: holds, differs
(by how much), or cannot be checked (why).

Exit code 0 where nothing differs, 1 where something does, 2 for a wrong use.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import run_notebook
from helpers.core import claims, errors, files, paths, run_records
from helpers.study import checked_results, crate, notebook_files

ANALYSIS = ("04", "05")
READ = ("cohort", "runs", "register")  # what notebooks 04 and 05 read of a results folder
OF_REGISTER = ("tables/04_spent.csv", "tables/04_spent_together.csv")


def main(words: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = read_arguments(words)
    logging.disable(logging.WARNING)  # of papermill and nbconvert: no claims
    out = arguments.folder.expanduser().resolve()
    try:
        if not any((out / name).is_dir() for name in ("runs", "tables", "notebooks")):
            errors.refuse(f"a results folder in {out}", "none", "Name one that run_all.py wrote.")
    except errors.InputError as error:
        print(f"verify.py: {error}", file=sys.stderr)
        return 2
    os.environ.pop("PRIVACY_REGISTER", None)  # the folder's own, or none
    checked = []
    for claim in claims_of(out):
        checked.append(claim)
        if not arguments.json and (claim.verdict != claims.HOLDS or not arguments.quiet):
            print(claim, flush=True)
    if arguments.json:
        print(json.dumps([vars(claim) for claim in checked], indent=1))
    counts = {
        verdict: sum(claim.verdict == verdict for claim in checked) for verdict in claims.VERDICTS
    }
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    print(f"{len(checked)} claims: {said}.", file=sys.stderr if arguments.json else sys.stdout)
    return int(counts[claims.DIFFERS] > 0 or not counts[claims.HOLDS])


def read_arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description="Compute the claims of a results folder again, and say which hold.",
        epilog="Exit code 0: nothing differs; 1: something does, or nothing holds; 2: no such"
        " folder. Minutes.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=paths.repository_root() / "results",
        help="written by run_all.py (default: results/ beside this file)",
    )
    parser.add_argument("--json", action="store_true", help="claims as JSON, for a program")
    parser.add_argument("--quiet", action="store_true", help="leave out the claims that hold")
    return parser.parse_args(words)


def claims_of(out: Path) -> Iterator[claims.Claim]:
    """Yield all claims of a results folder, the quick ones first."""
    from helpers.training import checked_runs  # torch, which `--help` should not wait for

    os.environ["RESULTS_DIR"] = str(out)
    yield from claims.guarded("version of this package", version, out)
    yield from claims.guarded("files of all steps", steps, out)
    for path in sorted(path for path in (out / "cohort").glob("*") if path.is_dir()):
        name = path.name
        yield from claims.guarded(f"cohort {name}", checked_runs.of_cohort, name)
    for path in sorted(path for path in (out / "runs").glob("*") if path.is_dir()):
        name = path.name
        if (path / "record.json").exists() or (path / "predictions.parquet").exists():
            yield from claims.guarded(f"run {name}", checked_runs.of_run, name)
        elif "-audit-" in name:
            yield claims.Claim(f"run {name}", claims.UNCHECKED, "a model of an audit")
        elif not (path / "network.json").exists():
            yield claims.Claim(f"run {name}", claims.UNCHECKED, "begun, not finished")
        if (path / "model_card.md").exists():
            yield from claims.guarded(
                f"runs/{name}/model_card.md", checked_results.of_card, out, name
            )
    yield from claims.guarded("index.html", checked_results.of_index, out)
    yield from claims.guarded(crate.NAME, crate.of_crate, out)
    for path in sorted((out / "notebooks").glob("[0-9]*.ipynb")):
        if not path.name.endswith(".failed.ipynb"):
            about = f"notebooks/{path.stem}.html shows its notebook"
            yield from claims.guarded(about, page, path)
    yield from claims.guarded("notebooks 04 and 05, executed again", analysis, out)


def version(out: Path) -> Iterator[claims.Claim]:
    """Yield whether the runs were made by this commit: another may compute other numbers."""
    records = [files.readable_json(path) for path in sorted((out / "runs").glob("*/record.json"))]
    made_by, here = {record.get("commit") for record in records}, run_records.commit()
    about, is_clean = "version of this package", here and not here.endswith("+changes")
    if made_by == {here} and is_clean:
        yield claims.Claim(about, claims.HOLDS)
        return
    commits = " and ".join(sorted(str(commit)[:10] for commit in made_by)) or "nothing"
    why = f"runs made at commit {commits}, checked at {str(here)[:10]}: numbers may differ by that"
    yield claims.Claim(about, claims.UNCHECKED, why)


def steps(out: Path) -> Iterator[claims.Claim]:
    """Yield of each step whether its files are those it wrote."""
    yield from checked_results.of_steps(out, crate.listed(out))


def page(notebook: Path) -> Iterator[claims.Claim]:
    """Yield whether the page of an executed notebook shows it."""
    import nbformat

    again = run_notebook.page(nbformat.read(notebook, as_version=4), notebook.stem)
    yield checked_results.of_page(notebook, again)


def analysis(out: Path) -> Iterator[claims.Claim]:
    """Yield the claims of notebooks 04 and 05, executed again into one temporary folder."""
    from helpers.training import checked_ledgers

    records = [files.readable_json(path) for path in sorted((out / "runs").glob("*/record.json"))]
    private = [one for one in records if (one.get("ledger") or {}).get("mode") == "private"]
    without_register = not all(map(checked_ledgers.is_registered, private))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        again = Path(folder).resolve()
        for name in READ:
            if (out / name).is_dir():
                (again / name).symlink_to(out / name, target_is_directory=True)
        for number in ANALYSIS:
            about = f"tables and sentences of notebook {number}"
            yield from claims.guarded(about, recomputed, out, again, number, without_register)


def recomputed(
    out: Path, again: Path, number: str, without_register: bool = False
) -> Iterator[claims.Claim]:
    """Yield the claims of an analysis notebook, executed again.

    Args:
        out: the folder looked at.
        again: where it is executed; of 05, after 04.
        number: of the notebook.
        without_register: see `checked_results.of_text`.
    """
    source = notebook_files.notebooks()[number]
    stored, about = out / "notebooks" / source.name, f"tables and sentences of notebook {number}"
    if not stored.is_file():
        yield claims.Claim(about, claims.UNCHECKED, f"notebooks/{stored.name} is not there")
        return
    parameters = notebook_files.injected_parameters(stored)
    if why := why_not(out, source, parameters):
        yield claims.Claim(about, claims.UNCHECKED, why)
        return
    os.environ["RESULTS_DIR"] = str(again)
    executed, complaint = run_notebook.execute(source, parameters)
    os.environ["RESULTS_DIR"] = str(out)
    if complaint:
        is_of_machine = complaint.startswith("its kernel was killed")
        verdict = claims.UNCHECKED if is_of_machine else claims.DIFFERS
        yield claims.Claim(about, verdict, ": ".join(complaint.split(": ")[:2]))
        return
    run_notebook.clean(executed)
    needs = "a private run is not in the folder's privacy register"
    unchecked = dict.fromkeys(OF_REGISTER, needs) if without_register else None
    yield from checked_results.of_tables(out, again, number, unchecked)
    yield checked_results.of_text(stored, executed, without_register)


def why_not(out: Path, source: Path, parameters: dict) -> str:
    """Return why a notebook cannot be executed again on a folder alone; "" where it can."""
    defaults = notebook_files.default_parameters(source)
    if unknown := sorted(set(parameters) - set(defaults)):
        return f"another version of the package made it: parameters {', '.join(unknown)}"
    values = defaults | parameters
    if values.get("PREDICTIONS") or values.get("TABLE"):
        return "it read predictions from files outside the folder"
    for name in ("COHORT", "EVALUATE_ON"):
        cohort = values.get(name, "none")
        if Path(cohort).name != cohort:
            return f"{name} is a path"
        if cohort != "none" and not (out / "cohort" / cohort / "table.parquet").is_file():
            return f"the cohort {cohort} is not in the folder"
    return ""


if __name__ == "__main__":
    sys.exit(main())
