"""A real language model that sees: a vision encoder (eye) and a projector before SmolLM2 (notebook 17).

    load_real       the shipped one: SmolLM2 from where interop/hub.py finds it, projector and LoRA from the
                    course
    meet_words      stage 1 at its cheapest: the projector learns which words a patch shows; no language
                    model runs
    scene_questions questions about scenes, and their answers as sentences
    tune            stages 1 and 2: learn to answer; the projector alone, or LoRA alone
    grade           two grades of every question, without writing an answer
    measure         accuracy by kind of question, with the right images and with others

How the parts are put together stands in interop/assembling.py, how SmolLM2 keeps what it knew in
interop/distillation.py. 135 million parameters on two CPU cores read about 200 tokens a second forwards and
backwards, so everything here saves tokens: many questions about one image in a row, one opening for all rows,
scores for answers only. LoRA sits in the upper half of the blocks, so no gradient has to go below them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.packing import Packs
from vlmcourse.families.clips import load_clip
from vlmcourse.families.nano import load_vlm
from vlmcourse.interop import hub
from vlmcourse.interop.assembling import StoredParts, assemble_llava
from vlmcourse.interop.distillation import Memory, perplexity
from vlmcourse.models.language import Llama
from vlmcourse.models.llava import Llava
from vlmcourse.models.lora import add_lora, lora_state
from vlmcourse.models.projector import pixel_shuffle, project
from vlmcourse.models.vit import ViT
from vlmcourse.recipes.recipe import Made, Recipe, Stage
from vlmcourse.recipes.smollm import SMOLLM_SCENES
from vlmcourse.speak import Features, Speaker, pretrained_words
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.losses import answer_loss
from vlmcourse.training.regions import region_targets
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.instructions import SHORT, in_a_sentence
from vlmcourse.world.render import render

FIRST, RANK, ALPHA = (SMOLLM_SCENES.model[key] for key in ("lora_from_block", "rank", "alpha"))
RATES = {"projector": 1e-3, "lora": SMOLLM_SCENES.stage("answers").rates["adamw"]}
PLAIN = ("perplexity of plain sentences, before", "perplexity of plain sentences")
SCENE_KINDS = ("colour", "shape", "size", "position", "count", "existence")
TEMPLATE = (  # SmolLM2's own, for messages that hold images
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}"
    "{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Asked(NamedTuple):
    """A question about an image, its answer as a sentence, and its kind."""

    question: str
    answer: str
    kind: str


# ---- the model ---------------------------------------------------------------------------------------------


def load_eye(name: str) -> tuple[ViT, int]:
    """A shipped eye, and which of its residual streams to read: of a CLIP the last but one, as LLaVA does."""
    return (load_clip(name)[0].vision, -2) if name.startswith("clip-") else (load_vlm(name)[0].vision, -1)


def load_real(
    name: str = "smollm-scenes", smollm: tuple[Llama, Any] | None = None
) -> tuple[Llava, Any, dict[str, Any]]:
    """A shipped model in evaluation mode, its tokenizer and its card.

    Args:
        name: "smollm-scenes", "smollm-openmoji" (drawings.py), or a file that ``vlmcourse train`` wrote.
        smollm: language model and tokenizer, where they are in memory already; the model gets the eye and
            LoRA.

    Raises:
        FileNotFoundError: if the course ships no such model.
        interop.hub.MissingModel: if SmolLM2 is not on this machine; says what to run.
    """
    path = Path(name) if name.endswith(".safetensors") else shipped(f"{name}.safetensors")
    recipe = json.loads(path.with_suffix(".json").read_text())["recipe"]
    model, tokenizer = assemble(recipe["model"], smollm)
    add_lora(model.language.blocks[FIRST:], RANK, ALPHA)
    parts = StoredParts(model)
    card = load_weights(parts, path)
    parts.put_into(model)
    return model.eval().requires_grad_(False), tokenizer, card


def assemble(
    model: dict[str, Any], smollm: tuple[Llama, Any] | None = None, seed: int = 0
) -> tuple[Llava, Any]:
    """Eye, new projector and language model of a recipe as one Llava, and its tokenizer."""
    eye, _ = load_eye(model["eye"])
    language, tokenizer = smollm or hub.load_smollm2()
    torch.manual_seed(seed)
    return assemble_llava(eye, language, tokenizer, model["layer"], **model["projector"]), tokenizer


def load_named(name: str) -> tuple[Speaker, dict[str, Any]]:
    """A model of load_real that can be asked, and its card."""
    model, tokenizer, card = load_real(name)
    return speaker(model, tokenizer), card


def speaker(model: Llava, tokenizer: Any) -> Speaker:
    """The model with its own words."""
    return Speaker(model, pretrained_words(tokenizer, TEMPLATE))


def opening(tokenizer: Any) -> Int[Tensor, "token"]:
    """The tokens in front of the image, the same in every conversation: system prompt and the user's role."""
    return pretrained_words(tokenizer).opening()


