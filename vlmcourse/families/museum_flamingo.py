"""The museum's runs with a Flamingo: several pictures in one text, and words before the first (notebook 14).

LookingBack     nano-flamingo is asked about the last of several pictures
Interleaving    a small Flamingo begins to learn from documents of words and pictures
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool
from torch import Tensor

from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import Chats, encode
from vlmcourse.data.text import ASSISTANT, IMAGE, IMAGE_WORD, VOCABULARY, load_tokenizer
from vlmcourse.families import connectors
from vlmcourse.families.museum import Findings, Setup
from vlmcourse.families.museum_tuning import frozen_eye, lessons_about, share
from vlmcourse.models.attention import Cache, merge_heads
from vlmcourse.models.flamingo import (
    Flamingo,
    FlamingoConfig,
    GatedBlock,
    gated_block,
    media_mask,
    side_by_side,
)
from vlmcourse.models.language import IGNORED, LlamaConfig, next_token_loss, swiglu
from vlmcourse.speak import Speaker
from vlmcourse.training.loop import learn
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import turns
from vlmcourse.world.render import render, to_tensor


def last_picture(starts: Bool[Tensor, "batch token"], images: int) -> Bool[Tensor, "batch token image"]:
    """True where a token may look at an image: at the last one that stands at or before it."""
    return media_mask(starts, images, last_only=True)


class Watcher(Flamingo):
    """A Flamingo whose tokens look at the images that ``sees`` allows."""

    sees: Callable[[Tensor, int], Tensor]

    def media(self, ids: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        starts = ids == IMAGE
        counts = starts.sum(dim=1)
        allowed = self.sees(starts, int(counts.max())).repeat_interleave(latents.shape[1], dim=-1)
        return side_by_side(latents, counts), allowed[:, None]


@cache
def watcher() -> Watcher:
    """nano-flamingo, which learned from texts about one image."""
    model, _ = connectors.load_connected("nano-flamingo")
    ours = Watcher(model.config)
    ours.load_state_dict(model.state_dict())
    return ours.eval().requires_grad_(False)


@dataclass(frozen=True)
class LookingBack(Setup):
    """nano-flamingo answers a question about a picture, behind other pictures with their questions."""

    shots: int = 1  # pictures before the one that is asked about
    media: Callable[[Tensor, int], Tensor] = last_picture

    @torch.no_grad()
    def carry_out(self) -> Findings:
        model, lessons, count = watcher(), lessons_about("test", 150), 60
        model.sees = self.media
        shown = [[(n + other) % count for other in range(self.shots, -1, -1)] for n in range(count)]
        chats = []
        for pictures in shown:
            chats.append([turn for picture in pictures for turn in turns(*lessons.talks[picture][0])])
        rows = encode(chats)
        features = Speaker(model).features(lessons.images[:count])[torch.tensor(shown).flatten()]
        scores = model(rows.ids, features=model.connect(features), mask=rows.mask)
        findings = Findings(model=model, rows=rows, features=features)
        findings.seen = {"right, last picture": answered(scores, rows, self.shots + 1)}
        if self.shots:
            findings.seen["right, first picture"] = answered(scores, rows, 1)
        starts = torch.tensor([[False, True, False, True, False]])
        wanted = torch.tensor([[[0, 0], [1, 0], [1, 0], [0, 1], [0, 1]]]).bool()
        findings.probes = {"looks that are right": share(self.media(starts, 2) == wanted)}
        return findings


def answered(scores: Tensor, rows: Chats, number: int) -> float:
    """Share of rows whose ``number``-th answer, from 1, is the likeliest."""
    labels = rows.labels[:, 1:]
    mine = (labels >= 0) & ((rows.ids == ASSISTANT).cumsum(dim=1)[:, 1:] == number)
    return share(~(mine & (scores[:, :-1].argmax(dim=-1) != labels)).any(dim=1))


def attend_or_nothing(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Values mixed by softmax(query · key / √part) where the mask allows; zeros where it allows nothing."""
    sees = mask.any(dim=-1, keepdim=True)
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~mask & sees, -torch.inf).softmax(dim=-1)
    return (weights @ value).masked_fill(~sees, 0.0)


