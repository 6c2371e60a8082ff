"""The museum's tuning run: a small LLaVA learns to answer, in two seconds of one core (notebook 14).

    Tuning          what its setup says; its functions are those that people write, and write wrongly
    Patient         the model, two of whose steps the setup can say
    what_is_taught  which token each position learns to say, read off the loss itself
    loss_of_rows    the loss of a run once more, for gradient_report

The healthy run answers three quarters of the questions about new pictures; with a wrong picture, a quarter.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmcourse.data.chat import IGNORED, collate, label_mask
from vlmcourse.data.packing import Packs
from vlmcourse.data.text import END, IMAGE, PAD, VOCABULARY
from vlmcourse.families import nano
from vlmcourse.families.museum import Findings, Setup
from vlmcourse.families.nano import WORD_SIZE
from vlmcourse.models.fusion import check_places, inject
from vlmcourse.models.language import Ids, LlamaConfig, following
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.look import Look, packed
from vlmcourse.speak import Speaker
from vlmcourse.training.losses import answer_loss
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world import questions, scenes
from vlmcourse.world.render import render, to_tensor

HELD_OUT = 120  # scenes that are asked about after the training
WRITTEN = 20  # answers that are written, not only graded
PROBED = 16  # rows that probes look at


class AskedAbout(NamedTuple):
    """Pictures of two things each, and what is asked and answered about them."""

    images: np.ndarray
    talks: list[list[tuple[str, str]]]


@cache
def frozen_eye() -> Llava:
    """The model whose vision encoder all runs share."""
    model, _ = nano.load_vlm("nano-words")
    return model.requires_grad_(False)


@cache
def lessons_about(split: str, count: int, twice: bool = False) -> AskedAbout:
    """Up to four questions of colour and shape about each scene; or two, asked by two people each."""
    batch = scenes.sample(split, count, objects=(2, 2))
    asked = [questions.ask(batch, kind, seed=seed) for kind in ("colour", "shape") for seed in (0, 1)]
    talks = [[(each.text, each.answer) for each in row if each] for row in zip(*asked, strict=True)]
    clear = [number for number, row in enumerate(talks) if row]
    talks = [talks[number] for number in clear]
    return AskedAbout(render(batch[clear]), [row[:2] * 2 for row in talks] if twice else talks)


@cache
def eye_file(split: str, count: int, pixels: Callable) -> Float[Tensor, "image patch features"]:
    """What the frozen eye says of the pictures of lessons, made into numbers by ``pixels``."""
    images = lessons_about(split, count).images
    with torch.no_grad():
        return torch.cat([frozen_eye().image_features(pixels(part)) for part in np.array_split(images, 4)])


def answer_labels(ids: Ids) -> Ids:
    """The ids of answers and their ends, and -100 elsewhere; answer_loss moves them to where they follow."""
    return torch.where(label_mask(ids), ids, IGNORED)


def project_features(projector: nn.Module, features: Tensor) -> Tensor:
    """Image features to image tokens."""
    return projector(features)


def place_images(embeddings: Tensor, features: Tensor, places: Tensor) -> Tensor:
    """Image tokens to the placeholders of their own text, one for each."""
    check_places(places, len(features), features.shape[1])
    return inject(embeddings, features, places)


@dataclass(frozen=True)
class Tuning(Setup):
    """Instruction tuning: a projector and two blocks of width 64 learn from 1,900 questions."""

    steps: int = 100
    size: int = 12  # pictures of a step, with all their questions
    rate: float = 0.02  # of Muon; that of AdamW is a fifth
    clip: float = 1.0
    count: int = 500  # scenes
    twice: bool = False  # whether the corpus holds every question twice
    shuffle: int = 2  # squares of so many patches a side become one image token
    length: int | None = None  # of the longest row; what is longer is cut
    keep: str = "first"  # which end of a long row stays: first or last
    stop: int = 8  # tokens of an answer at most, when it is written
    pixels: Callable = to_tensor  # bytes to numbers, for the file of features
    live: Callable = to_tensor  # the same, when the model is in use
    pair: Callable[[int], Tensor] = torch.arange  # number of the picture of each row, of so many
    labels: Callable[[Ids], Ids] = answer_labels
    look: Callable[[Tensor], Look] = packed
    project: Callable[[nn.Module, Tensor], Tensor] = project_features
    place: Callable[[Tensor, Tensor, Tensor], Tensor] = place_images
    loss: Callable[[Tensor, Tensor, Callable], Tensor] = answer_loss  # of hidden vectors, labels and head

    def carry_out(self) -> Findings:
        taught, features = lessons_about("train", self.count, self.twice), self.file("train", self.count)
        eye = frozen_eye()  # before the seed: whoever loads it draws numbers
        torch.manual_seed(0)
        model = Patient(self, eye)
        model.projector.calibrate(features[:100], WORD_SIZE)
        model.vision.requires_grad_(False)
        whole = Speaker(model).encode(taught.talks)
        rows = shorten_rows(whole._replace(labels=self.labels(whole.ids)), self.length, self.keep)
        findings = Findings(model=model, rows=rows, features=features[self.pair(len(features))])
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        learn_rows(self, findings)
        findings.probes |= probe_rows(self, rows, whole) | probe_parts(self, findings, before)
        if not findings.stopped:
            model.setup = replace(self, place=place_images)  # a question to the finished model is never cut
            grade_tuned(self, findings)
        return findings

    def file(self, split: str, count: int) -> Float[Tensor, "image patch features"]:
        """The file of features that the run learns from."""
        return eye_file(split, count, self.pixels)


class Patient(Llava):
    """A small LLaVA; how its images are projected and placed, and who sees whom in a row, its setup says."""

    def __init__(self, setup: Tuning, eye: Llava):
        language = LlamaConfig(VOCABULARY, width=64, depth=2, heads=4, groups=2, tied=True)
        super().__init__(LlavaConfig(eye.config.vision, language, IMAGE, layer=-1, shuffle=setup.shuffle))
        self.setup, self.vision = setup, eye.vision
        nn.init.normal_(self.language.embedding.weight, std=WORD_SIZE)

    def connect(self, features: Tensor) -> Tensor:
        return self.setup.project(self.projector, features)

    def image_tokens(self, images: Tensor) -> Tensor:
        return self.connect(self.image_features(images))

    def embed(self, ids: Tensor, images: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        features = features if images is None else self.image_tokens(images)
        if features is None:
            return self.language.embed(ids)
        return self.setup.place(self.language.embed(ids), features, ids == IMAGE)

    def hidden_of_packs(self, ids: Tensor, packs: Tensor, features: Tensor) -> Tensor:
        return self.hidden(ids, features=features, look=self.setup.look(packs))


def shorten_rows(rows: Packs, length: int | None, keep: str) -> Packs:
    """Rows of at most so many tokens; their first or their last ones stay.

    Raises:
        ValueError: if keep is neither first nor last, or length is not positive.
    """
    if keep not in ("first", "last"):
        raise ValueError(f"keep is 'first' or 'last', the end of a long row that stays; not {keep!r}")
    if length is None:
        return rows
    if length < 1:
        raise ValueError(f"a row has at least one token; length is {length}")
    part = slice(None, length) if keep == "first" else slice(-length, None)
    counts = (rows.packs >= 0).sum(dim=1).tolist()
    columns = []
    for column, pad in zip(rows, (PAD, IGNORED, -1), strict=True):
        kept = [row[:count][part].tolist() for row, count in zip(column, counts, strict=True)]
        columns.append(collate(kept, pad)[0])
    return Packs(*columns)


def learn_rows(setup: Tuning, findings: Findings) -> None:
    """Train the model of the findings on their rows and features; an error that ends it is noted."""
    model = findings.model

    def loss(hidden: Tensor, rows: Packs, head: Callable) -> Tensor:
        return setup.loss(hidden, rows.labels, head)

    def note(step: int, **numbers: float) -> None:
        findings.losses.append(numbers["loss"])

    optimizer = MuonAdamW(model, setup.rate, setup.rate / 5)
    options = dict(optimizer=optimizer, schedule=warmup_linear(setup.steps, warmup=10), clip=setup.clip)
    options |= dict(steps=setup.steps, size=setup.size, seed=0, precision="no", watch=note)
    try:
        history = Speaker(model).tune(findings.features, findings.rows, loss=loss, **options)
        findings.gradient_norms = history.gradient_norms
    except (FloatingPointError, ValueError) as error:
        findings.stopped = str(error)
    model.eval()


def loss_of_rows(findings: Findings, count: int = 12) -> Callable[[nn.Module], Tensor]:
    """The loss of a tuning run's first rows, as a function of its model: what gradient_report takes."""
    features, rows = findings.features[:count], findings.rows.rows(slice(count))

    def loss(model: Patient) -> Tensor:
        return model.setup.loss(Speaker(model).hidden(features, rows), rows.labels, model.head)

    return loss


