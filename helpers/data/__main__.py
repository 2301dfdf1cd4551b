"""A data set on the command line, before anything is built from it:

python -m helpers.data new TABLE.csv
python -m helpers.data check data_manifests/mine.yaml --data-root FOLDER
"""

import argparse
import sys
from pathlib import Path

from helpers.core import errors
from helpers.data import manifests
from helpers.data.first_look import check_source, new_manifest


def main(words: list[str] | None = None) -> int:
    """Run the command line.

    Return 0, 1 for data or a manifest that would be refused, 2 for a wrong use.
    """
    arguments = read_arguments(words)
    try:
        if arguments.command == "new":
            print(
                new_manifest.write(arguments.table, arguments.name, arguments.images, arguments.to)
            )
            return 0
        manifest = manifests.read(arguments.manifest)
        return check(manifest, arguments.data_root)
    except errors.InputError as error:
        print(f"python -m helpers.data: {error}", file=sys.stderr)
        is_there = arguments.command == "check" and Path(arguments.manifest).is_file()
        return 1 if is_there else 2
    except OSError as error:
        print(
            f"python -m helpers.data: {error}. Check the place and your rights to it.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130


def check(manifest: manifests.Manifest, data_root: str | None) -> int:
    """Print what is known of a data set, as far as it is not refused; return 0, or 1 if it is."""
    latest, refusal = None, ""
    try:
        for stage in check_source.stages(manifest, data_root):
            latest = stage
    except errors.InputError as error:
        refusal = str(error)
    if latest:
        print("\n".join(check_source.lines(latest)), flush=True)
    if refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 1
    print("Nothing is refused before images are opened.")
    return 0


def read_arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.data", description="Describe and check a data set of your own."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="write a first manifest from a table")
    new.add_argument("table", type=Path, help="CSV, Excel or Parquet, one row an image")
    new.add_argument("--name", help="of the manifest (default: the table's)")
    new.add_argument("--images", type=Path, help="folder of the images (default: searched for)")
    new.add_argument(
        "--to",
        type=Path,
        default=manifests.manifests_dir(),
        help="folder of the manifest (default: data_manifests)",
    )
    check = commands.add_parser("check", help="see in seconds what is there and what is suspicious")
    check.add_argument("manifest", help="the path of a manifest, or a shipped one's name")
    check.add_argument("--data-root", metavar="FOLDER", help="folder of the data set's files")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
