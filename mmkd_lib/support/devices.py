"""Which device trains: a GPU that this torch was built for, else the CPU, always with the reason in a sentence."""

import torch

from .errors import one_of

CLASSES = ("cpu", "cuda")
CHOICES = ("auto", *CLASSES)


def choose(wish="auto"):
    """("cpu" or "cuda", reason). `cuda` falls back to the CPU with a sentence where no GPU can be used."""
    one_of("device", wish, CHOICES)
    if wish == "cpu":
        return "cpu", "the CPU, as asked"
    obstacle = _gpu_obstacle()
    if obstacle:
        return "cpu", f"the CPU, because {obstacle}"
    return "cuda", f"the GPU {torch.cuda.get_device_name()}"


def _gpu_obstacle():
    """Why no GPU can be used, or None."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    major, minor = torch.cuda.get_device_capability()
    names = [arch.removeprefix("sm_") for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")]
    built = sorted(int(name) for name in names if name.isdigit())
    if built and major * 10 + minor < built[0]:
        return (
            f"{torch.cuda.get_device_name()} has compute capability {major}.{minor} and this torch is built for "
            f"{built[0] // 10}.{built[0] % 10} and newer"
        )
    return None
