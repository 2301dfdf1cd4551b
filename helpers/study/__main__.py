"""The report of a results folder, written again: python -m helpers.study results

In: a results folder of a study, or one into which notebook 04 was run with other people's
predictions. Out: `index.html` in it; where the folder has a crate, that is renewed. Prints what the
folder would disclose.
"""

import argparse
import sys
from pathlib import Path

from helpers.core import errors, files
from helpers.study import crate, disclosure, report


def main(words: list[str] | None = None) -> int:
    """Run the command line.

    Return 0, 1 where the folder would disclose something, 2 for a folder without results.
    """
    arguments = read_arguments(words)
    out = arguments.folder
    try:
        title, steps = title_and_steps(out)
        title = arguments.title or title
        files.write_text(out / "index.html", report.of_folder(out, title, steps))
    except errors.InputError as error:
        print(f"python -m helpers.study: {error}", file=sys.stderr)
        return 2
    if (out / crate.NAME).is_file():
        crate.write(out, title)
    print(f"Report: {out / 'index.html'}")
    found = disclosure.findings(out)
    for line in found:
        print(f"Pass nothing on: {line}", file=sys.stderr)
    return 1 if found else 0


def title_and_steps(out: Path) -> tuple[str, list[str]]:
    """Return title and steps of a results folder: of its page, else of its notebooks.

    Args:
        out: the folder.
    """
    if (out / "index.html").is_file():
        return report.said_by((out / "index.html").read_text(encoding="utf-8"))
    steps = sorted(path.stem for path in (out / "notebooks").glob("[0-9]*.html"))
    return ("Study" if steps else "Models trained elsewhere"), steps


def read_arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.study", description="Write a results folder's report again."
    )
    parser.add_argument("folder", type=Path, help="with tables/ of notebook 04")
    parser.add_argument("--title", help="of the page (default: as it is)")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
