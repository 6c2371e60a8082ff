"""smollm-scenes and smollm-openmoji: SmolLM2 gets a vision encoder, in minutes on two cores (notebook 17).

Stage 1, the projector learns which words an image shows; stage 2, LoRA learns to answer, while texts that
SmolLM2 wrote before hold it to plain English (distillation). Shipped are vision encoder, projector and LoRA,
nothing of SmolLM2.
"""

from vlmcourse.interop.hub import SMOLLM2
from vlmcourse.recipes.recipe import Recipe, Stage

_PARTS = dict(language=SMOLLM2, layer=-1, rank=8, alpha=16.0, lora_from_block=15)  # blocks 15 to 29 of 30
_RATES = dict(adamw=3e-3)
TOKENS = 5  # of a drawing: two words of the role, the rest of it, gender, skin tone

SMOLLM_SCENES = Recipe(
    name="smollm-scenes",
    family="real",
    needs=("nano-words",),
    model=dict(eye="nano-words", projector={}, **_PARTS),
    stages=(
        Stage("words", steps=400, size=512, rates=_RATES, data=dict(scenes=3_000, objects=(1, 2))),
        Stage("answers", 90, 4, _RATES, dict(objects=(1, 2), own_texts=72), ships="smollm-scenes"),
    ),
)

SMOLLM_OPENMOJI = Recipe(
    name="smollm-openmoji",
    family="drawings",
    needs=("clip-openmoji",),
    # the whole drawing is one vector, then five tokens
    model=dict(eye="clip-openmoji", projector=dict(hidden=320, shuffle=4, spread=TOKENS), **_PARTS),
    stages=(
        # in closed form, without a step; a drawing of people counts so many times as much as another
        Stage("words", steps=0, size=0, rates={}, data=dict(people=16)),
        Stage("answers", 120, 8, _RATES, dict(people=4, own_texts=72), ships="smollm-openmoji"),
    ),
)
