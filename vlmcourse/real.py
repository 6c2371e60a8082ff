"""A real language model that sees: our eye and a projector before SmolLM2 (notebook 17); see interop/joining.py and
interop/keeping.py.

    load_real       the shipped one: SmolLM2 from where interop/hub.py finds it, projector and LoRA from the course
    meet_words      stage 1 at its cheapest: the projector learns which words a patch shows; no language model runs
    encode          questions and answers about images, in SmolLM2's own tokens and chat template
    tune            stages 1 and 2: learn to answer; the projector alone, or LoRA alone
    answer          free text about images
    measure         accuracy by kind of question, with the right images and with others

135 million parameters on two CPU cores read about 200 tokens a second forwards and backwards, so everything
here saves
tokens: many questions about one image in a row, one opening for all rows, scores for answers only. LoRA sits
in the upper half of the blocks, so no gradient has to go below them.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import collate
from vlmcourse.data.packing import Packs
from vlmcourse.interop import hub
from vlmcourse.interop.joining import IMAGE_WORD, Parts, join
from vlmcourse.interop.keeping import Memory
from vlmcourse.models.generation import generate
from vlmcourse.models.language import IGNORED, Llama, following
from vlmcourse.models.llava import Llava
from vlmcourse.models.lora import add_lora, lora_state
from vlmcourse.models.projector import pixel_shuffle, project
from vlmcourse.models.vit import ViT
from vlmcourse.nano import load_vlm
from vlmcourse.recipes import load_clip
from vlmcourse.training.answers import answer_loss, read, rows_of
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import train
from vlmcourse.training.precision import choose_precision
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.instructions import SHORT, in_a_sentence
from vlmcourse.world.render import render, to_tensor

FIRST, RANK, ALPHA = 15, 8, 16.0  # LoRA in blocks 15 to 29 of 30
RATES = {"projector": 1e-3, "lora": 3e-3}
WIDTH = 576  # of SmolLM2
KINDS = ("colour", "shape", "size", "position", "count", "existence")
TEMPLATE = (  # SmolLM2's own, for messages that hold images
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Asked(NamedTuple):
    """A question about an image and its answer as a sentence."""

    kind: str
    question: str
    answer: str


# ---- the model -----------------------------------------------------------------------------------------------


def load_eye(name: str) -> tuple[ViT, int]:
    """A shipped eye, and which of its residual streams to read: of a CLIP the last but one, as LLaVA does."""
    return (load_clip(name)[0].vision, -2) if name.startswith("clip-") else (load_vlm(name)[0].vision, -1)


def load_real(
    name: str = "smollm-scenes", smollm: tuple[Llama, Any] | None = None
) -> tuple[Llava, Any, dict[str, Any]]:
    """A shipped model in evaluation mode, its tokenizer and its card.

    Args:
        name: "smollm-scenes", or "smollm-openmoji" (drawings.py).
        smollm: language model and tokenizer, where they are in memory already; the model gets the eye and
            LoRA.

    Raises:
        FileNotFoundError: if the course ships no such model.
        interop.hub.MissingModel: if SmolLM2 is not on this machine; says what to run.
    """
    recipe = json.loads(shipped(f"{name}.json").read_text())["recipe"]
    eye, layer = load_eye(recipe["eye"])
    language, tokenizer = smollm or hub.load_smollm2()
    model = join(eye, language, tokenizer, recipe.get("layer", layer), **recipe.get("projector", {}))
    add_lora(model.language.blocks[FIRST:], RANK, ALPHA)
    parts = Parts(model)
    card = load_weights(parts, shipped(f"{name}.safetensors"))
    parts.put_into(model)
    return model.eval().requires_grad_(False), tokenizer, card


@torch.no_grad()
def features(model: Llava, images: np.ndarray, batch: int = 250) -> Float[Tensor, "image patch width"]:
    """What the eye says of uint8 images (image, 64, 64, 3); computed once, since it is frozen."""
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    return torch.cat([model.image_features(to_tensor(part)) for part in parts])


# ---- patches meet words -----------------------------------------------------------------------------


def word_vectors(language: Llama, tokenizer: Any, words: Sequence[str]) -> Float[Tensor, "word width"]:
    """The language model's own vectors of words as they stand inside a sentence; of several tokens, their mean."""
    table = language.embedding.weight.detach()
    return torch.stack(
        [table[tokenizer(f" {word}", add_special_tokens=False)["input_ids"]].mean(0) for word in words]
    )


