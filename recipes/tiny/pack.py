"""Put a trained run into the package as the bundled model, in half precision.

python recipes/tiny/pack.py runs/tiny/last
"""

import argparse

import torch

from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.registry import bundled_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder of a run or of a model")
    loaded = load(parser.parse_args().model, device="cpu", precision="fp32")
    folder = bundled_folder("tiny")
    save_model(folder, loaded.model, loaded.config, loaded.preprocess.config, dtype=torch.float16)
    for file in sorted(folder.iterdir()):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
