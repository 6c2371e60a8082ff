"""nano-vlm: a vision-language model trained from nothing in 50 minutes on one CPU core (notebooks 00 and 08).

Four stages: the vision encoder (the eye) learns what patches show, the language model how captions read, the
projector to translate between the two; then both learn to follow instructions. What else was tried stands in
the card of nano-vlm.
"""

from vlmcourse.data.text import IMAGE
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.recipes.recipe import Recipe, Stage
from vlmcourse.training.regions import EYE

_RATES = dict(muon=0.01, adamw=2e-3)  # matrices inside blocks; vectors, embeddings and the head

NANO_VLM = Recipe(
    name="nano-vlm",
    family="nano",
    needs=("tokenizer",),
    model=LlavaConfig(
        EYE, LlamaConfig(1024, width=128, depth=4, heads=4, groups=2, tied=True), IMAGE, layer=-1
    ),
    # root mean square of a word's vector, so that attention tells words apart at once
    start=dict(word_size=0.3),
    stages=(
        Stage(
            "eye",
            steps=1400,
            size=32,
            rates=_RATES,
            # share of scenes in grey, of which no colour is asked: shapes are learned apart from their
            # usual colours
            data=dict(scenes=30_000, grey=0.5),
            flat=0.4,
            weight_decay=0.01,
        ),
        Stage(
            "words",
            steps=200,
            size=64,
            rates=_RATES,
            data=dict(scenes=20_000, captions=("full", "short")),
            flat=0.4,
            weight_decay=0.01,
            ships="nano-words",
        ),
        Stage(
            "aligned",
            steps=150,
            size=32,
            rates=_RATES,
            data=dict(scenes=8_000, captions=("full",), calibrated_on=500),
            flat=0.4,
            weight_decay=0.01,
            ships="nano-aligned",
        ),
        Stage(
            "vlm",
            steps=2400,
            size=16,
            rates=_RATES,
            # share of scenes in grey and asked nothing of colours, so that nothing can be learned of usual
            # colours
            data=dict(scenes=24_000, grey=0.25),
            # at the full rate the projector forgets what no answer needs yet, such as left and right,
            # before the
            # language model learns to ask for it
            factors=dict(projector=0.01),
            flat=0.5,
            weight_decay=0.01,
            ships="nano-vlm",
        ),
    ),
)
