"""nano-chat, nano-flamingo, nano-blip, nano-qformer, nano-blip2, nano-blip2-t5, nano-minigpt4: connectors.

All see with the eye of nano-vlm, which stays frozen, and learn from the same conversations about the same
scenes. What a model takes from another one, its recipe names in ``start``; a checkpoint holds only the rest.
Where a language model stays frozen, it is that of nano-vlm: behind one that never saw an image, relations
stay at chance. The course ships all but nano-qformer; each takes 3 to 46 minutes of one core.
"""

from dataclasses import replace
from functools import partial

from vlmcourse.data.text import ASSISTANT, END, IMAGE
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import BlipConfig
from vlmcourse.models.blip2 import Blip2Config
from vlmcourse.models.flamingo import FlamingoConfig
from vlmcourse.models.qformer import MatcherConfig, QFormerConfig
from vlmcourse.models.t5 import T5Config
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage


def _rates(muon: float, adamw: float) -> dict[str, float]:
    return dict(muon=muon, adamw=adamw)


_FULL = _rates(0.02, 2e-3)
_PAIRING, _ENDING = _rates(0.01, 1.5e-3), _rates(0.01, 1.2e-3)
_MILD, _LOW = _rates(0.008, 1e-3), _rates(0.008, 8e-4)
_stage = partial(Stage, rates=_FULL, weight_decay=0.01, flat=0.4)
_EYE, _LANGUAGE = NANO_VLM.model.vision, NANO_VLM.model.language
_VLM = dict(scenes=24_000, grey=0.25)
_LAST = _VLM | dict(described=0.0, draw=1)
_PAIRS = _VLM | dict(scenes=16_000, objects=(2, 4), relations=5, draw=2)
_TWO = dict(objects=(2, 2), begins=dict(qformer="nano-blip2"))
# at the full rate the Q-Former forgets what the T5 does not ask for yet, see nano-vlm's projector
_SLOW = dict(qformer=0.01)

NANO_CHAT = Recipe(
    name="nano-chat",
    family="preparing",
    needs=("nano-words",),
    model=_LANGUAGE,
    start=dict(language="nano-words"),
    # the conversations alone, without an image: what a question wants, and how often each answer is right
    stages=(_stage("chat", steps=300, size=16, data=dict(scenes=16_000), ships="nano-chat"),),
)


def _grows(
    name: str,
    model: object,
    start: dict,
    steps: tuple[int, int],
    before: tuple[Stage, ...] = (),
    between: tuple[Stage, ...] = (),
    rates: dict = _MILD,
    last: dict | None = None,
    **more: object,
) -> Recipe:
    """A model that learns to answer with what it does not take from others; at a low rate what is hard.

    Args:
        before, between: further stages, before those two and between them.
        more, last: what is otherwise in the first stage, and in the last.
    """
    vlm = dict(steps=steps[0], size=16, rates=rates, data=_VLM) | more
    end = dict(steps=steps[1], size=16, rates=_LOW, data=_LAST, flat=0.3, ships=name) | (last or {})
    needs = tuple(sorted({*start.values()}))
    stages = (*before, _stage("vlm", **vlm), *between, _stage("last", **end))
    return Recipe(name, "connectors", model, stages, start, needs)


NANO_FLAMINGO = _grows(
    "nano-flamingo",
    FlamingoConfig(_EYE, _LANGUAGE, IMAGE, latents=64, resampler_depth=1),
    dict(vision="nano-vlm", language="nano-vlm"),
    steps=(1200, 600),
    rates=_FULL,
)
NANO_BLIP = _grows(
    "nano-blip",
    # one width for image and text, since the decoder looks at the question with the weights by which the
    # encoder looks at the image
    BlipConfig(_EYE, BertConfig(1024, _EYE.width, 4, 4, positions=96, segments=0), ASSISTANT, END, shared=64),
    dict(vision="nano-vlm"),
    steps=(1000, 500),
    before=(_stage("match", steps=300, size=32, data=dict(scenes=12_000)),),
    # by now it finds single things; it compares two only if that is asked often enough
    between=(_stage("pairs", steps=600, size=16, rates=_PAIRING, data=_PAIRS, flat=0.9),),
    last=dict(rates=_ENDING, flat=0.2),
)
_QFORMER = QFormerConfig(BertConfig(1024, 128, 4, 4, positions=96, segments=0), _EYE.width, queries=32)
NANO_QFORMER = Recipe(
    name="nano-qformer",
    family="preparing",
    needs=("nano-vlm",),
    model=MatcherConfig(_EYE, _QFORMER, shared=64),
    start=dict(vision="nano-vlm"),
    stages=(_stage("match", steps=600, size=32, data=dict(scenes=16_000)),),
)
# what reads words serves stage 1 alone
_ASKING = replace(_QFORMER, reads=False)
NANO_BLIP2 = _grows(
    "nano-blip2",
    Blip2Config(_EYE, _ASKING, _LANGUAGE, IMAGE),
    dict(vision="nano-vlm", language="nano-vlm"),
    steps=(1400, 600),
)
NANO_BLIP2_T5 = Recipe(
    name="nano-blip2-t5",
    family="connectors",
    needs=("nano-blip2", "nano-vlm"),
    model=Blip2Config(_EYE, _ASKING, T5Config(1024, 128, 4, 2, 4, 32, 384), IMAGE, ASSISTANT, END),
    start=dict(vision="nano-vlm"),
    stages=(
        # two things and what holds between them, first from what a perfect eye would say, then from images;
        # among three or four things, or many other questions, a new T5 answers relations by chance for long
        _stage(
            "lists", steps=600, size=16, flat=0.7,
            data=dict(scenes=16_000, objects=(2, 2), draw=2, relations=6, comparisons=0, orders=3),
        ),
        _stage(
            "pairs", steps=800, size=16, flat=0.7, factors=_SLOW,
            data=_PAIRS | _TWO | dict(relations=6, comparisons=2, orders=3),
        ),
        _stage(
            "vlm", steps=500, size=16, rates=_PAIRING, flat=0.7, factors=_SLOW,
            data=_PAIRS | dict(draw=3, relations=4, comparisons=4, orders=2),
        ),
        _stage(
            "last", steps=400, size=16, rates=_ENDING, flat=0.2, factors=_SLOW, data=_LAST,
            ships="nano-blip2-t5",
        ),
    ),
)  # fmt: skip
NANO_MINIGPT4 = Recipe(
    name="nano-minigpt4",
    family="connectors",
    model=NANO_BLIP2.model,
    # the Q-Former of the BLIP-2 with a T5, as in MiniGPT-4, before another language model: one layer learns
    start=dict(vision="nano-vlm", qformer="nano-blip2-t5", language="nano-vlm"),
    needs=("nano-blip2-t5", "nano-vlm"),
    stages=(
        _stage("vlm", steps=250, size=16, data=_VLM | dict(scenes=8_000)),
        # few descriptions, good ones
        _stage(
            "polished", steps=100, size=16, rates=_LOW, data=_LAST | dict(scenes=300, described=1.0),
            ships="nano-minigpt4",
        ),
    ),
)  # fmt: skip
