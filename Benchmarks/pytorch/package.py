"""Puts python/ of this checkout on Python's path: the definition of the model is in ress.model there, and needs no installation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
