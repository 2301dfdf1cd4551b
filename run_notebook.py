"""Execute notebooks, each in a kernel of its own, and store them without traces of the machine.

`run_all.py` starts one such process for each step, with threads and `RESULTS_DIR` in its
environment:

    python run_notebook.py notebooks/03_dp_training.ipynb --to results/notebooks/03-eps1 \\
        --parameters '{"EPSILON": 1}'

`make notebooks` renews the stored outputs in place, with the notebooks' defaults:

    python run_notebook.py notebooks/*.ipynb

In: notebooks, parameters. Out: executed notebooks and pages. A wrong parameter or a failed cell is
one line on standard error.
"""

import argparse
import base64
import contextlib
import copy
import importlib
import io
import json
import os
import re
import socket
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

from helpers.core import errors, files, machine
from helpers.study import disclosure, notebook_files

CELL_SECONDS = 7 * 24 * 3600  # a cell that trains may take days, but none may wait for ever
# Measured: glibc would give large blocks back to the system after each training step, and take them
# again in the next; threads of OpenMP that spin for long make training ten times slower where
# another program uses a core.
ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**28),
    "GOMP_SPINCOUNT": "3000",
}
WIDGET = "application/vnd.jupyter.widget-view+json"  # of no use without its kernel
SOCKET = "socket"  # a kernel's sockets are called so, with a number
# The page of a notebook without the scripts that its usual template loads from the network.
OFFLINE_PAGE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}"""


def main() -> int:
    """Read the command line.

    Return 0, or with one line on standard error 1 (a cell failed) or 2 (a wrong parameter).
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument(
        "--to",
        type=Path,
        help=(
            "path without ending for the executed .ipynb and its .html; "
            "without it, outputs are stored in the notebook itself"
        ),
    )
    parser.add_argument(
        "--parameters", type=json.loads, default={}, help="JSON, put in after the parameters cell"
    )
    parser.add_argument(
        "--end-with-parent", action="store_true", help="end when standard input closes"
    )
    arguments = parser.parse_args()
    if arguments.end_with_parent:
        threading.Thread(target=end_with_parent, daemon=True).start()
    for notebook in arguments.notebooks:
        if not arguments.to:
            print(notebook.stem, flush=True)
        try:
            for name in arguments.parameters:
                errors.one_of(
                    f"the parameter of {notebook.name}",
                    name,
                    sorted(notebook_files.default_parameters(notebook)),
                )
        except errors.InputError as error:
            print(error, file=sys.stderr)
            return 2
        complaint = run(notebook, arguments.to or notebook.with_suffix(""), arguments.parameters)
        if complaint:
            print(complaint, file=sys.stderr)
            return 1
    return 0


def end_with_parent() -> None:
    """End this process, and with it its kernel, when whoever started it is gone.

    Nobody would know of its files.
    """
    sys.stdin.read()
    os._exit(1)


def run(source: Path, target: Path, parameters: dict) -> str | None:
    """Execute a notebook and store `target`.ipynb, and `target`.html beside it unless it is the
    source itself.

    Returns:
        None, or what went wrong in one line; the notebook as far as it went is then at
        `target`.failed.ipynb.
    """
    executed, complaint = execute(source, parameters)
    clean(executed)
    without_folders(executed, parameters.get("DATA_ROOTS", {}))
    if complaint:
        failed = Path(f"{target}.failed.ipynb")
        write_notebook(failed, executed)
        return f"{complaint} (the notebook as far as it went: {failed})"
    executed.metadata["sources_sha256"] = notebook_files.sources_hash(source)
    write_notebook(Path(f"{target}.ipynb"), executed)
    if Path(f"{target}.ipynb").resolve() != source.resolve():
        files.write_text(Path(f"{target}.html"), page(executed, target.name))
    return None


