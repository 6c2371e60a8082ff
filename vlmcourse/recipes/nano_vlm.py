"""nano-vlm: a vision-language model trained from nothing in 50 minutes on one CPU core (notebooks 00 and 08).

Four stages: the vision encoder (the eye) learns what patches show, the language model how captions read, the
projector to translate between the two; then both learn to follow instructions. What else was tried stands in
the card of nano-vlm.
"""

from functools import partial

from vlmcourse.data.text import IMAGE
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.recipes.recipe import Recipe, Stage
from vlmcourse.training.regions import EYE

# rates of matrices inside blocks, and of vectors, embeddings and the head
_stage = partial(Stage, rates=dict(muon=0.01, adamw=2e-3), weight_decay=0.01)
_LANGUAGE = LlamaConfig(1024, width=128, depth=4, heads=4, groups=2, tied=True)
# grey: share of scenes seen in grey and asked nothing of colours, so that shapes are
# learned apart from their usual ones
_EYE = dict(scenes=30_000, grey=0.5)
_WORDS = dict(scenes=20_000, captions=("full", "short"))
_ALIGNED = dict(scenes=8_000, captions=("full",), calibrated_on=500)
_VLM = dict(scenes=24_000, grey=0.25)

NANO_VLM = Recipe(
    name="nano-vlm",
    family="nano",
    needs=("tokenizer",),
    model=LlavaConfig(EYE, _LANGUAGE, IMAGE, layer=-1),
    # root mean square of a word's vector, so that attention tells words apart at once
    start=dict(word_size=0.3),
    stages=(
        _stage("eye", steps=1400, size=32, data=_EYE, flat=0.4),
        _stage("words", steps=200, size=64, data=_WORDS, flat=0.4, ships="nano-words"),
        _stage("aligned", steps=150, size=32, data=_ALIGNED, flat=0.4, ships="nano-aligned"),
        # at the full rate the projector forgets what no answer needs yet, such as left and right, before the
        # language model learns to ask for it
        _stage(
            "vlm", steps=2400, size=16, data=_VLM, flat=0.5, factors=dict(projector=0.01), ships="nano-vlm"
        ),
    ),
)