def grade_tuned(setup: Tuning, findings: Findings) -> None:
    """Grade the model on new pictures, with the right ones and with others; let it write some answers."""
    model, seen = findings.model, findings.seen
    lessons, live = lessons_about("test", HELD_OUT, setup.twice), eye_file("test", HELD_OUT, setup.live)
    speaker = Speaker(model)
    rows = speaker.encode(lessons.talks)
    right = speaker.grade(live, rows, batch=HELD_OUT)
    colour = torch.tensor(["colour" in asked for row in lessons.talks for asked, _ in row])
    seen["loss, step 1"], seen["loss, last steps"] = findings.losses[0], float(np.mean(findings.losses[-10:]))
    seen["right"] = share(right)
    seen["right, another picture"] = share(speaker.grade(live.roll(1, 0), rows, batch=HELD_OUT))
    seen["right, colours"], seen["right, shapes"] = share(right[colour]), share(right[~colour])
    if setup.pixels is not to_tensor:
        seen["right, pictures of the file"] = share(speaker.grade(setup.file("test", HELD_OUT), rows))
    if setup.twice:
        own = torch.tensor([number for number, row in enumerate(lessons.talks) for _ in row])
        alone = speaker.encode([[pair] for row in lessons.talks for pair in row])
        seen["right, asked alone"] = share(speaker.grade(live[own], alone, batch=len(own)))
    asked = [row[0] for row in lessons.talks[:WRITTEN]]
    said = speaker.answer(lessons.images[:WRITTEN], [text for text, _ in asked], steps=setup.stop)
    findings.said = [(text, words, true) for (text, true), words in zip(asked, said, strict=True)]
    seen["words of an answer"] = float(np.mean([len(words.split()) for words in said]))
    seen["right, written"] = float(np.mean([words == true for _, words, true in findings.said]))


