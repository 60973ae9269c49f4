"""Loads a model into PyTorch and compares its logits with those that ress computed (the proof in the file).

    python -m ress.verify PLACE                         exits with 1 where the logits differ
    python -m ress.verify PLACE --out x.safetensors     also writes the model again, for `ress checkpoint import`
"""

import argparse
import sys

from .checkpoint import PROOF, load

# Largest difference of logits, relative to the largest logit; `ress checkpoint import` has the same limit.
TOLERANCE = 1e-4


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ress.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", help="a file or folder of `ress checkpoint export`, a checkpoint, or a run's folder")
    parser.add_argument("--out", help="write the model here as safetensors, without its proof")
    options = parser.parse_args(arguments)
    checkpoint = load(options.place)
    print(f"{checkpoint.path}: {checkpoint.parameter_count:,} parameters, run {checkpoint.run} at step {checkpoint.step}")
    if options.out:
        checkpoint.write(options.out)
    distance = checkpoint.proof_distance()
    if distance is None:
        print("there is no proof, so nothing was compared")
        return 0
    print(f"logits {checkpoint.proof[PROOF[1]].shape}: largest difference {distance:.2e} of the largest")
    return 0 if distance <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