class OpenBlock(GatedBlock):
    """A gated block whose attention to images is ``attend``."""

    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        def look(tokens: Tensor) -> Tensor:
            parts = self.attention.project(self.norm_before_attention(tokens), context, None, cache)
            return self.attention.project_out(merge_heads(self.attend(*parts, mask)))

        def think(tokens: Tensor) -> Tensor:
            return swiglu(self.norm_before_mlp(tokens), self.gate, self.up, self.down)

        return gated_block(tokens, look, think, self.look_gate, self.think_gate)


@cache
def documents(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids and mask of captions behind their images, what the eye says, and which of them begin with words."""
    batch = scenes.sample("train", count, objects=(1, 2))
    worded = torch.arange(count) % 200 == 50  # few do
    before = ["a picture of shapes. " * words + IMAGE_WORD for words in worded.tolist()]
    texts = captions.captions(batch, "short")
    ids, mask = load_tokenizer().encode([start + text for start, text in zip(before, texts, strict=True)])
    with torch.no_grad():
        seen = frozen_eye().vision.read(to_tensor(render(batch)))
    return ids, mask, seen, worded


@dataclass(frozen=True)
class Interleaving(Setup):
    """A small Flamingo with open gates begins to learn from 400 documents; a few begin with words."""

    steps: int = 20
    size: int = 12  # documents of a step
    rate: float = 0.01
    clip: float = 1.0
    worded: bool = True  # whether documents that begin with words are read
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = attend_or_nothing  # query, key, value, mask

    def carry_out(self) -> Findings:
        eye, (*columns, worded) = frozen_eye(), documents(400)
        torch.manual_seed(0)  # behind what is made once and kept
        language = LlamaConfig(VOCABULARY, width=64, depth=2, heads=4, groups=2, tied=True)
        sizes = dict(latents=8, resampler_depth=1, gate=0.5)
        model = Flamingo(FlamingoConfig(eye.config.vision, language, IMAGE, **sizes))
        model.vision.requires_grad_(False)
        for block in model.gated:
            block.__class__, block.attend = OpenBlock, self.attend
        read = torch.ones_like(worded) if self.worded else ~worded
        findings = Findings(model=model, rows=columns[0][read], features=columns[2][read])
        self.learn_on(findings, tuple(column[read] for column in columns))
        findings.seen = {"steps made": float(len(findings.losses)), "loss, step 1": findings.losses[0]}
        findings.seen["loss, last step"] = findings.losses[-1]
        findings.probes = probe_empty_row(self.attend) | {"documents read": share(read)}
        return findings

    def learn_on(self, findings: Findings, columns: tuple[Tensor, ...]) -> None:
        def loss(model: Flamingo, batch: tuple[Tensor, ...]) -> Tensor:
            ids, mask, seen = batch
            scores = model(ids, features=model.connect(seen), mask=mask)
            return next_token_loss(scores, ids.masked_fill(ids == IMAGE, IGNORED), mask)

        def note(step: int, **numbers: float) -> None:
            findings.losses.append(numbers["loss"])

        how = dict(optimizer=MuonAdamW(findings.model, self.rate, self.rate / 5), clip=self.clip, watch=note)
        how |= dict(steps=self.steps, schedule=warmup_linear(self.steps, warmup=5), precision="no")
        try:
            history = learn(findings.model, Batches(columns, self.size), loss, **how)
            findings.gradient_norms = history.gradient_norms
        except FloatingPointError as error:
            findings.stopped = str(error)


def probe_empty_row(attend: Callable) -> dict[str, float]:
    """What an attention makes of one query that may see nothing, and one that may see the first key."""
    parts = [
        torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(n), requires_grad=True)
        for n in range(3)
    ]
    out = attend(*parts, torch.tensor([[False, False], [True, False]])[None, None])
    gradients = torch.autograd.grad(out.sum(), parts, allow_unused=True)
    finite = all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    return {
        "an empty row is a number": float(out.isfinite().all()),
        "its gradient is a number": float(finite),
        "an empty row sees something": float(out[0, 0, 0].detach().nan_to_num().abs().max()),
    }
