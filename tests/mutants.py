"""What fuzz tests share: parts of a file, overwritten, cut out or inserted at relative places."""

from hypothesis import strategies as st


def mutate(content, edits):
    """Cut out and insert at relative places: bytes of bytes, items of a list."""
    for place, cut, inserted in edits:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + cut :]
    return content


PLACE = st.floats(0, 1, exclude_max=True)
OVERWRITE = st.binary(min_size=1, max_size=4).flatmap(lambda b: st.tuples(PLACE, st.just(len(b)), st.just(b)))
EDIT = st.one_of(OVERWRITE, OVERWRITE, st.tuples(PLACE, st.integers(0, 40), st.binary(max_size=20)))
EDITS = st.lists(EDIT, min_size=1, max_size=6)
