"""Damage of records: what is wrong with one, and how it is set aside. Knows files, nothing of methods or training."""

import json
import zipfile
from contextlib import suppress

from ..support.errors import BadInput
from ..support.fingerprint import config_key
from .store import CORE, own_name, sha256


def damage(record):
    """name -> what is wrong with it, for every file of a record that is absent, cut off or not what was written."""
    held = {file.name: file for file in record.folder.glob("[!.]*")}
    wrong = {name: "is missing" for name in CORE if name not in held}
    digests = {} if _wrong(held["done"]) else json.loads(held["done"].read_text() or "{}")
    for name, file in held.items():
        if name not in digests or digests[name] != sha256(file):
            what = _wrong(file) or ("is not what was written" if name in digests else None)
            wrong |= {name: what} if what else {}
    if "config.json" not in wrong and config_key(record.config) != record.key:
        wrong["config.json"] = "is that of another key"
    tested, seen = (any(file.startswith(what) for file in held) for what in ("predictions-", "embeddings-"))
    if not any(file.startswith("scores-") for file in wrong):
        own = {text: said for text, said in record.scores.items() if " & on=" not in text}  # others leave scores only
        looked_at = {name for said in own.values() for name in said["metrics"]}
        wrong |= {} if tested or looked_at <= {"silhouette"} else {"predictions-*.npz": "is missing"}
        wrong |= {} if seen or "silhouette" not in looked_at else {"embeddings-*.npz": "is missing"}
    return wrong


def _wrong(file):
    """What is wrong with a file of a record by itself, or None."""
    try:
        if file.suffix == ".json" and not isinstance(json.loads(file.read_text()), dict):
            return "is no record of anything"
        if file.name == "done":
            json.loads(file.read_text() or "{}")
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                if bad := archive.testzip():
                    return f"holds a damaged array {bad}"
    except ValueError:
        return "is cut off or no JSON"
    except Exception:  # on damaged bytes zipfile and its decoders raise a dozen kinds of error
        return "is cut off or no archive"
    return None


def told(wrong):
    """`damage` in words."""
    return ", ".join(f"{name} {how}" for name, how in wrong.items())


def damaged(store):
    """What was set aside."""
    return sorted(store.folder.glob(".damaged/*"))


def set_damaged_aside(store, keys):
    """Move damaged records out of the way, or all that was made from their weights where the weights are well; returns
    a sentence for each. Records that another process is writing are skipped."""
    sentences = []
    for record in map(store.record, filter(store.holds, keys)):
        with suppress(FileNotFoundError):  # another process was faster
            if wrong := damage(record):
                sentences += _tidied(store, record, wrong)
    return sentences


def _tidied(store, record, wrong):
    """The sentence on a damaged record, when it is set aside; none where another process has it in hand."""
    what = f"record {record.key} is damaged ({told(wrong)})"
    try:
        with store.claimed([record.key]) as ours:
            if not ours:
                return []
            again = "trained" if _set_aside(store, record, set(wrong)) else "tested"
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadInput(f"{what} and {store.folder} cannot be written ({error.strerror}): remove it there.") from None
    return [f"{what}: set aside, {again} anew where needed."]


def _set_aside(store, record, wrong):
    """True where the whole record had to go."""
    aside = store.hidden("damaged") / f"{record.key}-{own_name()}"
    if wrong & {*CORE, "done"}:
        record.folder.rename(aside)
        return True
    aside.mkdir()
    for part in [file for file in record.folder.glob("[!.]*-*") if file.name not in CORE]:
        part.rename(aside / part.name)
    return False
