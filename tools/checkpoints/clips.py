"""Train the shipped CLIPs: clip-scenes on scenes beside their shape twins, clip-openmoji on drawings with names.

    python tools/checkpoints/clips.py [clip-scenes | clip-order | clip-openmoji]

clip-order goes on from clip-scenes, with scenes that only the order of words tells apart.
"""

import platform
import sys

import torch

from vlmcourse import recipes
from vlmcourse.data.assets import assets_folder
from vlmcourse.training.checkpoints import save_weights

SEED = 0


def make(name: str) -> None:
    drawn = name == "clip-openmoji"
    model, history = recipes.make_clip(name, seed=SEED)
    for parameter in model.parameters():  # the file holds fp16: measure what is shipped
        parameter.data = parameter.data.half().float()
    metrics = recipes.measure_emoji(model) if drawn else recipes.measure_scenes(model)
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    card = dict(recipe=recipes.CLIPS[name] | dict(tokenizer="tokenizer.json", script="tools/checkpoints/clips.py"),
                seed=SEED, seconds=round(history.seconds), precision=history.precision, first_loss=history.losses[0],
                hardware=hardware, metrics=metrics)  # fmt: skip
    path = save_weights(model, assets_folder() / "checkpoints" / f"{name}.safetensors", card)
    print(f"{path} after {history.seconds:.0f} s: {metrics}")


if __name__ == "__main__":
    for name in sys.argv[1:] or recipes.CLIPS:
        make(name)
