"""smollm-dinov2: smollm-openmoji with the eye of DINOv2, for drawings that stand anywhere (notebook 17).

DINOv2 comes from where interop/hub.py finds it, language model and LoRA are smollm-openmoji's; what learns,
and what is shipped, is a projector that chooses words.
"""

from vlmcourse.interop.hub import DINOV2
from vlmcourse.recipes.recipe import Recipe, Stage

SMOLLM_DINOV2 = Recipe(
    name="smollm-dinov2",
    family="redrawn",
    needs=("smollm-openmoji",),
    model=dict(eye=DINOV2, side=224, layer=8, hidden=64),
    stages=(
        # people once as drawn, and four times moved, scaled and turned by chance
        Stage("words", 1500, 256, dict(adamw=3e-3), dict(rounds=5, drop=0.2), ships="smollm-dinov2"),
    ),
)
