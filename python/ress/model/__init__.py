"""The model of docs/model.md in PyTorch: `ressformer` is the causal language model, `variants` adds all switches and the baseline."""

from .ressformer import Output
from .variants import Variant, VariantConfiguration

__all__ = ["Output", "Variant", "VariantConfiguration"]
