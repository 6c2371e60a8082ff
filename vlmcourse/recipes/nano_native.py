"""nano-native: nano-vlm learns to read pictures of any size (notebook 19).

A picture has a token for each square of 16 × 16 pixels, so 16 of a scene and 128 of the largest page. First
the eye learns alone what each patch shows, see training/patchwise.py. Then projector and language model learn
to read out pages with small marks, words, tables and charts, and to answer about them; and nano-vlm's own
questions about scenes, so that they forget little. Most pages are seen as they are; some as tiles, and some
made smaller, so that these are nothing new to it when ways are compared; squashed pages it never saw.
"""

from functools import partial

from vlmcourse.models.native_llava import NativeConfig
from vlmcourse.models.native_vit import NativeViTConfig
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage

_NANO = NANO_VLM.model
_VISION = NativeViTConfig(**vars(_NANO.vision), class_token=True)
# size: pictures of a step
_stage = partial(Stage, rates=dict(muon=0.01, adamw=2e-3), weight_decay=0.01)
_EYE = dict(pages=12_000, scenes=3000)
# asked, boxes: how many questions of a page, and how many that are answered with a box; most: its tokens
_KINDS = ("words", "words", "marks", "tables", "charts")
_READING = dict(pages=24_000, scenes=1500, asked=0, boxes=0, most=16, kinds=_KINDS)
# tiled, shrunk: shares of pages that are seen as tiles, or smaller than they are
_PLACES = dict(pages=16_000, scenes=1500, asked=1, boxes=4, most=16, draw=3)
_PAGES = dict(pages=12_000, scenes=3000, asked=4, boxes=3, tiled=0.15, shrunk=0.1)
_FROZEN = dict(vision=0.0)
_GENTLE = dict(rates=dict(muon=0.006, adamw=1.2e-3), factors=_FROZEN)

NANO_NATIVE = Recipe(
    name="nano-native",
    family="native",
    needs=("nano-vlm",),
    model=NativeConfig(_VISION, _NANO.language, _NANO.image_token, _NANO.layer, shuffle=2),
    # whose eye, projector and language model it begins with; all of them learn on
    start=dict(begins="nano-vlm"),
    stages=(
        # answers alone teach an eye to read very slowly, so first each patch is asked what it shows
        _stage("eye", steps=2000, size=16, data=_EYE, flat=0.4),
        # and once more, with other pages: it named 80 % of all letters, and a word has up to six
        _stage("sharper eye", steps=1600, size=16, data=_EYE | dict(draw=2), flat=0.4),
        # and a language model, so next it writes all that stands on small pages
        _stage("reading", steps=1600, size=64, data=_READING, factors=_FROZEN, flat=0.6),
        # and says where each thing is, in numbers of three digits
        _stage("places", steps=700, size=64, data=_PLACES, factors=_FROZEN, flat=0.6),
        # many pages to a step and a low rate, so that it does not forget how to read
        _stage("pages", steps=1800, size=24, data=_PAGES, flat=0.4, **_GENTLE, ships="nano-native"),
    ),
)
