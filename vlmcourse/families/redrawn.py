"""SmolLM2 looks at drawings that were moved, scaled and turned, with the eye of DINOv2 (notebook 17).

    load_redrawn    smollm-openmoji with that eye in the place of its own, and a projector that chooses words
    summaries       what the eye says of drawings, kept in the course's cache
    measure         sentences about combinations never seen, as drawn and moved, scaled, turned
    measure_clip    the same of smollm-openmoji, whose eye is CLIP's

Nothing else is new: the language model and its LoRA are smollm-openmoji's. It learned to read five tokens
that say words, and this projector says words too.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlmcourse.data import openmoji
from vlmcourse.data.assets import cache_folder, shipped, written_beside
from vlmcourse.data.batches import Batches
from vlmcourse.data.openmoji import Parts
from vlmcourse.data.redrawing import UNMOVED, Move, redraw, some_moves
from vlmcourse.evaluation.answers import grade_sentences
from vlmcourse.families import real
from vlmcourse.families.drawings import DRAWING_KINDS, drawing_questions
from vlmcourse.interop.summary import SummaryEye, load_summary
from vlmcourse.models.choosing import ChoosingProjector
from vlmcourse.models.language import Llama
from vlmcourse.models.llava import Llava
from vlmcourse.recipes.recipe import Made, Options, Recipe
from vlmcourse.recipes.redrawn import SMOLLM_DINOV2
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.resume import hash_weights
from vlmcourse.training.sharing import own_rows, process_count
from vlmcourse.world.render import to_tensor

TEST_MOVES = {  # of the test; training has none of these, but others of their kind
    "as drawn": Move(), "moved": Move(right=0.08, down=0.08), "scaled": Move(scale=0.8),
    "turned": Move(turn=15.0),
}  # fmt: skip
LAYER, HIDDEN = SMOLLM_DINOV2.model["layer"], SMOLLM_DINOV2.model["hidden"]
PART = 100  # drawings in a file of the cache
Lists = list[list[str]]


def people() -> Int[np.ndarray, "drawing"]:
    """The rows of the training drawings that have a gender or a skin tone."""
    parts = openmoji.load("train").parts
    return np.array([row for row, part in enumerate(parts) if part.gender or part.tone])


def words_of(part: Parts) -> list[str]:
    """What each of the five tokens says of a drawing: two words of the role, the rest, gender, skin tone."""
    role, gender, tone = (re.findall(r"[\w-]+", text) for text in part)
    return [" ".join(words) for words in (role[:1], role[1:2], role[2:], gender, tone)]


def word_lists() -> Lists:
    """What each token can say, in alphabetical order; "" is nothing."""
    parts = openmoji.load("train").parts
    spoken = [words_of(parts[row]) for row in people()]
    return [sorted(set(column)) for column in zip(*spoken, strict=True)]


def new_projector(language: Llama, tokenizer: Any, features: int) -> ChoosingProjector:
    """An untrained one, whose words lie where smollm-openmoji's tokens learned to lie."""
    table = language.embedding.weight.detach()[: len(tokenizer) - 1]  # <image> is no word
    mean, lists = table.mean(0), []
    for names in word_lists():
        sums = [sum((real.word_vectors(language, tokenizer, [word])[0] - mean for word in name.split()),
                    torch.zeros_like(mean)) for name in names]  # fmt: skip
        lists.append(mean + torch.stack(sums))
    return ChoosingProjector(features, HIDDEN, lists)


def exchange(model: Llava, tokenizer: Any, eye: SummaryEye) -> Llava:
    """smollm-openmoji with another eye and a new projector, in place."""
    model.projector = new_projector(model.language, tokenizer, eye.config.width)
    model.vision, spread = eye, model.projector.spread
    model.config = replace(
        model.config, vision=eye.config, layer=LAYER, hidden=HIDDEN, shuffle=1, spread=spread
    )
    return model.eval().requires_grad_(False)