def patch_words(
    language: Llama, tokenizer: Any, words: Int[Tensor, "scene patch 3"]
) -> Float[Tensor, "scene patch width"]:
    """What each patch should say: its words for shape, colour and size at once; the mean of all words for nothing.

    All words of a language model have a large part in common, their mean. So what makes each of the three
    words special is added to the mean, which then counts once.

    Args:
        words: as training.regions.region_targets gives them; -100 where nothing is.
    """
    tables = [
        word_vectors(language, tokenizer, names) for names in (scenes.SHAPES, scenes.COLOURS, scenes.SIZES)
    ]
    mean = language.embedding.weight.detach().mean(0)
    said = sum(table[each.clamp(min=0)] - mean for table, each in zip(tables, words.unbind(-1), strict=True))
    return torch.where(words[..., :1] >= 0, mean + said, mean)


def meet_words(model: Llava, seen: Float[Tensor, "image patch width"], said: Float[Tensor, "image patch out"],
               *, steps: int, size: int = 512, lr: float = 3e-3, seed: int = 0) -> History:  # fmt: skip
    """Teach the projector what patches should say; a quarter of each batch shows nothing, where there are such patches.

    The language model does not run: its table of words is all that is needed. So this stage takes seconds.

    Args:
        said: one vector for each token of the image that the projector makes; see patch_words.
        size: tokens per step.

    Source: soft words that start at real ones, Lester et al. 2021, arXiv:2104.08691, section 3.2.
    """
    model.projector.calibrate(seen[:500], said.square().mean().sqrt().item())
    inputs, targets = pixel_shuffle(seen, model.projector.shuffle).flatten(0, 1), said.flatten(0, 1)
    empty = (targets == model.language.embedding.weight.mean(0)).all(1)
    shows, nothing = (~empty).nonzero()[:, 0], empty.nonzero()[:, 0]
    blank = size // 4 if len(nothing) else 0
    chance = torch.Generator().manual_seed(seed)

    def pick(_: Tensor) -> tuple[Tensor, Tensor]:
        parts = [kind[torch.randint(len(kind), (count,), generator=chance)]
                 for kind, count in ((shows, size - blank), (nothing, blank)) if count]  # fmt: skip
        chosen = torch.cat(parts)
        return inputs[chosen], targets[chosen]

    def loss(projector: nn.Module, both: tuple[Tensor, Tensor]) -> Tensor:
        told = project(both[0], projector.expand, projector.contract)
        return (told - both[1]).square().mean() / targets[shows[:1000]].square().mean()

    history = train(model.projector, Batches(pick, 1, length=steps), loss, steps=steps, lr=lr, precision="no")
    model.projector.cpu().eval()
    return history


# ---- stages 1 and 2: what is said about images ---------------------------------------------------------------


def ask(batch: scenes.Scenes, seed: int = 0, kinds: Sequence[str] = KINDS) -> list[list[Asked]]:
    """For each scene one question of every kind it allows, and a request for a short caption."""
    asked = [questions.ask(batch, kind, seed=seed) for kind in kinds]
    told = captions.captions(batch, "short")
    return [[*(Asked(q.kind, q.text, in_a_sentence(q)) for row in asked if (q := row[number])),
             Asked("caption", SHORT, f"{told[number].capitalize()}.")] for number in range(len(batch))]  # fmt: skip


