"""Plant privacy faults one at a time in a copy of the package and demand that the unit tests go
red.

    make mutants          (or: python tests/mutants.py [--only TEXT] [--jobs 2])

Each fault of `privacy_faults.py` is one exact replacement in one helper. For each the tests it
names, a few seconds' worth, are run on the copy, and one of them must fail. The last line says how
many were caught; the exit status is 1 unless all were. To add a fault, add an entry.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from privacy_faults import FAULTS, Fault

HEAVY = [
    "pytest",
    "torch",
    "torch._dynamo",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "scipy.optimize",
    "dp_accounting.pld.privacy_loss_distribution",
    "opacus",
    "opacus.accountants",
    "sklearn.metrics",
    "safetensors.torch",
    "pydantic",
    "yaml",
    "tqdm",
    "PIL.Image",
    "matplotlib.pyplot",
]
ROOT = Path(__file__).resolve().parents[1]


NO_FAULT = Fault(
    "(no fault planted)",
    "privacy.clipping",
    "",
    "",
    tuple(sorted({test for fault in FAULTS for test in fault.tests})),
)


def catch(fault: Fault) -> tuple[str, float]:
    """Return the test that caught a fault, or "" if none did, and the seconds it took.

    To be called in a process of its own.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        for part in ("helpers", "data_manifests", "notebooks", "profiles", "tests/unit"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "run_all.py", "run_notebook.py"):
            shutil.copy(ROOT / name, copy)
        path = copy.joinpath("helpers", *fault.module.split(".")).with_suffix(".py")
        source = path.read_text(encoding="utf-8")
        if fault.right and source.count(fault.right) != 1:
            return (
                f"NOT PLANTED: its text stands {source.count(fault.right)} times in {path.name}",
                0.0,
            )
        path.write_text(
            source.replace(fault.right, fault.wrong) if fault.right else source, encoding="utf-8"
        )
        tests = [
            f"tests/unit/{module}.py{colons}{name}"
            for module, colons, name in (test.partition("::") for test in fault.tests)
        ]
        os.chdir(copy)
        # a job in the background ignores it, and tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, str(copy))
        # nbval alone takes seconds to load
        os.environ |= {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        output = io.StringIO()
        for descriptor in (1, 2):  # progress bars write at the end of the process
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = pytest.main(
                [
                    "-x",
                    "-q",
                    "-p",
                    "no:cacheprovider",
                    f"--basetemp={copy / 'tmp'}",
                    "-m",
                    "not slow",
                    *tests,
                ]
            )
        verdict = {0: "", 1: _red_test(output.getvalue())}.get(
            int(code), f"NOT TRIED: pytest ended with {int(code)}: {output.getvalue()[-300:]}"
        )
        if Path(sys.modules["helpers"].__file__).parent != copy / "helpers":
            verdict = "NOT TRIED: another copy of the helpers was imported"
        os.chdir(ROOT)
    return verdict, time.monotonic() - began


def _red_test(output: str) -> str:
    """Return the test that went red.

    "NOT CAUGHT: ..." if it did because the planted code is no longer Python or crashed.
    """
    red_line = re.search(r"^(?:FAILED|ERROR) tests/unit/(.+?)(?: - (.*))?$", output, re.MULTILINE)
    reason = re.search(r"^E +(\S+)", output, re.MULTILINE)
    error = reason.group(1).rstrip(":") if reason else ""
    is_crash = error.endswith(
        ("NameError", "SyntaxError", "IndexError", "TypeError", "AttributeError", "ImportError")
    )
    return (f"NOT CAUGHT: it crashed with {error} in " if is_crash else "") + (
        red_line.group(1) if red_line else "a test"
    )


def main() -> int:
    """Try the faults; return 0 if all were caught."""
    parser = argparse.ArgumentParser(
        description="Plant privacy faults and see whether the unit tests notice."
    )
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="side by side (default: one a core)"
    )
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    processes = multiprocessing.get_context("forkserver")
    # imported once; a process of its own for each fault is then made in no time
    processes.set_forkserver_preload(HEAVY)
    n_caught, began = 0, time.monotonic()
    with ProcessPoolExecutor(arguments.jobs, mp_context=processes, max_tasks_per_child=1) as pool:
        untouched = pool.submit(catch, NO_FAULT)
        verdicts = pool.map(catch, faults)
        if red := untouched.result()[0]:
            print(
                f"Expected the tests to pass while no fault is planted; got {red}. Mend that"
                " first.",
                file=sys.stderr,
            )
            pool.shutdown(cancel_futures=True)
            return 1
        print(f"{'fault':62} seconds caught by", flush=True)
        for fault, (test, seconds) in zip(faults, verdicts):
            is_caught = bool(test) and not test.startswith("NOT")
            n_caught += is_caught
            print(f"{fault.name:62} {seconds:7.0f} {test or 'NOT CAUGHT'}", flush=True)
    print(f"{n_caught} of {len(faults)} caught in {(time.monotonic() - began) / 60:.1f} minutes")
    return 0 if n_caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