# ---- the recipe --------------------------------------------------------------------------------------------


def run(recipe: Recipe, options: Callable[[Stage, Llava], dict[str, Any]]) -> Iterator[Made]:
    """Carry out recipes/smollm.py for scenes."""
    return assembled(recipe, options, scene_lessons, measure)


def assembled(
    recipe: Recipe,
    options: Callable[[Stage, Llava], dict[str, Any]],
    first_stage: Callable[[Recipe, Llava, Any], tuple[Features, list[list[Asked]]]],
    measure: Callable[[Llava, Any], dict[str, float]],
) -> Iterator[Made]:
    """Carry out a recipe: put the parts together, let images meet words, and let LoRA learn to answer.

    Args:
        options: further arguments of training.loop.train for a stage and the model, such as checkpoint.
        first_stage: lets images meet words, and gives the features and questions that LoRA learns from.
        measure: the metrics of the card beside the perplexity of plain sentences.
    """
    stage = recipe.stage("answers")
    language, tokenizer = hub.load_smollm2()
    before = perplexity(language, tokenizer)
    memory = Memory(language, tokenizer, stage.data["own_texts"], seed=recipe.seed)
    model, _ = assemble(recipe.model, (language, tokenizer), recipe.seed)
    lessons = first_stage(recipe, model, tokenizer)
    history = tune(
        model,
        tokenizer,
        *lessons,
        steps=stage.steps,
        size=stage.size,
        lr=stage.rates["adamw"],
        memory=memory,
        seed=recipe.seed,
        **options(stage, model),
    )
    parts = StoredParts(model)

    def metrics() -> dict[str, float]:
        parts.put_into(model)  # as they are stored
        plain = dict(zip(PLAIN, (before, perplexity(model.language, tokenizer)), strict=True))
        return {name: round(value, 2) for name, value in plain.items()} | measure(model, tokenizer)

    yield Made(stage, parts, history, metrics)


def scene_lessons(recipe: Recipe, model: Llava, tokenizer: Any) -> tuple[Features, list[list[Asked]]]:
    """Stage 1, the projector learns what patches of scenes show; and what stage 2 learns from."""
    words, answers = recipe.stages
    sample = partial(scenes.sample, "train", seed=recipe.seed)
    batch = sample(words.data["scenes"], objects=words.data["objects"])
    targets = patch_words(model.language, tokenizer, region_targets(batch, model.vision.config).words)
    options = dict(steps=words.steps, size=words.size, lr=words.rates["adamw"], seed=recipe.seed)
    meet_words(model, Speaker(model).features(render(batch)), targets, **options)
    new = sample(answers.steps * answers.size, len(batch), objects=answers.data["objects"])
    return Speaker(model).features(render(new)), scene_questions(new, seed=recipe.seed)


# ---- patches meet words -----------------------------------------------------------------------------


