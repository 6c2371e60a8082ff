"""The museum's other runs: loading, writing, comparing (notebook 14).

    Loading        nano-aligned is read from another project's file, and aligned a little further
    Asking         nano-vlm answers questions of different lengths in one batch
    Describing     nano-vlm writes captions, word by word
    Comparing      a small CLIP learns from scenes and their captions

As in museum_tuning.py, a field that is a function is one that people write, and its default is right.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import collate, encode
from vlmcourse.data.text import END, EOS, PAD, VOCABULARY, load_tokenizer
from vlmcourse.families import nano
from vlmcourse.families.museum import Findings, Setup
from vlmcourse.families.museum_tuning import lessons_about, share
from vlmcourse.models.attention import Cache
from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig, info_nce, normalise
from vlmcourse.models.generation import write, write_greedily
from vlmcourse.models.language import Llama, next_scores
from vlmcourse.models.llava import Llava
from vlmcourse.models.look import Look, causal
from vlmcourse.models.vit import ViTConfig
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import CheckpointError, load_strict
from vlmcourse.training.loop import learn
from vlmcourse.training.losses import alignment_loss
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.training.stages import align, encode_captions, set_stage
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import FULL, ordered_captions, turns
from vlmcourse.world.render import render, to_tensor


@cache
def described(split: str, count: int) -> tuple[np.ndarray, list[str]]:
    """Pictures, and a full caption of each."""
    batch = scenes.sample(split, count)
    return render(batch), ordered_captions(batch)


@cache
def their_file() -> dict[str, Tensor]:
    """The weights of nano-aligned under the names that another project gives them."""
    model, _ = nano.load_vlm("nano-aligned")
    return {name.replace("projector.", "mm_projector."): part for name, part in model.state_dict().items()}


def our_name(name: str) -> str:
    """Their name of a weight, as ours."""
    return name.replace("mm_projector.", "projector.")


@dataclass(frozen=True)
class Loading(Setup):
    """Alignment goes on from another project's file: the projector learns, all else is frozen."""

    steps: int = 8
    size: int = 8
    rate: float = 0.01
    strict: bool = True
    rename: Callable[[str], str] = our_name

    def carry_out(self) -> Findings:
        model = nano.new_vlm(seed=1)
        findings, file = (
            Findings(model=model),
            {self.rename(name): part for name, part in their_file().items()},
        )
        try:
            if self.strict:
                load_strict(model, file, "their file")
            else:
                model.load_state_dict(file, strict=False)
        except CheckpointError as error:
            findings.stopped = str(error)
        ours = {f"mm_projector.{name}": part for name, part in model.projector.state_dict().items()}
        same = [torch.equal(part, their_file()[name]) for name, part in ours.items()]
        findings.probes["projector as in the file"] = sum(same) / len(same)
        if not findings.stopped:
            self.align_on(findings)
        return findings

    def align_on(self, findings: Findings) -> None:
        model = findings.model
        images, texts = described("train", 64)
        findings.features = Speaker(model).features(images)
        set_stage(model, 1)
        how = dict(optimizer=MuonAdamW(model, self.rate), schedule=warmup_linear(self.steps, warmup=4))
        how |= dict(steps=self.steps, size=self.size, precision="no")
        history = align(model, findings.features, texts, **how)
        findings.losses, findings.gradient_norms = history.losses, history.gradient_norms
        findings.seen = {
            "loss, step 1": history.losses[0],
            "loss, last steps": float(np.mean(history.losses[-3:])),
            "loss, new pictures": caption_loss(model),
            "loss, another picture": caption_loss(model, other=1),
        }


@torch.no_grad()
def caption_loss(model: Llava, other: int = 0) -> float:
    """Nats per token of the captions of 40 new pictures; behind those of ``other`` places further on."""
    images, texts = described("validation", 40)
    features = Speaker(model).features(images).roll(other, 0)
    ids, given, mask = encode_captions(texts, model.tokens_per_image)
    scores = model(ids, features=model.connect(features), mask=mask)
    return alignment_loss(scores, ids, given, mask).item()