def share(right: Tensor) -> float:
    return right.float().mean().item()


def what_is_taught(setup: Tuning, rows: Packs) -> Int[Tensor, "row token"]:
    """Which token each position learns to say; -100 where it learns nothing.

    Read off the gradient, whatever labels and loss are made of: of all scores, that of the taught token alone
    has a negative one.
    """
    scores = torch.zeros(*rows.ids.shape, VOCABULARY, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        setup.loss(scores, rows.labels, nn.Identity()), scores, allow_unused=True
    )
    if gradient is None:
        return torch.full_like(rows.ids, IGNORED)
    lowest, token = gradient.nan_to_num().min(dim=-1)
    return torch.where(lowest < 0, token, IGNORED)


def probe_rows(setup: Tuning, rows: Packs, whole: Packs) -> dict[str, float]:
    """What the rows teach; shares of all there is in the whole rows, or of all that is taught."""
    rows, whole = rows.rows(slice(PROBED)), whole.rows(slice(PROBED))
    taught, true = what_is_taught(setup, rows), following(answer_labels(rows.ids))
    there = following(answer_labels(whole.ids))
    right, any_token = (taught == true) & (true >= 0), taught >= 0
    count = max(int(any_token.sum()), 1)
    return {
        "answers taught": float((right & (true != END)).sum() / ((there >= 0) & (there != END)).sum()),
        "ends taught": float((right & (true == END)).sum() / (there == END).sum()),
        "taught that is no answer": float((any_token & ~right).sum() / count),
        "taught that is a placeholder": float((taught == IMAGE).sum() / count),
    }


def probe_parts(setup: Tuning, findings: Findings, before: dict[str, Tensor]) -> dict[str, float]:
    """What else can be wrong: pictures, masks, features, and which weights moved."""
    model, rows = findings.model, findings.rows.rows(slice(PROBED))
    now, size = model.state_dict(), len(findings.features)
    file, true = setup.file("train", setup.count)[:PROBED], eye_file("train", setup.count, to_tensor)[:PROBED]
    look, packs = setup.look(rows.packs), rows.packs
    mask = look.mask if look.mask is not None else torch.ones(1, dtype=torch.bool)
    others = (packs[:, :, None] > 0) & (packs[:, None] > 0) & (packs[:, :, None] != packs[:, None])
    return {
        "pictures of their own": share(setup.pair(size) == torch.arange(size)),
        "placeholders": float((rows.ids == IMAGE).sum() / (len(rows.ids) * model.tokens_per_image)),
        "placeholders filled rightly": filled_rightly(setup, model, rows.ids),
        "features unlike the eye's": float((file - true).abs().mean() / true.abs().mean()),
        "texts that see others": float((mask & others[:, None]).any(dim=-1).any(dim=-1).float().mean()),
        "texts in other places": float((look.positions != packed(packs).positions)[packs > 0].float().mean()),
    } | {f"{part} moved": moved(part, before, now) for part in ("projector", "language")}


def moved(part: str, before: dict[str, Tensor], now: dict[str, Tensor]) -> float:
    """By how much the weights of a part changed, as a share of their size."""
    names = [name for name in now if name.startswith(part)]
    change = sum((now[name] - before[name]).square().sum() for name in names)
    return float((change / sum(before[name].square().sum() for name in names)).sqrt())


def filled_rightly(setup: Tuning, model: Patient, ids: Ids) -> float:
    """Share of placeholders that get an image token of the picture of their own row."""
    places, row = ids == IMAGE, torch.arange(1.0, len(ids) + 1)
    marked = row[:, None, None].expand(-1, model.tokens_per_image, 1)
    try:
        filled = setup.place(torch.zeros(*ids.shape, 1), marked, places)[..., 0]
    except (ValueError, RuntimeError):
        return 0.0
    return share((filled == row[:, None])[places])
