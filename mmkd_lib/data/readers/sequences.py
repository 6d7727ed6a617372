"""Computational sequences of the CMU SDK: rows of features with intervals in time, brought to the words of utterances.

Knows one .csd file at a time (`Sequence`: its path, root name and keys), not what lies in a folder.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from scipy import sparse

from . import hdf5
from .arrays import refuse

AT_ONCE = 64  # videos read at a time: MOSEI's audio and vision do not fit into memory before they are averaged
PAIRS = 2**25  # of a word and a row that may overlap, in one video


class Sequence(NamedTuple):
    """One .csd file."""

    path: object
    root: str
    keys: frozenset


class Segment(NamedTuple):
    """One utterance: its name, video, begin and end in seconds, and score."""

    id: str
    video: str
    begin: float
    end: float
    y: float


def rows(sequence, keys):
    """(key, features (n, d), intervals (n, 2)) of the given videos of a file, rows in the order of their begin."""
    for first in range(0, len(keys), AT_ONCE):
        some = keys[first : first + AT_ONCE]
        places = [(sequence.root, "data", key, part) for key in some for part in ("features", "intervals")]
        held = hdf5.arrays(sequence.path, places)
        for key, *pair in zip(some, places[::2], places[1::2], strict=True):
            features, intervals = (held.pop(place, np.zeros(0)) for place in pair)
            if features.ndim != 2 or intervals.shape != (len(features), 2):
                found = f"features {features.shape} and intervals {intervals.shape}"
                refuse(sequence.path, f"video {key!r} has {found}, expected (n, d) and (n, 2)")
            if not np.isfinite(intervals).all():
                refuse(sequence.path, f"video {key!r} has intervals that are NaN or inf")
            order = np.argsort(intervals[:, 0], kind="stable")
            yield key, features[order], intervals[order].astype(float)


def words(sequence, segments):
    """Intervals (W, 2) and vectors (W, d) of the words of every segment that has any, each by the segment's name."""
    found, spans, vectors = _by_key(sequence, segments), {}, {}
    for key, features, intervals in rows(sequence, sorted(found)):
        middle = intervals.mean(1)
        for segment in found[key]:
            inside = (key == segment.id) | ((segment.begin <= middle) & (middle < segment.end))
            if inside.any():
                spans[segment.id], vectors[segment.id] = intervals[inside], features[inside]
    return spans, vectors


def frames(sequence, segments, spans):
    """One frame for each word of every segment whose video is in the file: name of the segment -> (W, d)."""
    found, held = _by_key(sequence, [segment for segment in segments if segment.id in spans]), {}
    for key, features, intervals in rows(sequence, sorted(found)):
        own = [spans[segment.id] for segment in found[key]]
        means = averages(sequence.path, features, intervals, np.concatenate(own))
        ends = np.cumsum([len(span) for span in own])[:-1]
        held |= {segment.id: mean for segment, mean in zip(found[key], np.split(means, ends), strict=True)}
    return held


def _by_key(sequence, segments):
    """key of the file -> the segments whose rows stand under it: under the segment's own name, else its video's."""
    found = defaultdict(list)
    for segment in segments:
        key = segment.id if segment.id in sequence.keys else segment.video
        if key in sequence.keys:
            found[key].append(segment)
    return found


def averages(path, features, intervals, spans):
    """Means (W, d) of the features (n, d) of the rows that overlap each word, NaN and inf left out; zero without any.

    intervals (n, 2), rows in the order of their begin; spans (W, 2), words in any. A row overlaps a word if it begins
    before the word ends and ends after the word begins. Bisection finds a range of rows that holds all that overlap,
    and the sum over them is a product with a sparse matrix.
    """
    latest = np.maximum.accumulate(intervals[:, 1])
    first = np.searchsorted(latest, spans[:, 0], "right")  # no row before it ends after the word begins
    count = np.maximum(np.searchsorted(intervals[:, 0], spans[:, 1], "left") - first, 0)
    if count.sum() > PAIRS:
        refuse(path, f"rows and words of a video overlap in up to {count.sum()} pairs, at most {PAIRS} are averaged")
    word = np.repeat(np.arange(len(spans)), count)
    row = np.arange(len(word)) - np.repeat(np.cumsum(count) - count - first, count)
    overlap = intervals[row, 1] > spans[word, 0]
    pairs = sparse.csr_array((np.ones(overlap.sum()), (word[overlap], row[overlap])), (len(spans), len(intervals)))
    finite = np.isfinite(features)
    return pairs @ np.where(finite, features, 0).astype(float) / np.maximum(pairs @ finite.astype(float), 1)