def execute(source: Path, parameters: dict) -> tuple[dict, str | None]:
    """Return the executed notebook, and in one line what went wrong, if anything did."""
    import nbclient  # here, because starting up and `--help` should not wait for these
    import nbformat
    import papermill
    from traitlets.config import Config

    with temporary_folder() as folder, open(os.devnull, "w") as nowhere:
        set_environment(folder)
        # Over TCP each kernel warns of missing encryption; sockets on disk belong to the user
        # alone. Without a folder of their own (`ip`) they lie in the working directory, and kernels
        # started side by side get each other's messages.
        config = Config(
            {"KernelManager": {"transport": "ipc", "ip": f"{folder}/{SOCKET}"}}
            if holds_sockets(folder)
            else {}
        )
        result, complaint = Path(folder) / "executed.ipynb", None
        try:
            with contextlib.redirect_stderr(nowhere):
                papermill.execute_notebook(
                    source,
                    result,
                    parameters,
                    kernel_name="python3",
                    progress_bar=False,
                    execution_timeout=CELL_SECONDS,
                    config=config,
                    coalesce_streams=True,
                )
        except papermill.PapermillExecutionError as error:
            last = (str(error.evalue).strip().splitlines() or ["no message"])[-1]
            complaint = f"in cell [{error.exec_count}]: {error.ename}: {last}"
        except nbclient.exceptions.DeadKernelError:
            complaint = "its kernel was killed, perhaps for want of memory"
        except nbclient.exceptions.CellTimeoutError:
            complaint = f"a cell took longer than {CELL_SECONDS // 3600} hours"
        return nbformat.read(result if result.exists() else source, as_version=4), complaint


def temporary_folder() -> tempfile.TemporaryDirectory:
    """Return a folder for a kernel's sockets and caches: under $TMPDIR, or under /tmp where that
    can be written and the path under $TMPDIR is too long for a socket.

    Raises:
        InputError: no temporary folder can be written.
    """
    try:
        usual = tempfile.gettempdir()  # $TMPDIR, then /tmp and others, the first that is writable
    except FileNotFoundError as error:
        errors.refuse(
            "a folder for temporary files", str(error), "Set TMPDIR to one that you may write to."
        )
    folder = tempfile.TemporaryDirectory(prefix="k", dir=usual, ignore_cleanup_errors=True)
    if not holds_sockets(folder.name) and os.access("/tmp", os.W_OK | os.X_OK):
        folder.cleanup()
        folder = tempfile.TemporaryDirectory(prefix="k", dir="/tmp", ignore_cleanup_errors=True)
    return folder


def holds_sockets(folder: str) -> bool:
    """Return whether a kernel's sockets can lie in a folder: its path is short enough (about 100
    characters with theirs), and its file system has sockets.
    """
    if not hasattr(socket, "AF_UNIX"):
        return False
    trial = Path(folder, f"{SOCKET}-00")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(trial))
    except OSError:
        return False
    trial.unlink()
    return True


def set_environment(folder: str) -> None:
    """Set the environment of the kernel: of this very Python, unmoved by the user's other
    environments, settings and matplotlib back end, and in need of no folder but `folder`.
    """
    os.environ |= {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_RUNTIME_DIR": folder,
        "IPYTHONDIR": folder,
    } | ENVIRONMENT
    for name in ("JUPYTER_PATH", "MPLBACKEND"):
        os.environ.pop(name, None)
    if "OMP_NUM_THREADS" in os.environ or machine.cores() < (os.cpu_count() or 1):
        # a value that OpenMP and torch do not understand makes each of them warn in the notebook
        os.environ["OMP_NUM_THREADS"] = str(machine.threads())
    if not all(map(can_be_made, matplotlib_folders())):  # its warning would name the home folder
        os.environ["MPLCONFIGDIR"] = f"{folder}/matplotlib"
        with contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module("matplotlib.font_manager")  # a slow first import warns, too


def matplotlib_folders() -> list[Path]:
    """Return where matplotlib keeps its settings and its list of fonts."""
    if named := os.environ.get("MPLCONFIGDIR"):
        return [Path(named)]
    home = Path(os.path.expanduser("~"))
    return [
        Path(os.environ.get(name) or home / usual) / "matplotlib"
        for name, usual in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"))
    ]


