"""MAG and CMAD (`mosi.pkl`, `mosei.pkl`): a dict of train, dev and test, each a list of

    ((words, visual (n, d), acoustic (n, d)), label (1, 1), segment)

Told apart from the other families only to be refused: it holds words, which are not features before somebody chooses
their vectors. That choice belongs into the name of a benchmark, not into a reader; data/README.md has the lines that
make it. Two copies were in circulation, one of them wrong (BERT_multimodal_transformer#12).
"""

import pickle

import numpy as np

from .arrays import refuse

NAME = "MAG tuples"
LAYOUT = "MAG, CMAD: dict of train, dev, test with lists of ((words, visual, acoustic), label, segment)"
PARTS = {"train": "train", "dev": "valid", "test": "test"}  # their name -> ours


def recognises(tree):
    """Whether the first entry of a part is such a tuple."""
    parts = [tree.get(part) for part in PARTS] if isinstance(tree, dict) else []
    return any(isinstance(part, list | tuple) and bool(part) and _is_one(part[0]) for part in parts)


def _is_one(entry):
    if not isinstance(entry, list | tuple) or len(entry) < 2 or not isinstance(entry[0], list | tuple):
        return False
    words = entry[0][0] if len(entry[0]) >= 2 else None
    words = words.tolist() if isinstance(words, np.ndarray) else words
    return isinstance(words, list | tuple | str) and all(isinstance(word, str) for word in words)


def contents(path, tree, use):
    """Refuses every file of this family, with the way out."""
    refuse(
        path,
        "it is a list of tuples as MAG and CMAD use, which holds words and no vectors: turn it into the MulT layout "
        "with the lines in data/README.md, then use mmkd data convert",
    )


def sample(path, like):
    """Write a tiny file of this layout out of Contents of scores: as many words as language has frames."""
    arrays, _ = like
    tree = {part: [] for part in PARTS}
    theirs = {ours: name for name, ours in PARTS.items()}
    for i, part in enumerate(arrays["split"].tolist()):
        n = max(int(arrays["len_l"][i]), 1)
        visual, acoustic = (np.resize(arrays[f"x_{m}"][i], (n, arrays[f"x_{m}"].shape[2])) for m in "va")
        words = [f"word{t}" for t in range(n)]
        label = np.full((1, 1), arrays["y"][i], np.float32)
        tree[theirs[part]].append(((words, visual, acoustic), label, f"{arrays['group'][i]}[{i}]"))
    path.write_bytes(pickle.dumps(tree, protocol=4))