def load_redrawn(smollm: real.Smollm | None = None) -> tuple[Llava, Any, dict[str, Any]]:
    """The shipped model in evaluation mode, its tokenizer and its card; it reads images of 224 pixels.

    Args:
        smollm: if it is in memory already; the model gets the eye and LoRA.

    Raises:
        FileNotFoundError: if the course ships no such model.
        CheckpointError: if a file is damaged, or another model's.
        interop.hub.MissingModel: if SmolLM2 or DINOv2 is not on this machine; says what to run.
    """
    eye = load_summary()
    model, tokenizer, _ = real.load_real("smollm-openmoji", smollm)
    exchange(model, tokenizer, eye)
    card = load_weights(model.projector, shipped(f"{SMOLLM_DINOV2.name}.safetensors"))
    return model, tokenizer, card


# ---- what the eye says -------------------------------------------------------------------------------------


@torch.no_grad()
def summaries(
    eye: SummaryEye, split: str, rows: Sequence[int], moves: Move | Sequence[Move] = UNMOVED
) -> Float[Tensor, "drawing 1 summary"]:
    """What the eye says of drawings; arguments as of data.redrawing.redraw.

    It takes some tenths of a second for each on one core, so it is kept: a file for every 100 drawings, under
    the hash of the eye, the layer and the pixels. What was broken off goes on behind the last file.
    """
    key, found = hash_weights(eye), []
    moves = [moves] * len(rows) if isinstance(moves, Move) else moves
    for start in range(0, len(rows), PART):
        part = slice(start, start + PART)
        images = redraw(split, rows[part], moves[part], eye.config.patch_size)
        found.append(_kept_summaries(eye, images, key))
    return torch.cat(found)[:, None].float()


def _kept_summaries(eye: SummaryEye, images: np.ndarray, key: str) -> Float[Tensor, "drawing summary"]:
    name = hashlib.sha256(f"{key} {LAYER}".encode() + images.tobytes()).hexdigest()[:32]
    path = cache_folder() / "summaries" / f"{name}.safetensors"
    try:
        stored = load_file(path)["summaries"]
        if stored.shape == (len(images), eye.config.width):
            return stored
    except Exception:  # not there, or not whole: made again
        pass
    parts = [images[start : start + 10] for start in range(0, len(images), 10)]
    made = torch.cat([eye.patches(to_tensor(part), LAYER)[:, 0] for part in parts]).half()
    try:
        with written_beside(path) as draft:
            save_file({"summaries": made}, draft)
    except OSError as error:  # a full disk costs only time
        warnings.warn(f"what the eye said cannot be kept in {path.parent} ({error})", stacklevel=3)
    return made


