"""Fingerprints of code: what a computation does, whatever its prose says and whichever Python reads it.

They reach as far as names do: a definition stands in the fingerprint of all who use it, directly or not, and one that
nobody uses there may come, change and go. Docstrings, comments, the sentences of errors, and the place and reason of an
option are prose and do not count.
"""

import ast
import csv
import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from . import paths
from .draws import digest
from .errors import BadInput

PACKAGE = __package__
PROSE = {"option": slice(3, 5), "BadInput": slice(0, 1)}  # a function's arguments that only readers read
ROOT = Path(__file__).parent
CARRIED = ("today", "known as", "runs compared", "on")
REST = ""  # in the place of a name: the statements of a module that define none


class Source(NamedTuple):
    """One module. A definition is (shape, the names that it uses); `a.b` is used as the pair (a, b)."""

    definitions: dict  # name -> definition; REST -> what runs on import
    imports: dict  # name -> (module of this package, name there or None for the module itself)


def config_key(config):
    """The key of a configuration (content for JSON): a hash of all that decides an experiment's numbers."""
    return f"{digest(json.dumps(config, sort_keys=True)):032x}"[:16]


def code_fingerprint(*roots, without=()):
    """Hash of everything of this package that the roots use: modules (dotted names below it), or single names in them
    ("metrics:score"). Modules in `without` are not followed into."""
    seen, done, waiting = {}, set(), [(*root.split(":"), None)[:2] for root in roots]
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
            seen[asked], used = source.definitions[name]
            waiting += [(module, REST), *(_where(source, module, one) for one in used)]
    text = "\n".join(f"{module}:{name}\n{seen[module, name]}" for module, name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _where(source, module, used):
    """(module, name) of a name, or of the pair (a, b) of `a.b`, that a definition uses."""
    first, attribute = used if isinstance(used, tuple) else (used, None)
    there, name = source.imports.get(first, (module, first))
    return (there, attribute) if name is None else (there, name)


def _file(module):
    """The file of a module such as `methods.corrkd`, or None."""
    base = ROOT.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((file for file in candidates if module and file.exists()), None)


@cache
def _read(module):
    """A module's definitions without prose, and what it imports of this package."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    package = module.split(".") if _file(module).name == "__init__.py" else module.split(".")[:-1]
    imports, parts = {}, {REST: []}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROSE:
            del node.args[PROSE[node.func.id]]
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                inside = f"{base}.{alias.name}".strip(".")
                imports[alias.asname or alias.name] = (inside, None) if _file(inside) else (base, alias.name)
    for node in tree.body:
        for name in _defined(node) or [REST]:
            parts.setdefault(name, []).append(node)
    known = {*parts, *imports}
    return Source({name: _definition(nodes, known) for name, nodes in parts.items()}, imports)


def _defined(node):
    """The names that a statement of a module defines; those of this package that it imports are not made by it."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [] if getattr(node, "level", 0) else [(a.asname or a.name).split(".")[0] for a in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


def _definition(nodes, known):
    """(shape, the known names that it uses) of the statements behind a name."""
    walked = [node for statement in nodes for node in ast.walk(statement)]
    pairs = {n.value: (n.value.id, n.attr) for n in walked if isinstance(n, ast.Attribute) and _is_name(n.value)}
    used = {*pairs.values(), *(n.id for n in walked if _is_name(n) and n not in pairs)}
    shape = repr([_shape(node) for node in nodes if not getattr(node, "level", 0)])
    return shape, sorted((one for one in used if (one[0] if isinstance(one, tuple) else one) in known), key=str)


def _is_name(node):
    return isinstance(node, ast.Name)


def _shape(node):
    """A syntax tree as nested tuples, without what is empty: no version of Python adds to it by adding a field, and
    none changes it by writing source in another way (as `ast.unparse` and `ast.dump` may)."""
    if isinstance(node, ast.Constant):
        return "Constant", repr(node.value)
    if isinstance(node, ast.AST):
        filled = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return type(node).__name__, *((name, _shape(value)) for name, value in filled)
    return tuple(map(_shape, node)) if isinstance(node, list) else node


# --- carried fingerprints --------------------------------------------------------------------------------------------


def known_as(fingerprint):
    """The name of a fingerprint: that of the older code whose numbers it was shown to give (`carry.carry`), or its own.

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
