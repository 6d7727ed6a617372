"""What fuzz tests share: bytes of a file, overwritten, cut out or inserted at relative places."""

from hypothesis import strategies as st


def mutate(content, edits):
    """Overwrite, cut out or insert bytes at relative places."""
    content = bytearray(content)
    for place, cut, inserted in edits:
        start = int(place * len(content))
        content[start : start + cut] = inserted
    return bytes(content)


PLACE = st.floats(0, 1, exclude_max=True)
OVERWRITE = st.binary(min_size=1, max_size=4).flatmap(lambda b: st.tuples(PLACE, st.just(len(b)), st.just(b)))
EDIT = st.one_of(OVERWRITE, OVERWRITE, st.tuples(PLACE, st.integers(0, 40), st.binary(max_size=20)))
EDITS = st.lists(EDIT, min_size=1, max_size=6)