def can_be_made(folder: Path) -> bool:
    """Return whether a folder, there or not yet, can be written to."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return folder.is_absolute() and nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def clean(notebook: dict) -> None:
    """Remove paths, times and the runner's own marks from an executed notebook.

    Count its code cells 1..n.
    """
    notebook.metadata = type(notebook.metadata)(
        kernelspec={
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        language_info={"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
    )
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    executed = [
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count
    ]
    for number, cell in enumerate(executed, 1):
        cell.execution_count = number
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = with_palette(output.data["image/png"])
    for cell in notebook.cells:
        cell.metadata = type(cell.metadata)(
            {
                key: cell.metadata[key]
                for key in ("tags", "alt", "jupyter")
                if cell.metadata.get(key)
            }
        )


def without_folders(notebook: dict, data_roots: dict[str, str]) -> None:
    """Name neither the home folder nor the folders of the data in an executed notebook.

    Args:
        notebook: changed in place.
        data_roots: DATA_ROOTS of notebook 01.
    """
    homes = {str(Path.home()), str(Path.home().resolve())} - {"/"}
    places = {folder: f"<folder of {name}>" for name, folder in data_roots.items()}
    places |= dict.fromkeys(homes, "~")  # which paths in parameters may begin with

    def scrubbed(text: str | list[str]) -> str | list[str]:
        if isinstance(text, list):
            return [scrubbed(line) for line in text]
        for folder in sorted(places, key=len, reverse=True):
            pattern = disclosure.folder_pattern(folder)
            text = re.sub(pattern, lambda _, folder=folder: places[folder], text)
        return text

    for cell in notebook.cells:
        cell.source = scrubbed(cell.source)
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = scrubbed(output.text)
            for kind in output.get("data", {}):
                if kind.startswith("text/"):
                    output.data[kind] = scrubbed(output.data[kind])


def with_palette(picture: str) -> str:
    """Return a PNG, in base64, with a palette of 128 colours: of drawings a third of the size."""
    stream = io.BytesIO()
    opened = Image.open(io.BytesIO(base64.b64decode(picture)))
    opened.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    smaller = base64.b64encode(stream.getvalue()).decode()
    return min(smaller, picture, key=len)


def write_notebook(path: Path, notebook: dict) -> None:
    """Write a notebook whole or not at all, in nbformat's stable order of keys."""
    import nbformat

    files.write_text(path, nbformat.writes(notebook) + "\n")


def without_formulas(source: str, formulas: list[str]) -> str:
    """Return Markdown with a mark for each formula ($...$, $$...$$); add its MathML to the list."""
    from docutils.utils.math import latex2mathml

    def mark(formula: re.Match) -> str:
        displayed, inline = formula.groups()
        latex, is_block = (displayed or inline).strip(), displayed is not None
        formulas.append(latex2mathml.tex2mathml(latex, as_block=is_block))
        return f"@formula{len(formulas) - 1}@"

    pattern = r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$`\n]+(?:\n[^$`\n]+)?)\$(?![\w$])"
    return re.sub(pattern, mark, source, flags=re.DOTALL)


def without_links_to_the_package(source: str) -> str:
    """Return Markdown in which a link from notebooks/ to a file of the package is its text and the
    file's name: a results folder does not hold the package.
    """
    return re.sub(
        r"\[([^\]]+)\]\(\.\./([^)\s]+)\)",
        lambda link: link[1] if link[1] == link[2] else f"{link[1]} (`{link[2]}`)",
        source,
    )


def page(notebook: dict, title: str) -> str:
    """Return a notebook as one HTML page that needs no network and no other file: images inside, no
    scripts.
    """
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_file="offline.html.j2",
        embed_images=True,
        extra_loaders=[DictLoader({"offline.html.j2": OFFLINE_PAGE})],
    )
    notebook = copy.deepcopy(notebook)
    notebook.metadata = notebook.metadata | {"title": title}
    formulas: list[str] = []  # as MathML, since the page has no MathJax
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = without_links_to_the_package(cell.source)
            cell.source = without_formulas(source, formulas)
    html, _ = exporter.from_notebook_node(notebook)
    return re.sub(r"@formula(\d+)@", lambda mark: formulas[int(mark.group(1))], html)


if __name__ == "__main__":
    sys.exit(main())
