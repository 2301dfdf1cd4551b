"""What README says can be done, can be done."""

import re
import textwrap

from helpers import manifests, profiles, runs

README = (runs.repository_root() / "README.md").read_text(encoding="utf-8")


def test_manifest_example_is_a_manifest(tmp_path):
    example = re.search(r"    name: our_hospital\n(    .*\n)+", README).group()
    path = tmp_path / "our_hospital.yaml"
    path.write_text(textwrap.dedent(example), encoding="utf-8")
    assert list(manifests.read(path).findings) == ["effusion"]


def test_every_setting_shown_is_a_parameter_of_its_notebook():
    settings = re.findall(r"(?:--set |`)(?:(\d\d)\.)?([A-Z_]+)=", README)
    assert len(settings) >= 3
    defaults = {number: profiles.default_parameters(path) for number, path in profiles.notebooks().items()}
    for number, name in settings:
        assert name in defaults[number or "03"], name


def test_every_make_target_shown_exists():
    makefile = (runs.repository_root() / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", README, re.MULTILINE):
        assert f"\n{''.join(target)}:" in makefile