def opening(tokenizer: Any) -> Int[Tensor, "token"]:
    """The tokens in front of the image, the same in every conversation: system prompt and the user's role."""
    text = tokenizer.apply_chat_template([{"role": "user", "content": IMAGE_WORD}], tokenize=False)
    return torch.tensor(tokenizer(text.split(IMAGE_WORD)[0], add_special_tokens=False)["input_ids"])


def encode(model: Llava, tokenizer: Any, about: Sequence[Sequence[Asked]]) -> Packs:
    """One row per image, without the opening: the image, then question and answer, again and again."""
    end, start = "<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n"
    flat = [text for row in about for each in row for text in (each.question + start, each.answer + end)]
    ids = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    pieces = [[(next(ids), next(ids)) for _ in row] for row in about]
    return Packs(*rows_of(pieces, model.tokens_per_image, model.config.image_token))


def hidden(model: Llava, seen: Tensor, rows: Packs, first: Tensor) -> Float[Tensor, "image token width"]:
    """What the language model makes of rows whose images have these features."""
    return read(model.language, first, model.embed(rows.ids, features=model.projector(seen)), rows.packs)


def tune(model: Llava, tokenizer: Any, seen: Float[Tensor, "image patch width"], about: Sequence[Sequence[Asked]], *,
         steps: int, part: str = "lora", size: int = 4, lr: float | None = None, seed: int = 0,
         memory: Memory | None = None, **how: Any) -> History:  # fmt: skip
    """Learn to answer; eye and language model stay as they are.

    LLaVA's second stage trains the projector on. Here it rests while LoRA learns: then the gradient stops at
    the lowest block that has LoRA, which saves a quarter of the time.

    Args:
        seen: see features.
        about: for each image its questions and answers; see ask.
        part: "projector" (stage 1, alignment) or "lora" (stage 2), which is added if the model has none.
        size: images per step.
        lr: learning rate; that of RATES when not given.
        memory: texts to which the model shall go on saying what it said before; their drift is added to the
            loss.
        how: further arguments of training.loop.train.

    Raises:
        ValueError: for another part.
    """
    if part not in RATES:
        raise ValueError(f"the parts that can be tuned are {' and '.join(RATES)}, not {part!r}")
    if part == "lora" and not lora_state(model.language):
        add_lora(model.language.blocks[FIRST:], RANK, ALPHA)
    learning = {f"language.{name}" for name in lora_state(model.language)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning if part == "lora" else name.startswith("projector."))
    rows, first = encode(model, tokenizer, about), opening(tokenizer)

    def loss(model: Llava, both: tuple[Tensor, tuple]) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        part = Packs(*both[1]).cut()
        told = answer_loss(
            hidden(model, both[0].float(), part, first.to(part.ids.device)), part.labels, model.head
        )
        if memory is None:
            return told
        drift = memory.drift(model.language)
        return told + drift, dict(drift=drift.detach())

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr or RATES[part], betas=(0.9, 0.95), weight_decay=0.0)
    how = dict(optimizer=optimizer, precision=precision_of(size * rows.ids.shape[1])) | how
    history = train(model, Batches((seen, tuple(rows)), size, seed=seed), loss, steps=steps, **how)
    model.cpu().eval().requires_grad_(False)
    return history


def precision_of(tokens: int) -> str:
    """The precision to train with so many tokens a step: on a CPU, bf16 where it measures clearly faster."""
    return choose_precision("cuda" if torch.cuda.is_available() else "cpu", tokens, WIDTH).name


# ---- use and measurement -------------------------------------------------------------------------------------


