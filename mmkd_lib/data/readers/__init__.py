"""The layouts in which the field keeps its files, one module each, all of one form:

    NAME, LAYOUT                          what the family is called; how to tell it, in one line
    recognises(tree)                      whether the content of a pickle is of this family
    contents(path, tree, use)             its Contents: everything that a Benchmark is made of
    recognises_folder(path)               the same for families that are folders
    contents_of_folder(path, use)
    sample(path, like)                    write a tiny file or folder in this layout, out of the Contents `like`

Widths, lengths and classes are read from the file, never assumed.
"""
