"""clip-scenes, clip-order and clip-openmoji: small CLIPs for 64-pixel images (notebooks 04 and 17).

clip-scenes sees each scene beside its shape twin; clip-order goes on from it, with scenes that only the order
of words tells apart; clip-openmoji sees drawings with their names.
"""

from vlmcourse.recipes.recipe import Recipe, Stage

# side of a patch in pixels, width of both towers and of the space they share; small objects anywhere need
# small patches, drawings that fill the image larger ones
SCENES = dict(patch=8, width=96)
DRAWINGS = dict(patch=16, width=128)

CLIP_SCENES = Recipe(
    name="clip-scenes",
    family="clips",
    model=SCENES,
    start=dict(positions=0.3),  # deviation of new position vectors; patches have 1
    needs=("tokenizer",),
    stages=(
        Stage(
            "contrast",
            steps=2000,
            size=128,
            rates=dict(adamw=3e-3),
            # pairs of a scene and its twin; a share of them in grey, told without colours
            data=dict(kind="twins", pairs=20_000, seed=0, grey=0.5, shift=0),
            weight_decay=0.05,
            ships="clip-scenes",
        ),
    ),
)

CLIP_ORDER = Recipe(
    name="clip-order",
    family="clips",
    model=SCENES,
    start=dict(weights="clip-scenes"),
    needs=("tokenizer", "clip-scenes"),
    stages=(
        Stage(
            "contrast",
            steps=3000,
            size=128,
            rates=dict(adamw=1e-3),
            data=dict(kind="order", pairs=12_000, seed=1, shift=0),
            weight_decay=0.05,
            ships="clip-order",
        ),
    ),
)

CLIP_OPENMOJI = Recipe(
    name="clip-openmoji",
    family="clips",
    model=DRAWINGS,
    start=dict(positions=0.5),
    needs=("tokenizer",),
    stages=(
        Stage(
            "contrast",
            steps=600,
            size=128,
            rates=dict(adamw=2e-3),
            data=dict(
                kind="drawings", split="train", shift=2
            ),  # moved by up to so many pixels, anew in every step
            weight_decay=0.1,
            ships="clip-openmoji",
        ),
    ),
)
