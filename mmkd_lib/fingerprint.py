"""Fingerprints of code: what a module computes, whatever its prose says and whichever Python reads it. Docstrings,
comments, the sentences of errors, and the place and reason of an option are prose."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from .draws import digest

PACKAGE = __package__
PROSE = {"option": slice(3, 5), "BadInput": slice(0, 1)}  # a function's arguments that only readers read
ROOT = Path(__file__).parent


def config_key(config):
    """The key of a configuration (content for JSON): a hash of all that decides an experiment's numbers."""
    return f"{digest(json.dumps(config, sort_keys=True)):032x}"[:16]


def code_fingerprint(*modules, follow=True):
    """Hash of modules of this package (dotted names below it), prose left out; with `follow` also of everything of the
    package that they import."""
    seen, waiting = {}, list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen[module], imported = _read(module)
            waiting += imported if follow else []
    text = "\n".join(f"{name}\n{seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file(module):
    """The file of a module such as `methods.corrkd`, or None."""
    base = ROOT.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((file for file in candidates if module and file.exists()), None)


@cache
def _read(module):
    """(shape of the source without prose, modules of this package that it imports)."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    package = module.split(".") if _file(module).name == "__init__.py" else module.split(".")[:-1]
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROSE:
            del node.args[PROSE[node.func.id]]
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            imported |= {".".join(base), *(".".join([*base, alias.name]) for alias in node.names)}
    return repr(_shape(tree)), tuple(sorted(name for name in imported if _file(name)))


def _shape(node):
    """A syntax tree as nested tuples, without what is empty: no version of Python adds to it by adding a field, and
    none changes it by writing source in another way (as `ast.unparse` and `ast.dump` may)."""
    if isinstance(node, ast.Constant):
        return "Constant", repr(node.value)
    if isinstance(node, ast.AST):
        filled = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return type(node).__name__, *((name, _shape(value)) for name, value in filled)
    return tuple(map(_shape, node)) if isinstance(node, list) else node
