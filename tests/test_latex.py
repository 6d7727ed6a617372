"""Committed LaTeX is what TeX can read: every special is escaped, rows fit their tabular, and it says what the Markdown
says."""

import re
from pathlib import Path

import pandas as pd
import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexCommentNode,
    LatexEnvironmentNode,
    LatexMacroNode,
    LatexSpecialsNode,
    LatexWalker,
    LatexWalkerParseError,
)

from mmkd_lib.results.tables import Table

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = sorted((ROOT / "figures").rglob("*.tex"))
RULES = {"toprule", "midrule", "bottomrule"}
WORDS = LatexNodes2Text(math_mode="text")
SPECIALS = set("^_%#&~$<>|")  # of TeX, and what its first font shows as another sign outside mathematics


def parsed(text):
    """(the lines of the tabular without its rules, each a list of cells; the sentences under it) as LaTeX; an
    AssertionError or a parse error where TeX would stop or show something else."""
    nodes = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()[0]
    [tabular] = [node for node in nodes if node.isNodeType(LatexEnvironmentNode)]
    assert tabular.environmentname == "tabular"
    [columns] = [argument.latex_verbatim() for argument in tabular.nodeargd.argnlist if argument is not None]
    rows, cells = [], [""]
    for node in tabular.nodelist:
        macro = node.macroname if node.isNodeType(LatexMacroNode) else ""
        if macro == "\\":
            assert node.nodeargd is None or not any(node.nodeargd.argnlist), "a row that begins as an argument of \\\\"
            rows.append([cell.strip() for cell in cells])
            cells = [""]
        elif node.isNodeType(LatexSpecialsNode) and node.specials_chars == "&":
            cells.append("")
        elif macro not in RULES:
            cells[-1] += readable(node)
    assert [cell.strip() for cell in cells] == [""], "a row without an end"
    for row in rows:
        assert len(row) == len(columns.strip("{}")), row
    after = "".join(readable(node) for node in nodes[nodes.index(tabular) + 1 :])
    return rows, [note.strip() for note in re.split(r"\\par\b", after)[1:]]


def readable(node):
    """The LaTeX of a node outside the tabular's own signs, once no special is left in it."""
    assert not node.isNodeType(LatexCommentNode), node
    assert not node.isNodeType(LatexSpecialsNode) or node.specials_chars not in SPECIALS, node
    if node.isNodeType(LatexCharsNode):
        assert not SPECIALS & set(node.chars), node.chars
        assert node.chars.isascii(), node.chars
    return node.latex_verbatim()


def in_words(latex):
    return WORDS.latex_to_text(latex).replace("ˆ", "^").strip()  # the parser's circumflex is a letter of its own


def test_something_is_committed():
    assert len(COMMITTED) == 50


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.relative_to(ROOT / "figures").as_posix())
def test_committed_latex_is_read_and_says_what_the_markdown_says(path):
    rows, notes = parsed(path.read_text(encoding="utf-8"))
    table, under = path.with_suffix(".md").read_text(encoding="utf-8").split("\n\n", 1)
    lines = [[cell.replace("\\|", "|") for cell in line[2:-2].split(" | ")] for line in table.splitlines()]
    assert [[in_words(cell) for cell in row] for row in rows] == [lines[0], *lines[2:]]
    assert [in_words(note) for note in notes] == [line.strip() for line in under.splitlines()]


BODY = "\\begin{tabular}{lr}\n\\toprule\na & b \\\\\n\\midrule\n%s\n\\bottomrule\n\\end{tabular}\n%s"


@pytest.mark.parametrize(
    ("row", "note"),
    [
        (r"L\_TSF^intra & 1 \\", ""),
        (r"w/o L_TSF & 1 \\", ""),
        (r"a 95 % interval & 1 \\", ""),
        (r"# & 1 \\", ""),
        (r"p > 0 & 1 \\", ""),
        (r"a~b & 1 \\", ""),
        (r"1 ± 2 & 1 \\", ""),
        (r"a & b & 1 \\", ""),
        (r"1 \\", ""),
        ("a & 1", ""),
        (r"{a & 1 \\", ""),
        (r"a $ & 1 \\", ""),
        (r"a & 1 \\", r"\par l & frames"),
        (r"a & 1 \\", r"\par f1_weighted"),
    ],
)
def test_what_tex_refuses_is_refused(row, note):
    parsed(BODY % (r"a\_b & 1 $\pm$ 2 \\", r"\par 95 \%"))
    with pytest.raises((AssertionError, LatexWalkerParseError)):
        parsed(BODY % (row, note))


ESCAPED = {
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "$": r"\$",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde ",
    "^": r"\textasciicircum ",
    "\\": r"\textbackslash ",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


@pytest.mark.parametrize("sign", ESCAPED)
def test_every_special_is_escaped_in_heads_cells_and_notes(sign):
    text, escaped = f"x{sign}y", f"x{ESCAPED[sign]}y"
    cells = pd.DataFrame([["a", "b", text, 1]], columns=["data", "system", f"s{sign}", "n"])
    assert Table(cells, cells, [text, "plain"]).latex().splitlines() == [
        r"\begin{tabular}{lllr}",
        r"\toprule",
        rf"data & system & s{ESCAPED[sign]} & n \\",
        r"\midrule",
        rf"a & b & {escaped} & 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
        rf"\par {escaped}",
        r"\par plain",
    ]


def test_a_table_without_notes_ends_with_its_tabular():
    cells = pd.DataFrame([["a", "b", "c", 0.25]], columns=["data", "system", "source", "n"])
    text = Table(cells, cells).latex()
    assert text.endswith("a & b & c & 0.25 \\\\\n\\bottomrule\n\\end{tabular}\n")
