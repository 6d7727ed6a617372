"""The benchmarks of the field: what they are called, how they are split, where their files are looked for."""

from dataclasses import dataclass

from ..support import paths


@dataclass(frozen=True)
class Known:
    """A benchmark that papers use. `files`: names, beside NAME.npz, NAME.pkl and the folder NAME, under which its files
    circulate, below the data folder. `split`: utterances of train, valid and test as the field splits it."""

    title: str
    split: tuple[int, int, int]
    files: tuple[str, ...]
    terms: str
    get: str


_CMU = "research use; made by CMU MultiComp Lab"
_SDK = "the CMU Multimodal SDK serves .csd files; MulT and MMSA circulate pickles made of them"
_FORM = "licence form of the University of Southern California (SAIL), free for research"

KNOWN = {
    "mosi": Known(
        "CMU-MOSI",
        (1284, 229, 686),
        ("mosi_data.pkl", "MOSI/Processed/aligned_50.pkl", "CMUMOSI", "CMU_MOSI"),
        _CMU,
        _SDK,
    ),
    "mosei": Known(
        "CMU-MOSEI",
        (16326, 1871, 4659),
        ("mosei_senti_data.pkl", "MOSEI/Processed/aligned_50.pkl", "CMUMOSEI", "CMU_MOSEI"),
        _CMU,
        _SDK,
    ),
    "iemocap": Known(
        "IEMOCAP, four emotions, word-aligned",
        (2717, 798, 938),
        ("iemocap_data.pkl",),
        _FORM,
        "after the form, MulT's pickle or your own features",
    ),
    "iemocap4": Known(
        "IEMOCAP, four emotions, by session",
        (),
        ("IEMOCAP/IEMOCAP_features_raw_4way.pkl", "IEMOCAPFour"),
        _FORM,
        "after the form, utterance features in GCNet's or MMIN's folders",
    ),
    "iemocap6": Known(
        "IEMOCAP, six emotions, by session",
        (),
        ("IEMOCAP/IEMOCAP_features_raw_6way.pkl", "IEMOCAPSix"),
        _FORM,
        "after the form, utterance features in GCNet's folders",
    ),
}


def places(name):
    """Where the benchmark `name` is looked for, in this order; a name that no paper uses has its first three only."""
    folder = paths.data_folder()
    others = KNOWN[name].files if name in KNOWN else ()
    return [folder / place for place in (f"{name}.npz", f"{name}.pkl", name, *others)]


def base(name):
    """The known benchmark whose data this is, or None: `mosi` for mosi, mosi-752 and synthetic-mosi."""
    stem = name.removeprefix("synthetic-")
    return next((known for known in ("mosei", "mosi", "iemocap") if stem.startswith(known)), None)
