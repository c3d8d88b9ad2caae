#!/usr/bin/env python3
"""Count the ops that move data in three TFLite exports of each network.

`published` is the network as diffusers defines it, exported as it is; `naive` has each linear
layer swapped in place for a 1x1 convolution with its own reshapes and transposes (what T1.1 of
arXiv 2307.01193 warns of); `mobile` is the form that `coreml-sd convert` writes. All in fp32.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

SHOWN = ("TRANSPOSE", "RESHAPE", "FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL", "BROADCAST_TO")
SD15_BLOCK = "SD 1.5 transformer, 320 channels at 64x64, batch 2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--components", nargs="*", default=["text_encoder", "unet", "vae_decoder"])
    parser.add_argument("--block", action="store_true", help="also a transformer of SD 1.5's size")
    parser.add_argument("--json", type=Path, help="write all op kinds here")
    arguments = parser.parse_args()
    from coreml_sd.config import ConversionConfig
    from coreml_sd.models.open_model import open_model
    from scripts.bench.layout_forms import block_forms, component_forms, counts

    model = open_model(ConversionConfig(model=arguments.model))
    networks = {name: component_forms(model.component(name)) for name in arguments.components}
    if arguments.block:
        networks[SD15_BLOCK] = block_forms()
    found: dict[str, dict[str, dict[str, int]]] = {}
    print("| network | form |", " | ".join(SHOWN), "| all ops |")
    print("|---|---|" + "---|" * (len(SHOWN) + 1))
    for name, forms in networks.items():
        for form, network, inputs in forms:
            ops = found.setdefault(name, {})[form] = counts(network, inputs)
            row = [str(ops.get(kind, 0)) for kind in (*SHOWN, "all")]
            print(f"| {name} | {form} |", " | ".join(row), "|", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
