"""nano-video: nano-vlm learns to read several pictures in a row, and to point (notebook 16).

The eye stays as it is. A single picture keeps its 64 tokens, a frame of several has 16, the means of squares
of four patches. Before each frame stands its time, or which picture it is; order is told by RoPE and these
texts alone. 256 new words are the cells that location tokens name. One step mixes questions about pictures
(all that nano-vlm was asked, so that it forgets little, and where things are), about pairs, and about clips.
What changed is learned last: in training, each token of a second picture is to say what was there before.
"""

from dataclasses import replace
from functools import partial

from vlmcourse.models.video import VideoConfig
from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage
from vlmcourse.world.pointing import location_words

_NANO = NANO_VLM.model
_VOCABULARY = _NANO.language.vocabulary + len(location_words())
_stage = partial(Stage, rates=dict(muon=0.01, adamw=2e-3), factors=dict(projector=0.01), weight_decay=0.01)
# draw: which scenes; marked: each token of a second picture says as well whether its place changed
_CHANGES = dict(groups=800, pictures=1, pairs=6, clips=2, draw=11, marked=True)
# compared: pairs that are only asked what changed, in both orders, and say place by place what was there
_COMPARE = dict(groups=800, pictures=1, pairs=1, clips=2, draw=21, compared=8)
# weight: how much the loss of compared pairs counts; the others remind it of what it knows
_MORE = dict(groups=400, pictures=1, pairs=1, clips=2, draw=31, compared=16, weight=4.0)
_REMIND = dict(groups=400, pictures=3, pairs=3, clips=2, draw=41, compared=4)
_GENTLE = dict(muon=0.006, adamw=1.2e-3)

NANO_VIDEO = Recipe(
    name="nano-video",
    family="video",
    needs=("nano-vlm",),
    model=VideoConfig(
        _NANO.vision, replace(_NANO.language, vocabulary=_VOCABULARY), _NANO.image_token, _NANO.layer
    ),
    # whose eye it has, and whose projector and language model it begins with
    start=dict(vision="nano-vlm"),
    stages=(
        # order, places and directions; all at the full rate
        _stage("frames", steps=400, size=4, data=dict(groups=2500, pictures=1, pairs=3, clips=2), flat=0.999),
        # what changed, place by place
        _stage("changes", steps=500, size=3, data=_CHANGES, flat=0.4),
        # how that looked before
        _stage("compare", steps=1000, size=2, data=_COMPARE, flat=0.4),
        _stage("sentences", steps=800, size=1, data=_MORE, flat=0.4),
        # and all that it was to keep, which suffered: boxes above all
        _stage("reminders", steps=400, size=1, data=_REMIND, flat=0.1, rates=_GENTLE, ships="nano-video"),
    ),
)
