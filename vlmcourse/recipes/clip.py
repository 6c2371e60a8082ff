"""clip-scenes, clip-order and clip-openmoji: small CLIPs for 64-pixel images (notebooks 04 and 17).

clip-scenes sees each scene beside its shape twin; clip-order goes on from it, with scenes that only the order
of words tells apart; clip-openmoji sees drawings with their names.
"""

from typing import Any

from vlmcourse.recipes.recipe import Recipe, Stage

# side of a patch in pixels, width of both towers and of the space they share; small objects anywhere need
# small patches, drawings that fill the image larger ones
SCENES = dict(patch=8, width=96)
DRAWINGS = dict(patch=16, width=128)


def _contrast(ships: str, steps: int, lr: float, weight_decay: float = 0.05, **data: Any) -> tuple[Stage]:
    """The one stage of a CLIP: 128 images a step, each with its text."""
    return (Stage("contrast", steps, 128, dict(adamw=lr), data, weight_decay=weight_decay, ships=ships),)


CLIP_SCENES = Recipe(
    name="clip-scenes",
    family="clips",
    model=SCENES,
    start=dict(positions=0.3),  # deviation of new position vectors; patches have 1
    needs=("tokenizer",),
    # pairs of a scene and its twin; a share of them in grey, told without colours
    stages=_contrast("clip-scenes", 2000, 3e-3, kind="twins", pairs=20_000, seed=0, grey=0.5, shift=0),
)

CLIP_ORDER = Recipe(
    name="clip-order",
    family="clips",
    model=SCENES,
    start=dict(weights="clip-scenes"),
    needs=("tokenizer", "clip-scenes"),
    stages=_contrast("clip-order", 3000, 1e-3, kind="order", pairs=12_000, seed=1, shift=0),
)

CLIP_OPENMOJI = Recipe(
    name="clip-openmoji",
    family="clips",
    model=DRAWINGS,
    start=dict(positions=0.5),
    needs=("tokenizer",),
    # moved by up to `shift` pixels, anew in every step
    stages=_contrast("clip-openmoji", 600, 2e-3, 0.1, kind="drawings", split="train", shift=2),
)
