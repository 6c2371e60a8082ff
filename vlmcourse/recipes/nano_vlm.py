"""nano-vlm: a vision-language model trained from nothing in 90 minutes of one CPU core (notebooks 00, 08).

Seven stages: the vision encoder (the eye) learns what patches show, the language model how captions read, the
projector to translate between the two; then both learn to follow instructions, and last what is still wrong.
What else was tried stands in the card of nano-vlm.
"""

from functools import partial

from vlmcourse.data.text import IMAGE
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.recipes.recipe import Recipe, Stage
from vlmcourse.training.regions import EYE

# rates of matrices inside blocks, and of vectors, embeddings and the head
_stage = partial(Stage, rates=dict(muon=0.01, adamw=2e-3), weight_decay=0.01)
_LOW = dict(muon=0.006, adamw=1.2e-3)
_LANGUAGE = LlamaConfig(1024, width=128, depth=4, heads=4, groups=2, tied=True)
# grey: share of scenes seen in grey and asked nothing of colours, so that shapes are
# learned apart from their usual ones
_EYE = dict(scenes=30_000, grey=0.5)
_WORDS = dict(scenes=20_000, captions=("full", "short"))
_ALIGNED = dict(scenes=8_000, captions=("full",), calibrated_on=500)
_VLM = dict(scenes=24_000, grey=0.25)
# draw: which scenes; described: share of scenes of which little but a full caption is asked
_LAST, _SHARP = (_VLM | dict(described=0.0, draw=number) for number in (1, 2))
_WHOLE = dict(scenes=24_000, grey=0.1, described=0.6, draw=2, after="last")

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
        _stage("vlm", steps=2400, size=16, data=_VLM, flat=0.4, factors=dict(projector=0.01)),
        # captions whole, and what is near a middle line: at a lower rate, so that nothing else is forgotten
        _stage("last", steps=1200, size=16, rates=_LOW, data=_LAST, flat=0.3, factors=dict(projector=0.01)),
        # now the projector may learn, too: whatever it holds is asked for by now
        _stage("sharp", steps=800, size=16, rates=_LOW, data=_SHARP, flat=0.0),
        # from the same beginning mostly captions; the mean of both knows new combinations and whole captions
        _stage("whole", steps=800, size=24, rates=_LOW, data=_WHOLE, flat=0.2, ships="nano-vlm"),
    ),
)
