"""Fingerprints of code: what it computes, whatever its prose says, wherever it stands, whichever Python reads it.

A fingerprint covers every definition that the code uses, directly or through others: their names and their syntax
trees. Adding, changing or removing an unused definition does not change it, nor does moving one to another module.
Docstrings, comments, the sentences of errors, and the place and reason of an option are prose and do not count.
"""

import ast
import csv
import hashlib
import json
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from . import paths
from .draws import digest
from .errors import BadInput

PACKAGE = __package__.split(".")[0]
PROSE = {"option": slice(3, 5), "BadInput": slice(0, 1)}  # a function's arguments that only readers read
ROOT = Path(__file__).parent.parent
CARRIED = ("today", "known as", "runs compared", "on")
EMPTY = "()"  # the shape of nothing
REST = ""  # in the place of a name: the statements of a module that define none


class Source(NamedTuple):
    """One module. A definition is (shape, the names that it uses), each with attributes: `a.b.c` is (a, b, c)."""

    definitions: dict  # name -> definition; REST -> what runs on import
    imports: dict  # name -> (module of this package, name there or None for the module itself)


def config_key(config):
    """The key of a configuration (content for JSON): a hash of all that decides an experiment's numbers."""
    return f"{digest(json.dumps(config, sort_keys=True)):032x}"[:16]


def code_fingerprint(*roots, without=()):
    """Hash of everything of this package that the roots use: modules (their `__name__`, or what follows the package in
    it, or the path of a file that stands outside), or single names in them ("data.metrics:score"). Modules in `without`
    are not followed into."""
    roots, without = ([name.removeprefix(f"{PACKAGE}.") for name in names] for names in (roots, without))
    seen, done, waiting = set(), set(), [(*root.split(":"), None)[:2] for root in roots]
    while waiting:
        module, name = asked = waiting.pop()
        if asked in done or module in without:
            continue
        done.add(asked)
        source = _read(module)
        if name in source.imports:  # made elsewhere
            waiting.append(source.imports[name])
        elif name not in source.definitions:  # a whole module, or a name that is made in no way we can see
            waiting += [(module, one) for one in source.definitions]
        else:
            shape, used = source.definitions[name]
            seen |= {f"{name}\n{shape}"} if shape != EMPTY else set()
            waiting += [(module, REST), *(_where(source, module, one)[:2] for one in used)]
    return hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest()[:16]


def _where(source, module, used):
    """(module, name, attributes left) of a used name: imports of this package, and packages in packages, resolved."""
    first, *attributes = used
    there, name = source.imports.get(first, (module, first))
    while name is None and attributes:
        inside = f"{there}.{attributes[0]}".strip(".")
        there, name = (inside, None) if _file(inside) else (there, attributes[0])
        attributes = attributes[1:]
    return *_home(there, name), attributes


def _home(module, name):
    """Where a name of the package itself, which are imported when they are used, comes from."""
    exported = getattr(sys.modules.get(PACKAGE), "EXPORTED", {}) if not module else {}
    return exported.get(name, module), name


def _file(module):
    """The file of a module such as `methods.corrkd`, of a path such as `own/method.py`, or None."""
    if module.endswith(".py"):
        return Path(module)
    base = ROOT.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((file for file in candidates if module and file.exists()), None)


def _read(module):
    """A module's `Source`; that of a file outside of the package is read anew when the file changes."""
    file = _file(module)
    return _parsed(module, file, file.stat().st_mtime_ns if module.endswith(".py") else 0)


