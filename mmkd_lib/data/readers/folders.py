"""What readers of folders share: which name is which modality, choices, padding. Knows no layout."""

import math

import numpy as np

from .arrays import refuse
from .contents import LARGEST, stacked

LONGEST = 200  # characters of a name: numpy gives every name the room of the longest
STRETCH, SMALL = 100, 2**24  # numbers that padding may make out of one, and what it may make in any case

# Parts of the names that features have in the field's folders. The longest one counts: "hubert" is not "bert".
PARTS = {
    "l": (
        "albert bert chatglm deberta electra fasttext glove gpt language lexical llama roberta sentence text "
        "transcript word2vec word_vectors wordvectors xlnet"
    ),
    "a": (
        "acoustic audio clap coavarep compare covarep egemaps hubert is09 is10 is13 librosa logmel mfcc opensmile "
        "panns spectrogram speech vggish wav2vec wavlm whisper"
    ),
    "v": (
        "affectnet clip denseface dinov2 emonet face facenet facet ferplus manet msceleb openface resnet senet vggface "
        "video videomae vision visual"
    ),
}


def text(path, name):
    """A name as str, given as str or bytes (files of Python 2 hold bytes)."""
    try:
        found = name.decode() if isinstance(name, bytes) else str(name.encode(), "utf-8")
    except (AttributeError, UnicodeError):
        refuse(path, f"it has a name that is a {type(name).__name__} and no text")
    if len(found) > LONGEST:
        refuse(path, f"it has a name of {len(found)} characters, at most {LONGEST} are read")
    return found


def modality(name):
    """The modality that a file or folder is named after, by the longest of the known parts; None if that is none."""
    found = {m: [len(part) for part in parts.split() if part in name.lower()] for m, parts in PARTS.items()}
    most = max(length for lengths in found.values() for length in [0, *lengths])
    best = [m for m, lengths in found.items() if most in lengths]
    return best[0] if len(best) == 1 else None


def chosen(path, m, use, offered, guessed):
    """Which of the names `offered` is modality m: the one that `use` names, else the only one `guessed`, else None."""
    if m in use:
        if use[m] not in offered:
            refuse(path, f"there is no {use[m]!r} to take for {m}, there are {', '.join(sorted(offered)) or 'none'}")
        return use[m]
    if len(guessed) > 1:
        refuse(path, f"{', '.join(sorted(guessed))} are all of modality {m}: choose one with --use {m}=NAME")
    return guessed[0] if guessed else None


def padded(path, m, pieces):
    """x_m and len_m of one modality: `stacked`, with what does not fit together or into memory refused."""
    pieces = [None if piece is None or not piece.size else np.atleast_2d(piece) for piece in pieces]
    shapes = [piece.shape for piece in pieces if piece is not None] or [(0, 0)]
    held = sum(map(math.prod, shapes))
    made = len(pieces) * max(length for length, _ in shapes) * max(width for _, width in shapes)
    if made > min(LARGEST, STRETCH * held + SMALL):
        refuse(path, f"its {held} numbers of modality {m} become {made} when padded to the longest, which is too many")
    try:
        x, length = stacked(pieces)
    except ValueError as error:
        refuse(path, f"in modality {m} {error}")
    return {f"x_{m}": x, f"len_{m}": length}


def numbered(like, classes):
    """Classes (N,) of a sample, in the order in which a family names them: `classes` says it by their number."""
    ours = like.meta.get("classes", [])
    theirs = classes.get(len(ours), ours)
    order = [theirs.index(name) if set(theirs) == set(ours) else c for c, name in enumerate(ours)]
    return np.array(order)[like.arrays["y"]] if ours else like.arrays["y"]
