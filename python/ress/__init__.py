"""ress from Python: checkpoints as PyTorch modules, metrics as arrays, and runs through the command `ress`.

    import ress
    model = ress.load("checkpoints/demo").module()              # needs torch
    loss = ress.read_metrics("checkpoints/demo").steps["loss"]  # a numpy array
    run = ress.Ress().submit("configs/demo.yaml", workers=2)    # needs the command and a coordinator

numpy and h5py are required. torch, pandas and the tokenizer libraries are imported only by the functions that need them.
"""

from .checkpoint import Checkpoint, CheckpointError, load
from .metrics import Metrics, read_metrics
from .runs import Ress, RessError, Run
from .tokenizer import load_tokenizer

__version__ = "0.1.0"
__all__ = [
    "Checkpoint", "CheckpointError", "Metrics", "Ress", "RessError", "Run", "load", "load_tokenizer", "read_metrics"]
