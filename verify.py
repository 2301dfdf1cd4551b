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
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import run_notebook
from helpers.core import claims, errors, paths
from helpers.study import checked_results, notebook_files

OWN = ("cohort", "runs", "register")  # what notebooks 04 and 05 read of a results folder


def main(words: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = read_arguments(words)
    logging.disable(logging.WARNING)  # of papermill and nbconvert: no claims
    out = arguments.folder.expanduser().resolve()
    try:
        if not any((out / "runs").glob("*/record.json")):
            errors.refuse(
                f"a results folder with finished runs in {out}",
                "none",
                "Name one run_all.py wrote.",
            )
        made = []
        for claim in claims_of(out):
            made.append(claim)
            if not arguments.json and (claim.verdict != claims.HOLDS or not arguments.quiet):
                print(claim, flush=True)
    except errors.InputError as error:
        print(f"verify.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(checked_results.as_json(made))
    counts = {
        verdict: sum(claim.verdict == verdict for claim in made) for verdict in claims.VERDICTS
    }
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    print(f"{len(made)} claims: {said}.", file=sys.stderr if arguments.json else sys.stdout)
    return int(counts[claims.DIFFERS] > 0)


def read_arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description="Compute the claims of a results folder again, and say which hold."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=paths.repository_root() / "results")
    parser.add_argument("--json", action="store_true", help="claims as JSON, for a program")
    parser.add_argument("--quiet", action="store_true", help="leave out the claims that hold")
    return parser.parse_args(words)


def claims_of(out: Path) -> Iterator[claims.Claim]:
    """Yield all claims of a results folder, the quick ones first."""
    from helpers.training import checked_runs  # torch, which `--help` should not wait for

    os.environ["RESULTS_DIR"] = str(out)
    yield checked_results.of_readme()
    yield from checked_results.of_steps(out)
    for path in sorted(path for path in (out / "cohort").glob("*") if path.is_dir()):
        yield from checked_runs.of_cohort(path.name)
    for path in sorted((out / "runs").glob("*/predictions.parquet")):
        yield from checked_runs.of_run(path.parent.name)
    yield checked_results.of_index(out)
    yield from checked_results.of_cards(out)
    yield from pages(out)
    for number in ("04", "05"):
        yield from recomputed(out, number)


def pages(out: Path) -> Iterator[claims.Claim]:
    """Yield of each executed notebook whether its page shows it."""
    import nbformat

    for path in sorted((out / "notebooks").glob("[0-9]*.ipynb")):
        if path.name.endswith(".failed.ipynb"):
            continue
        try:
            again = run_notebook.page(nbformat.read(path, as_version=4), path.stem)
        except (ValueError, OSError, AttributeError, KeyError) as error:
            yield claims.Claim(f"notebooks/{path.name}", claims.DIFFERS, f"unreadable ({error})")
            continue
        yield checked_results.of_page(path, again)


def recomputed(out: Path, number: str) -> Iterator[claims.Claim]:
    """Yield the claims of an analysis notebook, executed again into a temporary folder."""
    source = notebook_files.notebooks()[number]
    stored, about = out / "notebooks" / source.name, f"tables and sentences of notebook {number}"
    try:
        parameters = checked_results.parameters_of(stored)
        unknown = set(parameters) - set(notebook_files.default_parameters(source))
        if unknown:
            errors.refuse(
                "parameters of this version", sorted(unknown), "Use the version it names."
            )
    except errors.InputError as error:
        yield claims.Claim(about, claims.UNCHECKED, str(error))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        again = Path(folder).resolve()
        for name in OWN:
            if (out / name).is_dir():
                (again / name).symlink_to(out / name, target_is_directory=True)
        if number == "05":  # reads the replicates of 04
            (again / "tables").mkdir()
            for path in (out / "tables").glob("04_replicates*"):
                (again / "tables" / path.name).symlink_to(path)
        os.environ["RESULTS_DIR"] = str(again)
        executed, complaint = run_notebook.execute(source, parameters)
        os.environ["RESULTS_DIR"] = str(out)
        if complaint:
            yield claims.Claim(about, claims.DIFFERS, f"it cannot be executed: {complaint}")
            return
        run_notebook.clean(executed)
        yield from checked_results.of_tables(out, again, number)
        yield checked_results.of_text(stored, executed)


if __name__ == "__main__":
    sys.exit(main())
