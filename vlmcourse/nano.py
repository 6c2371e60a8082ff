"""The nano VLM: a vision-language model trained from nothing in 50 minutes on one CPU core (notebooks 00 and 08).

    CONFIG          what it looks like: an eye, a projector, a small LLaMA
    STAGES          how it comes about: eye, words, alignment, instructions
    make            run the stages, one after the other; a run that was broken off goes on
    load_vlm        a shipped model, the last stage or an earlier one, and its card
    features        what the eye says of images; computed once, since it is frozen
    tune            instruction tuning: projector and language model
    answer          what the model says to instructions about images
    answered_right  whether it would write given answers, many questions about one image at once
    measure         every number of the card

The eye learns what patches show (training/regions.py), the language model learns how captions read, the
projector learns to translate between the two (training/stages.py), and then both learn to follow
instructions.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import encode
from vlmcourse.data.packing import Packs, pack
from vlmcourse.data.pixels import in_grey
from vlmcourse.data.text import END, IMAGE, PAD, load_tokenizer
from vlmcourse.diagnostics.looks import Blind, twin_score
from vlmcourse.evaluation.statements import stated, true_share
from vlmcourse.models.generation import generate
from vlmcourse.models.language import IGNORED, LlamaConfig, following, next_token_loss
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.training import losses
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import train
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.training.precision import choose_precision
from vlmcourse.training.regions import EYE, RegionReader, new_eye, train_eye
from vlmcourse.training.stages import align, set_stage
from vlmcourse.world import captions, questions, scenes, twins
from vlmcourse.world.instructions import FULL, SHORT, Talk, hard_talks, pale_talks, talks, turns
from vlmcourse.world.render import render, to_tensor

LANGUAGE = LlamaConfig(1024, width=128, depth=4, heads=4, groups=2, tied=True)
CONFIG = LlavaConfig(EYE, LANGUAGE, IMAGE, layer=-1)
WORD_SIZE = (
    0.3  # root mean square of a word's vector at the start, so that attention can tell words apart at once
)
SLOW = 0.01  # of the rates, for the projector while the language model learns
LONGEST = 64  # tokens of an answer
GREY = 235  # of a picture that shows nothing; a scene's paper is about as light
STAGES = {
    "eye": dict(scenes=30_000, steps=1400, size=32),
    "words": dict(scenes=20_000, steps=200, size=64),
    "aligned": dict(scenes=8_000, steps=150, size=32),
    "vlm": dict(scenes=24_000, steps=2400, size=16),
}


def new_vlm(config: LlavaConfig = CONFIG, seed: int = 0) -> Llava:
    """An untrained model; its eye is new as well."""
    torch.manual_seed(seed)
    model = Llava(config)
    model.vision = new_eye(config.vision)
    nn.init.normal_(model.language.embedding.weight, std=WORD_SIZE)
    return model


def load_vlm(name: str = "nano-vlm") -> tuple[Llava, dict[str, Any]]:
    """A model in evaluation mode, and its card.

    Args:
        name: "nano-vlm"; "nano-words" or "nano-aligned", as the stages before left it; or a file that
            ``vlmcourse train`` wrote, ending in .safetensors.

    Raises:
        FileNotFoundError: if there is no such model; names those that there are.
        CheckpointError: if the file is damaged, or another model's.
    """
    model = new_vlm()
    card = load_weights(model, name if name.endswith(".safetensors") else shipped(f"{name}.safetensors"))
    return model.eval(), card


# ---- training ------------------------------------------------------------------------------------------------


@torch.no_grad()
def features(
    model: Llava, images: np.ndarray | Tensor, batch: int = 500
) -> Float[Tensor, "image patch width"]:
    """What the eye says of uint8 images (image, 64, 64, 3), in bf16 to save memory."""
    parts = torch.as_tensor(images).split(batch)
    return torch.cat([model.image_features(to_tensor(part.numpy())).bfloat16() for part in parts])


def encode_talks(model: Llava, about: Sequence[Talk]) -> Packs:
    """Conversations as one row per image, see data/packing.py."""
    return pack([[turns(*each) for each in row] for row in about], model.tokens_per_image)


def balanced_loss(model: Llava, seen: Tensor, rows: Packs) -> Tensor:
    """Mean cross-entropy of the answers' tokens; ``seen`` are features of the images, one row about each.

    A token of an answer of n tokens counts 1 / √n, or captions would drown the questions that are answered in
    a word.
    """
    rows = rows.cut()
    hidden = model.hidden(rows.ids, features=model.projector(seen), packs=rows.packs)
    return losses.balanced_loss(hidden, rows.labels, rows.packs, model.head)


def tune(model: Llava, seen: Tensor, rows: Packs, *, steps: int, size: int = 32, lr: float = 0.01,
         other_lr: float = 2e-3, seed: int = 0, **how: Any) -> History:  # fmt: skip
    """Instruction tuning, stage 2: projector and language model learn to answer; the eye only gives its features.

    Args:
        seen: see features.
        rows: see encode_talks; one row per image.
        size: images per step.
        lr, other_lr: of Muon and of AdamW, see MuonAdamW; the projector learns at SLOW times these. At the
            full rate it forgets what no answer needs yet, such as left and right, before the language model
            learns to ask for it.
        how: further arguments of training.loop.train.
    """
    set_stage(model, 2)

    def loss(model: Llava, both: tuple[Tensor, tuple]) -> Tensor:
        return balanced_loss(model, both[0].float(), Packs(*both[1]))

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = choose_precision(
        device, size * int((rows.packs >= 0).sum(1).float().mean()), LANGUAGE.width
    ).name
    optimizer = MuonAdamW(model, lr, other_lr, factors={"projector": SLOW})
    how = dict(optimizer=optimizer, schedule=warmup_linear(steps, flat=0.5), precision=precision) | how
    history = train(model, Batches((seen, tuple(rows)), size, seed=seed), loss, steps=steps, **how)
    model.cpu().eval().requires_grad_(True)
    return history


@torch.no_grad()
def answered_right(model: Llava, seen: Tensor, rows: Packs, batch: int = 100) -> Bool[Tensor, "conversation"]:
    """Of each conversation, row by row, whether the model would write its answers word for word, greedily."""
    found = []
    for start in range(0, len(seen), batch):
        part = Packs(*(each[start : start + batch] for each in rows)).cut()
        answers = following(part.labels)
        wanted = answers != IGNORED
        hidden = model.hidden(
            part.ids, features=model.projector(seen[start : start + batch].float()), packs=part.packs
        )
        missed = torch.zeros_like(part.packs)
        missed[wanted] = (model.head(hidden[wanted]).argmax(-1) != answers[wanted]).long()
        counts = torch.zeros(len(part.ids), int(part.packs.max()) + 1, dtype=torch.long)
        counts.scatter_add_(1, part.packs.clamp(min=0), missed)
        asked = torch.zeros_like(counts).scatter_(1, part.packs.clamp(min=0), 1)[:, 1:] > 0
        found.append(counts[:, 1:][asked] == 0)
    return torch.cat(found)


def exact(model: Llava, seen: Tensor, rows: Packs) -> float:
    """Share of conversations whose answers the model would write word for word; see answered_right."""
    return answered_right(model, seen, rows).float().mean().item()


def read_captions(
    model: Llava, told: Sequence[tuple[str, str]], *, steps: int, size: int = 64, seed: int = 0, **how: Any
) -> History:
    """Train the language model on instructions and captions without images: how they read, before any can be seen."""
    ids, mask, _ = encode([[("user", asked), ("assistant", text)] for asked, text in told])

    def loss(language: nn.Module, both: tuple[Tensor, Tensor]) -> Tensor:
        return next_token_loss(language(both[0]), *both)

    how = dict(optimizer=MuonAdamW(model.language), schedule=warmup_linear(steps)) | how
    history = train(model.language, Batches((ids, mask), size, seed=seed), loss, steps=steps, **how)
    model.cpu().eval()
    return history


def make(name: str, model: Llava, seed: int = 0, size: dict[str, int] | None = None, **how: Any) -> History:
    """Run one stage on the model as the stages before it left it.

    Args:
        name: one of STAGES.
        size: scenes, steps and images per step; those of STAGES when not given.
        how: further arguments of training.loop.train, such as checkpoint and resume.

    Raises:
        KeyError: for an unknown stage.
    """
    plan = dict(STAGES[name] if size is None else size)
    batch, steps = scenes.sample("train", plan.pop("scenes"), seed=seed), plan.pop("steps")
    how = dict(seed=seed) | plan | how
    if name == "eye":
        torch.manual_seed(seed)
        return train_eye(RegionReader(model.vision), batch, steps=steps, **how)
    full = captions.captions(batch, "full")
    if name == "words":
        told = [(FULL, text) for text in full] + [(SHORT, text) for text in captions.captions(batch, "short")]
        return read_captions(model, told, steps=steps, **how)
    if name == "aligned":
        seen = features(model, render(batch))
        model.projector.calibrate(seen[:500], WORD_SIZE)
        return align(model, seen, full, steps=steps, **how)
    return tune(model, *lessons(model, batch, seed), steps=steps, **how)


def lessons(model: Llava, batch: scenes.Scenes, seed: int = 0, grey: float = 0.25) -> tuple[Tensor, Packs]:
    """Features and conversations of scenes for instruction tuning.

    Args:
        grey: share of scenes that are seen in grey and asked nothing of colours, so that the language model
            cannot learn which colours a shape usually has.
    """
    images, pale = render(batch), np.random.default_rng(seed).random(len(batch)) < grey
    images[pale] = in_grey(images[pale])
    about = [a + b for a, b in zip(talks(batch, seed=seed), hard_talks(batch, seed=seed), strict=True)]
    for number, row in zip(np.flatnonzero(pale), pale_talks(batch[pale], seed=seed), strict=True):
        about[number] = row
    return features(model, images), encode_talks(model, about)


# ---- use and measurement -------------------------------------------------------------------------------------


@torch.no_grad()
def answer(model: Llava, images: np.ndarray, instructions: Sequence[str], batch: int = 200) -> list[str]:
    """What the model says about each image, always with the likeliest word.

    Args:
        images: uint8 (image, 64, 64, 3), one for each instruction.

    Raises:
        ValueError: if there are not as many images as instructions.
    """
    if len(images) != len(instructions):
        raise ValueError(
            f"{len(images)} images and {len(instructions)} instructions; give one of each per answer"
        )
    said = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        chats = encode([turns(text) for text in instructions[part]], model.tokens_per_image, prompt=True)
        written = generate(
            model, chats.ids, mask=chats.mask, images=to_tensor(images[part]), steps=LONGEST, eos=END
        )
        for row in written[:, chats.ids.shape[1] :].tolist():
            kept = row[: row.index(END)] if END in row else row
            said += load_tokenizer().decode([[token for token in kept if token != PAD]])
    return said


def blinded(images: np.ndarray) -> np.ndarray:
    """Empty pictures in place of the images, for the blind control: what is answered then was not seen."""
    return np.full_like(images, GREY)


def measure(model: Llava, count: int = 300) -> dict[str, float]:
    """The metrics of the card, on scenes never seen: shares from 0 to 1.

    Args:
        count: scenes for each kind of question, for the twins of each kind, and for captions.
    """
    found = {}
    for split, name in (("test", "answers"), ("novel", "answers, new combinations")):
        kinds = {kind: accuracy(model, scenes.sample(split, count), kind) for kind in questions.KINDS}
        found[name] = sum(kinds.values()) / len(kinds)
        found |= {f"{name}: {kind}": share for kind, share in kinds.items()}
    found["answers without the image"] = sum(
        accuracy(model, scenes.sample("test", count), kind, blind=True) for kind in questions.KINDS
    ) / len(questions.KINDS)
    found["answer prior"] = prior_accuracy(count)
    found["twins, both right"] = twins_right(model, count // 4)
    batch = scenes.sample("test", count)
    said = answer(model, render(batch), [FULL] * count)
    found["captions, true statements"] = true_share(said, batch)
    whole = [len(stated(one)) == things and true_share([one], batch[n : n + 1]) == 1
             for n, (one, things) in enumerate(zip(said, batch.count.tolist(), strict=True))]  # fmt: skip
    found["captions, all true and complete"] = sum(whole) / count
    return {name: round(value, 4) for name, value in found.items()}


def asked_of(batch: scenes.Scenes, kind: str) -> tuple[scenes.Scenes, list[questions.Question]]:
    """The scenes that allow a question of this kind, and the question to each."""
    asked = questions.ask(batch, kind)
    rows = [n for n, question in enumerate(asked) if question]
    return batch[np.array(rows, int)], [asked[n] for n in rows]


def accuracy(model: Llava, batch: scenes.Scenes, kind: str, blind: bool = False) -> float:
    """Share of right answers to one question of this kind about each scene, with or without seeing it."""
    batch, asked = asked_of(batch, kind)
    images = blinded(render(batch)) if blind else render(batch)
    said = answer(model, images, [question.text for question in asked])
    return sum(a == q.answer for a, q in zip(said, asked, strict=True)) / len(asked)


@torch.no_grad()
def caption_perplexity(model: Llava, texts: Sequence[str]) -> float:
    """Perplexity per token of captions without their images: what instruction tuning left of the language."""
    ids, mask, labels = encode([[("user", FULL), ("assistant", text)] for text in texts])
    return math.exp(next_token_loss(model.language(ids, mask=mask), labels, mask).item())


def prior_accuracy(count: int = 300) -> float:
    """Share of right answers by habit: for every kind the answer that is given most often in training scenes."""
    shares = []
    for kind in questions.KINDS:
        known = [question.answer for question in asked_of(scenes.sample("train", 2000), kind)[1]]
        asked = asked_of(scenes.sample("test", count), kind)[1]
        guess = Blind([kind] * len(known), known)([kind])[0]
        shares.append(sum(question.answer == guess for question in asked) / len(asked))
    return sum(shares) / len(shares)


def twins_right(model: Llava, count: int = 75) -> float:
    """Share of twin pairs, of all kinds, with both answers right."""
    shares = []
    for kind in questions.KINDS:
        batch, asked = asked_of(scenes.sample("test", count, start=5000), kind)
        changed, other = twins.twins(batch, asked)
        texts = [question.text for question in asked]
        said = [answer(model, render(each), texts) for each in (batch, changed)]
        right = [[question.answer for question in each] for each in (asked, other)]
        shares.append(twin_score(said[0], right[0], said[1], right[1])[1])
    return sum(shares) / len(shares)
