"""Train the shipped CLIPs: clip-scenes on scenes beside their shape twins, clip-openmoji on drawings with names.

    python tools/checkpoints/clips.py [clip-scenes | clip-order | clip-openmoji]

clip-order goes on from clip-scenes, with scenes that only the order of words tells apart.
"""

import platform
import sys

import torch

from vlmcourse import recipes
from vlmcourse.data.assets import assets_folder
from vlmcourse.data.pixels import normalise
from vlmcourse.training.checkpoints import save_weights

SEED = 0
PAIRS = {
    "clip-scenes": lambda: recipes.scene_pairs(20_000, seed=SEED),
    "clip-order": lambda: recipes.order_pairs(12_000, seed=1),
    "clip-openmoji": lambda: recipes.emoji_pairs("train"),
}


def make(name: str) -> None:
    recipe = dict(recipes.CLIPS[name])
    drawn, pairs = name == "clip-openmoji", PAIRS[name]()
    torch.manual_seed(SEED)
    shape = {key: recipe.pop(key) for key in ("patch", "width", "positions")}
    if start := recipe.pop("start", None):
        model = recipes.load_clip(start)[0]
    else:
        model = recipes.new_clip(images=normalise(pairs[0][:512, 0]), **shape)
    history = recipes.train_clip(model, pairs, shift=2 if drawn else 0, seed=SEED, **recipe)
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
