"""What a fresh interpreter loads with the imports of the notebooks that analyse."""

import subprocess
import sys

import pytest

from helpers.study import notebook_files

UNKNOWN = (
    "torch",
    "nibabel",
    "pydicom",
    "helpers.training",
    "helpers.data.build_cohort",
    "helpers.data.images.decode_film",
    "helpers.data.images.decode_volume",
    "helpers.data.synthetic",
)


@pytest.mark.parametrize("number", ["04", "05"])
def test_notebooks_of_the_analysis_load_no_torch_no_decoder_and_no_phantom(number):
    first, *_ = notebook_files.code_cells(notebook_files.notebooks()[number])
    code = f"{first}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "helpers.analysis.study_results" in loaded
    assert not loaded.intersection(UNKNOWN)
