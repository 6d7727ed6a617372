"""The multimodal KD handbook: multimodal knowledge distillation with missing modalities, reproduced and tested."""

import importlib.metadata

__version__ = importlib.metadata.version("mmkd_lib")