def word_vectors(language: Llama, tokenizer: Any, words: Sequence[str]) -> Float[Tensor, "word width"]:
    """The language model's own vectors of words as they stand inside a sentence; of several tokens, their
    mean."""
    table = language.embedding.weight.detach()
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    return torch.stack([table[tokens].mean(0) for tokens in ids])


def patch_words(
    language: Llama, tokenizer: Any, words: Int[Tensor, "scene patch 3"]
) -> Float[Tensor, "scene patch width"]:
    """What each patch should say: its words for shape, colour and size at once; the mean of all words for
    nothing.

    All words of a language model have a large part in common, their mean. So what makes each of the three
    words special is added to the mean, which then counts once.

    Args:
        words: as training.regions.region_targets gives them; -100 where nothing is.
    """
    mean = language.embedding.weight.detach().mean(0)
    special = torch.zeros(*words.shape[:2], len(mean))
    for names, number in zip((scenes.SHAPES, scenes.COLOURS, scenes.SIZES), words.unbind(-1), strict=True):
        special += word_vectors(language, tokenizer, names)[number.clamp(min=0)] - mean
    return torch.where(words[..., :1] >= 0, mean + special, mean)


def meet_words(
    model: Llava,
    features: Features,
    targets: Float[Tensor, "image token out"],
    *,
    steps: int,
    size: int = 512,
    lr: float = 3e-3,
    seed: int = 0,
) -> History:
    """Teach the projector what patches should say; a quarter of each batch shows nothing, where there are
    such patches.

    The language model does not run: its table of words is all that is needed. So this stage takes seconds.

    Args:
        targets: one vector for each token of the image that the projector makes; see patch_words.
        size: tokens per step.

    Source: soft words that start at real ones, Lester et al. 2021, arXiv:2104.08691, section 3.2.
    """
    model.projector.calibrate(features[:500], targets.square().mean().sqrt().item())
    inputs, targets = pixel_shuffle(features, model.projector.shuffle).flatten(0, 1), targets.flatten(0, 1)
    empty = (targets == model.language.embedding.weight.mean(0)).all(1)
    shows, nothing = (~empty).nonzero()[:, 0], empty.nonzero()[:, 0]
    blank = size // 4 if len(nothing) else 0
    chance = torch.Generator().manual_seed(seed)

    def pick(_: Tensor) -> tuple[Tensor, Tensor]:
        kinds = [(shows, size - blank), (nothing, blank)]
        chosen = [
            kind[torch.randint(len(kind), (count,), generator=chance)] for kind, count in kinds if count
        ]
        return inputs[torch.cat(chosen)], targets[torch.cat(chosen)]

    scale = targets[shows[:1000]].square().mean()

    def loss(projector: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (project(batch[0], projector.expand, projector.contract) - batch[1]).square().mean() / scale

    return learn(model.projector, Batches(pick, 1, length=steps), loss, steps=steps, lr=lr, precision="no")


# ---- stages 1 and 2: what is said about images -------------------------------------------------------------


def scene_questions(
    batch: scenes.Scenes, seed: int = 0, kinds: Sequence[str] = SCENE_KINDS
) -> list[list[Asked]]:
    """For each scene one question of every kind it allows, and a request for a short caption."""
    asked, rows = [questions.ask(batch, kind, seed=seed) for kind in kinds], []
    for caption, *of_kinds in zip(captions.captions(batch, "short"), *asked, strict=True):
        row = [
            Asked(question.text, in_a_sentence(question), question.kind) for question in of_kinds if question
        ]
        rows.append([*row, Asked(SHORT, f"{caption.capitalize()}.", "caption")])
    return rows


def tune(
    model: Llava,
    tokenizer: Any,
    features: Features,
    about: Sequence[Sequence[Asked]],
    *,
    steps: int,
    part: str = "lora",
    size: int = 4,
    lr: float | None = None,
    seed: int = 0,
    memory: Memory | None = None,
    **train_options: Any,
) -> History:
    """Learn to answer; eye and language model stay as they are.

    LLaVA's second stage trains the projector on. Here it rests while LoRA learns: then the gradient stops at
    the lowest block that has LoRA, which saves a quarter of the time.

    Args:
        features: of the images, see Speaker.features.
        about: for each image its questions and answers; see scene_questions.
        part: "projector" (stage 1, alignment) or "lora" (stage 2), which is added if the model has none.
        size: images per step.
        lr: learning rate; that of RATES when not given.
        memory: texts to which the model shall go on saying what it said before; their drift is added to the
            loss.
        train_options: further arguments of training.loop.train.

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

    def loss(hidden: Tensor, rows: Packs, head: nn.Module) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        surprise = answer_loss(hidden, rows.labels, head)
        if memory is None:
            return surprise
        drift = memory.drift(model.language)
        return surprise + drift, dict(drift=drift.detach())

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr or RATES[part], betas=(0.9, 0.95), weight_decay=0.0)
    options = dict(optimizer=optimizer, loss=loss, seed=seed) | train_options
    words = speaker(model, tokenizer)
    history = words.tune(features, words.encode(about), steps=steps, size=size, **options)
    model.requires_grad_(False)
    return history


# ---- measurement -------------------------------------------------------------------------------------------


class Graded(NamedTuple):
    """Two grades of every question."""

    kinds: list[str]
    exact: Float[Tensor, "question"]  # whether the model, left to itself, writes exactly the right sentence
    named: Float[
        Tensor, "question"
    ]  # whether at its open word the right one beats the kind's others; else NaN

    def shares(self, kinds: Sequence[str]) -> dict[str, float]:
        """Share of exact answers, by kind."""
        return {kind: self.exact[self.of(kind)].mean().item() for kind in kinds}

    def of(self, *kinds: str) -> Bool[Tensor, "question"]:
        """Which questions are of these kinds."""
        return torch.tensor([kind in kinds for kind in self.kinds])


def grade(
    model: Llava, tokenizer: Any, features: Features, about: Sequence[Sequence[Asked]], batch: int = 12
) -> Graded:
    """Grade answers without writing them, see Speaker.grade; one pass gives both grades."""
    words, kinds = speaker(model, tokenizer), [asked.kind for row in about for asked in row]
    choices = {}
    for kind, names in (("colour", scenes.COLOURS), ("shape", scenes.SHAPES), ("size", scenes.SIZES)):
        ids = tokenizer([f" {name}" for name in names], add_special_tokens=False)["input_ids"]
        choices[kind] = sorted({tokens[0] for tokens in ids})  # of a word of several tokens the first decides
    exact, named = torch.ones(len(kinds)), torch.full((len(kinds),), torch.nan)
    for scores, right, number in words.scores(features, words.encode(about), batch):
        exact[number[scores.argmax(dim=-1) != right]] = 0
        for place, (token, question) in enumerate(zip(right.tolist(), number.tolist(), strict=True)):
            options = choices.get(kinds[question], [])
            if token in options:  # the last open word of an answer counts
                named[question] = float(options[int(scores[place, options].argmax())] == token)
    return Graded(kinds, exact, named)


def measure(
    model: Llava,
    tokenizer: Any,
    split: str = "test",
    count: int = 60,
    objects: tuple[int, int] = (1, 2),
    start: int = 0,
) -> dict[str, float]:
    """Accuracy on scenes never seen: whole sentences, colours and shapes named; both also with another
    image."""
    batch = scenes.sample(split, count, start, objects=objects)
    right_images, about = Speaker(model).features(render(batch)), scene_questions(batch, seed=1)
    metrics = {}
    for case, given in ((", another image", right_images.roll(1, 0)), ("", right_images)):
        graded = grade(model, tokenizer, given, about)
        metrics[f"sentences{case}"] = graded.exact.mean().item()
        metrics[f"named{case}"] = graded.named[graded.of("colour", "shape")].nanmean().item()
    metrics |= graded.shares((*SCENE_KINDS, "caption"))
    return {name: round(value, 4) for name, value in metrics.items()}