@cache
def _parsed(module, file, _time):
    """A module's definitions without prose, and what it imports of this package."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = [] if module.endswith(".py") else module.split(".")
    package = inside if file.name == "__init__.py" else inside[:-1]
    imports, parts = {}, {REST: []}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROSE:
            del node.args[PROSE[node.func.id]]
        imports |= _imported(node, package)
    for node in tree.body:
        for name in _defined(node) or [REST]:
            parts.setdefault(name, []).append(node)
    source = Source({}, imports)
    for name, nodes in parts.items():
        source.definitions[name] = _definition(nodes, source, module, {*parts, *imports})
    return source


def _imported(node, package):
    """What a statement imports of this package, relatively or by its name: name -> (module, name there or None)."""
    if isinstance(node, ast.Import):
        own = [alias for alias in node.names if _is_own(alias.name)]
        # `import mmkd_lib.losses` makes the name mmkd_lib, the package; with `as` it makes the module
        return {a.asname or PACKAGE: (_below(a.name) if a.asname else "", None) for a in own}
    if not isinstance(node, ast.ImportFrom) or not (node.level or _is_own(node.module)):
        return {}
    above = package[: len(package) - node.level + 1] if node.level else []
    named = (node.module or "") if node.level else _below(node.module)
    base, found = ".".join([*above, named]).strip("."), {}
    for alias in node.names:
        inside = f"{base}.{alias.name}".strip(".")
        found[alias.asname or alias.name] = (inside, None) if _file(inside) else _home(base, alias.name)
    return found


def _is_own(module):
    return module.split(".")[0] == PACKAGE


def _below(module):
    """`losses` for mmkd_lib.losses; empty for the package itself."""
    return module.partition(".")[2]


def _defined(node):
    """The names that a statement of a module defines; those of this package that it imports are not made by it."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [] if _imported(node, []) else [(a.asname or a.name).split(".")[0] for a in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


def _definition(nodes, source, module, known):
    """(shape, the known names that it uses) of the statements behind a name."""
    used = set()

    def shape(node):
        """A syntax tree as nested tuples, without what is empty: no version of Python adds to it by adding a field, and
        none changes it by writing source in another way (as `ast.unparse` and `ast.dump` may). What is imported of this
        package goes by its own name: `losses.kl`, `kl` and `kl as divergence` are one."""
        if isinstance(node, list):
            return tuple(shape(one) for one in node if not _is_import(one))
        if chain := _chain(node):
            if chain[0] not in known:
                return _plain(node)
            used.add(chain)
            if chain[0] in source.imports:
                there, name, rest = _where(source, module, chain)
                return ("Own", name or there.rpartition(".")[2], *rest)
            return _plain(node)
        if isinstance(node, ast.AST):
            filled = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
            if isinstance(node, ast.Constant):
                return "Constant", repr(node.value)
            return type(node).__name__, *((name, shape(value)) for name, value in filled)
        return node

    return repr(shape(nodes)), sorted(used)


def _is_import(node):
    return isinstance(node, (ast.Import, ast.ImportFrom)) and bool(_imported(node, []))


def _chain(node):
    """(a, b, c) of `a.b.c`, whose attributes are read from a name; None of anything else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


def _plain(node):
    """The shape of a chain of attributes as it is written."""
    if isinstance(node, ast.Attribute):
        return "Attribute", ("value", _plain(node.value)), ("attr", node.attr), ("ctx", (type(node.ctx).__name__,))
    return "Name", ("id", node.id), ("ctx", (type(node.ctx).__name__,))


# --- carried fingerprints --------------------------------------------------------------------------------------------


def known_as(fingerprint):
    """The alias of a fingerprint: that of older code proven to give the same numbers (`carry.carry`), otherwise itself.

    A record's key holds the fingerprint of the code that made it. Where code changes and no number does, since another
    method needs something of the engine, records need not be made again.
    """
    return {row["today"]: row["known as"] for row in carried()}.get(fingerprint, fingerprint)


def carried():
    """The fingerprints that go by another name, as dicts of `CARRIED`; none outside of a handbook."""
    try:
        file = paths.records_folder() / "carried.csv"
        return _rows(file, file.stat().st_mtime_ns)
    except (BadInput, FileNotFoundError):
        return ()


def write_carried(rows):
    """Write down all fingerprints that go by another name."""
    with (paths.records_folder() / "carried.csv").open("w", newline="") as stream:
        sheet = csv.DictWriter(stream, CARRIED, lineterminator="\n")
        sheet.writeheader()
        sheet.writerows(sorted(rows, key=lambda row: (row["known as"], row["today"])))


@lru_cache(maxsize=4)
def _rows(file, _time):
    with file.open(newline="") as stream:
        return tuple(csv.DictReader(stream))