def fill_in_front(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
    """Prompts as one tensor that all end together, and True where real tokens stand."""
    return collate(rows, PAD, left=True)


@cache
def finished() -> Llava:
    """nano-vlm, which answers nearly everything."""
    model, _ = nano.load_vlm("nano-vlm")
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Asking(Setup):
    """nano-vlm answers 60 questions about new pictures, several at once."""

    size: int = 60  # questions of a batch
    steps: int = 6  # tokens of an answer at most
    fill: Callable[[Sequence[Sequence[int]]], tuple[Tensor, Tensor]] = fill_in_front

    def carry_out(self) -> Findings:
        model, lessons = finished(), lessons_about("test", 150)
        asked = [row[number % len(row)] for number, row in enumerate(lessons.talks[:60])]
        prompts = [ids_of(text, model) for text, _ in asked]
        said = []
        for start in range(0, len(asked), self.size):
            part = slice(start, min(start + self.size, len(asked)))
            said += self.answer(prompts[part], lessons.images[part])
        right = torch.tensor([words == true for words, (_, true) in zip(said, asked, strict=True)])
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        long = lengths == lengths.max()
        findings = Findings(model=model)
        findings.seen = {
            "right, longest questions": share(right[long]),
            "right, all others": share(right[~long]),
        }
        findings.said = [(text, words, true) for (text, true), words in zip(asked, said, strict=True)]
        ids, mask = self.fill([prompts[0], prompts[0][:-3]])
        findings.probes = {"prompts that end in a real token": share(mask[:, -1] & (ids[:, -1] != PAD))}
        return findings

    @torch.no_grad()
    def answer(self, prompts: list[list[int]], images: np.ndarray) -> list[str]:
        """Answers to the prompts of one batch."""
        model, (ids, mask) = finished(), self.fill(prompts)
        vectors = model.embed(ids, to_tensor(images))
        return Speaker(model).words.decode(write_greedily(model.language, vectors, mask, self.steps, END))


def ids_of(text: str, model: Llava) -> list[int]:
    """A question behind an image, as ids."""
    return encode([turns(text)], model.tokens_per_image, prompt=True).ids[0].tolist()


def go_on(positions: Int[Tensor, "... token"], past: int) -> Int[Tensor, "... token"]:
    """Where tokens stand behind ``past`` cached ones; ``positions`` count from the text's first token."""
    return positions


@dataclass(frozen=True)
class Describing(Setup):
    """nano-vlm describes new pictures; each step reads what was written since the last one."""

    count: int = 8  # pictures
    steps: int = 32  # tokens of a caption at most
    cached: bool = True  # whether what was read is kept; otherwise each step reads everything again
    places: Callable[[Tensor, int], Tensor] = go_on

    @torch.no_grad()
    def carry_out(self) -> Findings:
        model, (images, texts) = finished(), described("test", self.count)
        ids = encode([turns(FULL)] * self.count, model.tokens_per_image, prompt=True).ids
        prompt = model.embed(ids, to_tensor(images))
        written, again = (self.write_on(prompt, cached) for cached in (self.cached, False))
        said = Speaker(model).words.decode(written)
        findings = Findings(model=model, said=[(FULL, *pair) for pair in zip(said, texts, strict=True)])
        width = min(written.shape[1], again.shape[1])
        findings.seen = {
            "right, whole captions": float(
                np.mean([words == true for words, true in zip(said, texts, strict=True)])
            ),
            "right, first word": float(
                np.mean(
                    [words.split()[:1] == true.split()[:1] for words, true in zip(said, texts, strict=True)]
                )
            ),
            "tokens as without a cache": share(written[:, :width] == again[:, :width]),
        }
        findings.probes = {
            "places that go on": share(self.places(torch.arange(5, 9), 5) == torch.arange(5, 9))
        }
        return findings

    def write_on(self, prompt: Tensor, cached: bool) -> Int[Tensor, "batch written"]:
        """What is written behind prompts, greedily."""
        reader, read = Placed(finished().language, self.places), []
        caches = [Cache() for _ in reader.blocks] if cached else None

        def scores(unread: Tensor, mask: Tensor | None) -> Tensor:
            vectors = unread if unread.is_floating_point() else reader.embed(unread)
            read[:] = [vectors] if cached else [*read, vectors]
            return next_scores(reader, torch.cat(read, dim=1), mask, caches)

        best = lambda scores: scores.argmax(dim=-1, keepdim=True)  # noqa: E731
        return torch.cat(write(scores, prompt, None, self.steps, best, END, PAD), dim=1)


class Placed:
    """A language model whose tokens stand where ``places`` says."""

    def __init__(self, language: Llama, places: Callable[[Tensor, int], Tensor]):
        self.language, self.places = language, places
        self.blocks, self.head, self.embed = language.blocks, language.head, language.embed

    def hidden(self, tokens: Tensor, *, mask: Tensor | None = None, caches: list | None = None) -> Tensor:
        past = caches[0].length if caches else 0
        look = causal(tokens.shape[1], past, mask, tokens.device)
        return self.language.hidden(tokens, Look(look.mask, self.places(look.positions, past)), caches)


@cache
def captioned_pairs(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Pictures of one thing, as numbers, and their captions."""
    batch = scenes.sample(split, count, objects=(1, 1))
    return to_tensor(render(batch)), load_tokenizer().encode(captions.captions(batch, "short"), 24)[0]


@dataclass(frozen=True)
class Comparing(Setup):
    """A CLIP of two layers each learns which caption belongs to which picture."""

    steps: int = 40
    size: int = 64  # pairs of a batch
    rate: float = 0.01
    scale: float = 1 / 0.07  # where the learned scale begins
    unit: Callable[[Float[Tensor, "batch width"]], Float[Tensor, "batch width"]] = (
        normalise  # before comparing
    )

    def carry_out(self) -> Findings:
        torch.manual_seed(0)
        sizes = dict(width=64, depth=2, heads=4)
        towers = ViTConfig(64, 16, **sizes), TextConfig(VOCABULARY, EOS, length=24, **sizes)
        model = CLIP(CLIPConfig(*towers, width=64, scale=self.scale))

        def loss(model: CLIP, batch: tuple[Tensor, Tensor]) -> Tensor:
            image, text = model.encode_image(batch[0]), model.encode_text(batch[1])
            return info_nce(self.unit(image), self.unit(text), model.scale())

        how = dict(optimizer=MuonAdamW(model, self.rate), schedule=warmup_linear(self.steps, warmup=5))
        pairs = Batches(captioned_pairs("train", 640), self.size)
        history = learn(model, pairs, loss, steps=self.steps, precision="no", **how)
        findings = Findings(model=model, losses=history.losses, gradient_norms=history.gradient_norms)
        guess, last = math.log(self.size), float(np.mean(history.losses[-5:]))
        findings.seen = {
            "loss, step 1": history.losses[0],
            "loss, last steps": last,
            "ln of the batch": guess,
        }
        vectors = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
        lengths = self.unit(vectors).norm(dim=-1)
        findings.probes = {"shortest vector": float(lengths.min()), "longest vector": float(lengths.max())}
        return findings