# ---- the recipe --------------------------------------------------------------------------------------------


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out recipes/redrawn.py: only the projector learns, and no language model runs for it."""
    (stage,) = recipe.stages
    model, tokenizer, _ = real.load_real("smollm-openmoji")
    exchange(model, tokenizer, load_summary())
    given = dict(steps=stage.steps, size=stage.size, lr=stage.rates["adamw"], seed=recipe.seed)
    given |= options(stage, model.projector)  # whoever counts seconds counts those of the eye, too
    features, chosen = moved_lessons(model.vision, stage.data["rounds"])
    history = choose_words(model.projector, features, chosen, drop=stage.data["drop"], **given)
    yield Made(stage, model.projector, history, partial(measure, real.speaker(model, tokenizer)))


def moved_lessons(
    eye: SummaryEye, rounds: int
) -> tuple[Float[Tensor, "drawing 1 summary"], Int[Tensor, "drawing token"]]:
    """Drawings of people, once as drawn and then moved by chance; and which word each token should say."""
    train, rows, lists = openmoji.load("train"), people(), word_lists()
    features = [summaries(eye, "train", rows)]
    for seed in range(1, rounds):
        moves = some_moves(len(train), seed)
        features.append(summaries(eye, "train", rows, [moves[row] for row in rows]))
    spoken = [words_of(train.parts[row]) for row in rows]
    chosen = [[names.index(word) for names, word in zip(lists, words, strict=True)] for words in spoken]
    return torch.cat(features), torch.tensor(chosen).repeat(rounds, 1)


def choose_words(
    projector: ChoosingProjector,
    features: Float[Tensor, "drawing 1 summary"],
    chosen: Int[Tensor, "drawing token"],
    *,
    steps: int,
    size: int = 256,
    lr: float = 3e-3,
    drop: float = 0.2,
    seed: int = 0,
    **options: Any,
) -> History:
    """Train the projector to say these words.

    Args:
        drop: share of the summary's numbers that are hidden in each step.
        options: further arguments of training.loop.train.
    """
    deviation, mean = torch.std_mean(features, dim=0)
    scaled = (features - mean) / deviation.clamp(min=1e-6)
    projector.requires_grad_(True)
    chance = torch.Generator().manual_seed(seed)

    def loss(model: ChoosingProjector, batch: tuple[Tensor, Tensor]) -> Tensor:
        drawn = torch.rand(process_count() * len(batch[0]), *batch[0].shape[1:], generator=chance)
        seen = own_rows(drawn).to(batch[0].device) >= drop
        pairs = zip(model.scores(batch[0] * seen / (1 - drop)), batch[1].T, strict=True)
        return sum(torch.nn.functional.cross_entropy(scores, right) for scores, right in pairs)

    batches = Batches((scaled, chosen), size, seed=seed)
    options = dict(precision="no") | options
    history = learn(projector, batches, loss, steps=steps, lr=lr, **options)
    projector.calibrate(features)  # from here on it reads summaries as they are
    projector.eval().requires_grad_(False)
    return history


def unseen() -> Int[np.ndarray, "drawing"]:
    """The rows of the held-out drawings that no choice looked at.

    While the eye's summary and the projector were thought out, 120 of them, spread evenly, were looked at.
    """
    looked_at = np.linspace(0, openmoji.HELDOUT, 120, endpoint=False).astype(int)
    return np.setdiff1d(np.arange(openmoji.HELDOUT), looked_at)


def measure(speaker: Speaker, rows: Sequence[int] | None = None) -> dict[str, float]:
    """Sentences right about combinations never seen, by kind: under each of TEST_MOVES, with another drawing.

    Args:
        rows: of the held-out drawings; those of ``unseen`` if there are none.
    """
    rows = unseen() if rows is None else rows
    cases = {
        name: summaries(speaker.model.vision, "heldout", rows, move) for name, move in TEST_MOVES.items()
    }
    # half the list away, since neighbours often share their role
    cases["another drawing"] = cases["as drawn"].roll(len(rows) // 2, 0)
    return graded_cases(speaker, cases, rows)


def measure_clip(rows: Sequence[int] | None = None) -> dict[str, float]:
    """The same of smollm-openmoji, whose eye is CLIP's, under the very same moves."""
    rows, (speaker, _) = unseen() if rows is None else rows, real.load_named("smollm-openmoji")
    side = speaker.model.config.vision.image_size
    cases = {name: speaker.features(redraw("heldout", rows, move, side)) for name, move in TEST_MOVES.items()}
    return graded_cases(speaker, cases, rows)


def graded_cases(speaker: Speaker, cases: dict[str, Tensor], rows: Sequence[int]) -> dict[str, float]:
    """Share of sentences right, word for word, by kind of question and case.

    Args:
        cases: what the speaker's eye says of these held-out drawings, however they were shown to it.
    """
    about, metrics = drawing_questions(openmoji.load("heldout")[np.asarray(rows)]), {}
    for name, features in cases.items():
        shares = grade_sentences(speaker, features, about, batch=20).shares(DRAWING_KINDS)
        metrics |= {f"{kind}, {name}": round(share, 4) for kind, share in shares.items()}
    return metrics