@torch.no_grad()
def answer(
    model: Llava, tokenizer: Any, images: np.ndarray, asked: Sequence[str], steps: int = 24
) -> list[str]:
    """What the model says about each image, always with the likeliest word.

    Args:
        images: uint8 (image, 64, 64, 3), one for each question.
        steps: tokens of an answer at most.

    Raises:
        ValueError: if there are not as many images as questions.
    """
    if len(images) != len(asked):
        raise ValueError(f"{len(images)} images and {len(asked)} questions; give one of each per answer")
    pictures = IMAGE_WORD * model.tokens_per_image
    texts = [tokenizer.apply_chat_template([{"role": "user", "content": pictures + text}], tokenize=False,
                                           add_generation_prompt=True) for text in asked]  # fmt: skip
    ids, mask = collate(
        tokenizer(texts, add_special_tokens=False)["input_ids"], tokenizer.pad_token_id, left=True
    )
    written = generate(model, ids, mask=mask, images=to_tensor(images), steps=steps, eos=tokenizer.eos_token_id,
                       pad=tokenizer.pad_token_id)  # fmt: skip
    return tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)


class Graded(NamedTuple):
    """Two grades of every question."""

    kinds: list[str]
    exact: Tensor  # whether the model, left to itself, writes exactly the right sentence
    named: Tensor  # whether at its first open word the right one is likelier than the kind's other answers


@torch.no_grad()
def grade(model: Llava, tokenizer: Any, seen: Float[Tensor, "image patch width"],
          about: Sequence[Sequence[Asked]], batch: int = 12) -> Graded:  # fmt: skip
    """Grade answers without writing them: one pass over right sentences shows every choice on the way.

    The likeliest word is written at each step. So a sentence is written exactly if each of its tokens, given
    those before it, is the likeliest one.
    """
    first, exact, named = opening(tokenizer), [], []
    options = {kind: {tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in words} for kind, words
               in (("colour", scenes.COLOURS), ("shape", scenes.SHAPES), ("size", scenes.SIZES))}  # fmt: skip
    for start in range(0, len(about), batch):
        part = slice(start, start + batch)
        rows = encode(model, tokenizer, about[part])
        answers, owner = following(rows.labels), F.pad(rows.packs[:, 1:], (0, 1), value=-1)
        wanted = answers != IGNORED
        vectors = hidden(model, seen[part], rows, first)
        for row, each in enumerate(about[part]):
            logits = model.head(vectors[row, wanted[row]])
            right, text = answers[row, wanted[row]], owner[row, wanted[row]]
            for number, one in enumerate(each, 1):
                mine = text == number
                exact.append(bool((logits[mine].argmax(1) == right[mine]).all()))
                choices = options.get(one.kind, set())
                places = [place for place in mine.nonzero()[:, 0].tolist() if right[place].item() in choices]
                named.append(float("nan"))
                if places:
                    words = sorted(choices)
                    named[-1] = float(
                        words[int(logits[places[-1], words].argmax())] == right[places[-1]].item()
                    )
    return Graded(
        [each.kind for row in about for each in row], torch.tensor(exact).float(), torch.tensor(named)
    )


def measure(model: Llava, tokenizer: Any, split: str = "test", count: int = 60, objects: tuple[int, int] = (1, 2),
            start: int = 0) -> dict[str, float]:  # fmt: skip
    """Accuracy on scenes never seen: whole sentences, colours and shapes named; both also with another image."""
    batch = scenes.sample(split, count, start, objects=objects)
    seen, about = features(model, render(batch)), ask(batch, seed=1)
    found = {}
    for which, given in (("", seen), (", another image", seen.roll(1, 0))):
        graded = grade(model, tokenizer, given, about)
        kinds = np.array(graded.kinds)
        found[f"sentences{which}"] = graded.exact.mean()
        found[f"named{which}"] = graded.named[torch.from_numpy(np.isin(kinds, ("colour", "shape")))].nanmean()
        if not which:
            each = {
                kind: graded.exact[torch.from_numpy(kinds == kind)].mean() for kind in (*KINDS, "caption")
            }
    return {name: round(value.item(), 4) for name, value in (found | each).items()}
