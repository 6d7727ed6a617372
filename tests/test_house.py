"""The house: imports go one way, public things are documented, nothing is hidden."""

import ast
import subprocess
import sys

import pytest

# a module may import only what stands above it
ORDER = ("support", "data", "methods", "training", "runs", "results", "book", "bench", "cli")


def modules(root):
    """(room in ORDER, path, syntax tree) of every module of the library."""
    for path in sorted((root / "mmkd_lib").rglob("*.py")):
        parts = path.relative_to(root / "mmkd_lib").with_suffix("").parts
        if parts != ("__init__",):
            yield parts[0], path, ast.parse(path.read_text())


def imported_rooms(path, tree, root):
    """Rooms of the library that a module imports."""
    package = path.relative_to(root / "mmkd_lib").parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple(
                (node.module or "").split(".") if node.module else ()
            )
            yield from [base[0]] if base else [alias.name for alias in node.names]


def test_imports_go_one_way(root):
    for room, path, tree in modules(root):
        for other in imported_rooms(path, tree, root):
            assert ORDER.index(other) <= ORDER.index(room), f"{path.name} looks back at {other}"


def test_every_room_is_in_the_readme(root):
    text = (root / "README.md").read_text()
    for room in ORDER:
        assert f"\n  {room}/ " in text, f"{room} is missing in the README's list"


def test_every_room_is_a_package_that_has_its_place(root):
    library = root / "mmkd_lib"
    assert {path.parent.name for path in library.glob("*/__init__.py")} == set(ORDER)
    assert [path.name for path in library.glob("*.py")] == ["__init__.py"]


def test_the_command_starts_without_what_only_some_commands_need():
    """torch alone takes seconds."""
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'papermill', 'nbformat', 'IPython'}"
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, mmkd_lib.cli; print({heavy} & set(sys.modules) or 'nothing')"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "nothing\n"


def test_public_functions_and_modules_say_what_they_do(root):
    for _, path, tree in modules(root):
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not node.name.startswith("_")):
                small = isinstance(node, ast.FunctionDef) and len(node.body) == 1
                assert small or ast.get_docstring(node), f"{path.name}: {node.name}"


@pytest.mark.parametrize(
    "forbidden", ["filterwarnings", "except:", 'simplefilter("ignore', "pickle.load", "allow_pickle=True"]
)
def test_nothing_is_hidden(root, forbidden):
    for _, path, _ in modules(root):
        assert forbidden not in path.read_text(), path
