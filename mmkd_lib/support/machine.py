"""What this machine has of what the handbook needs: packages, a kernel, free disk."""

import importlib.metadata
import re
import shutil
import sys
from pathlib import Path


def packages():
    """name -> version, or None where it is not installed, of every package that the library requires."""
    required = [text for text in importlib.metadata.requires("mmkd_lib") or [] if "extra ==" not in text]
    return {name: _version(name) for name in (re.match(r"[\w.-]+", text).group() for text in required)}


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def kernel():
    """The folder of the Jupyter kernel that executes notebooks, which may not be there."""
    return Path(sys.prefix) / "share" / "jupyter" / "kernels" / "python3"


def free_disk(folder):
    """GiB that are free where a folder lies."""
    return shutil.disk_usage(folder).free / 2**30
