"""What the project says about itself in several files must agree. Needs no git: a plain copy will do."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml  # comes with jupytext
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted((ROOT / "mmkd_lib").rglob("*.py"))

# Modules whose package has another name, or comes inside another one that we name.
PACKAGE_OF = {
    "sklearn": "scikit-learn",
    "IPython": "jupyterlab",  # by way of ipykernel
    "nbformat": "jupytext",
    "nbclient": "papermill",
    "threadpoolctl": "scikit-learn",
}


def ranges(lines: list[str]) -> dict[str, SpecifierSet]:
    """Requirement lines as {package: range}; the order within a range does not count."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


RUNTIME = ranges(PROJECT["dependencies"])
EXTRAS = {extra: ranges(lines) for extra, lines in PROJECT["optional-dependencies"].items()}


@pytest.fixture(scope="module")
def environment() -> tuple[dict[str, SpecifierSet], list[str]]:
    """environment.yml as conda's own packages and the lines it hands to pip."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = ranges([line for line in dependencies if isinstance(line, str)])
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return conda, pip


def test_environment_names_the_packages_and_ranges_of_pyproject(environment):
    _, pip = environment
    assert pip[-1] == "-e ."
    assert ranges(pip[:-1]) == RUNTIME


def test_python_version_is_the_same_everywhere(environment):
    conda, _ = environment
    assert PROJECT["requires-python"] == ">=3.11"
    assert conda["python"] == SpecifierSet(PROJECT["requires-python"])
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text()


def test_packages_are_ranges_not_pins():
    for packages in [RUNTIME, *EXTRAS.values()]:
        for package, specifiers in packages.items():
            operators = {specifier.operator for specifier in specifiers}
            assert ">=" in operators, f"{package} has no lower bound"
            assert operators <= {">=", "<"}, f"{package} is pinned"


def test_extras_are_no_runtime_packages():
    for extra, packages in EXTRAS.items():
        assert not packages.keys() & RUNTIME.keys(), extra


# What only an extra installs may be imported where it is used, with a sentence for whoever lacks it (tested there).
LAZY = {"distributed": ("workers.py", "cluster", "dask"), "transformers": ("text.py", "bert", "transformers")}


def third_party_imports(module: Path) -> set[str]:
    """Top-level names of everything that a module imports, at any depth, from outside."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(), module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"mmkd_lib"}


def test_library_imports_nothing_but_runtime_packages():
    imported = {name: module for module in MODULES for name in third_party_imports(module)}
    assert "torch" in imported, "the scan found no import of torch, so it has not seen the library"
    for name, (module, extra, package) in LAZY.items():
        assert imported.pop(name).name == module
        assert package in EXTRAS[extra]
    for name, module in imported.items():
        package = canonicalize_name(PACKAGE_OF.get(name, name))
        assert package in RUNTIME, f"{module.relative_to(ROOT)} imports {name}, not in pyproject.toml"


def test_import_scan_sees_what_is_hidden(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("import os, ot.lp\nfrom . import batch\ndef f():\n    from hypothesis import given\n")
    assert third_party_imports(module) == {"ot", "hypothesis"}


def test_readme_names_targets_that_make_has():
    readme = (ROOT / "README.md").read_text()
    blocks = "\n".join(re.findall(r"^```.*?\n(.*?)^```", readme, re.DOTALL | re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", readme)) | set(re.findall(r"\bmake ([a-z-]+)", blocks))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"handbook", "test"} <= named <= targets


def test_wheel_holds_the_library_and_nothing_else(tmp_path):
    copy = tmp_path / "copy"  # setuptools leaves its working files beside what it builds
    for folder in ["mmkd_lib", "notebooks", "tests"]:
        shutil.copytree(ROOT / folder, copy / folder)
    for file in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / file, copy)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        inside = [name for name in wheel.namelist() if ".dist-info/" not in name]
        (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        assert "mmkd = mmkd_lib.cli:main" in wheel.read(entry_points).decode()
    assert sorted(inside) == sorted(module.relative_to(ROOT).as_posix() for module in MODULES)
