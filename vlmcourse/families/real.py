"""A real language model that sees: a vision encoder (eye) and a projector before SmolLM2 (notebook 17).

    load_real       the shipped one: SmolLM2 from where interop/hub.py finds it, the rest from the course
    meet_words      stage 1 at its cheapest: the projector learns which words a patch shows
    tune            stage 2: LoRA learns to answer
    measure         accuracy by kind of question, with the right images and with others

How the parts are put together stands in interop/assembling.py, how SmolLM2 keeps what it knew in
interop/distillation.py. 135 million parameters on two CPU cores read about 200 tokens a second forwards and
backwards, so everything here saves tokens: many questions about one image in a row, one opening for all rows,
scores for answers only. LoRA sits in the upper half of the blocks, so no gradient has to go below them.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.packing import Packs
from vlmcourse.evaluation.answers import Asked, Graded, grade_sentences
from vlmcourse.families.clips import load_clip
from vlmcourse.families.nano import load_vlm
from vlmcourse.families.nano import pictures as pictures  # whose eye looks at these scenes too
from vlmcourse.interop import hub
from vlmcourse.interop.assembling import StoredParts, assemble_llava
from vlmcourse.interop.distillation import Memory, perplexity
from vlmcourse.models.language import Llama
from vlmcourse.models.llava import Llava
from vlmcourse.models.lora import add_lora, lora_state
from vlmcourse.models.projector import pixel_shuffle, project
from vlmcourse.models.vit import ViT
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.recipes.smollm import SMOLLM_SCENES
from vlmcourse.speak import Features, Speaker, Talks, pretrained_words
from vlmcourse.training.checkpoints import card_of, load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.losses import answer_loss, of_all_answers
from vlmcourse.training.reading import CheckpointError, read_json
from vlmcourse.training.regions import region_targets
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.instructions import SHORT, in_a_sentence
from vlmcourse.world.render import render

FIRST, RANK, ALPHA = (SMOLLM_SCENES.model[key] for key in ("lora_from_block", "rank", "alpha"))
ANSWERS = SMOLLM_SCENES.stage("answers")
Smollm = tuple[Llama, Any]  # language model and tokenizer
SCENE_KINDS = ("colour", "shape", "size", "position", "count", "existence")
TEMPLATE = (  # SmolLM2's own, for messages that hold images
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>"
    "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_eye(name: str) -> tuple[ViT, int]:
    """A shipped eye, and which of its residual streams to read: of a CLIP the last but one, as LLaVA does."""
    return (load_clip(name)[0].vision, -2) if name.startswith("clip-") else (load_vlm(name)[0].vision, -1)


def load_real(name: str = "smollm-scenes", smollm: Smollm | None = None) -> tuple[Llava, Any, dict[str, Any]]:
    """A shipped model in evaluation mode, its tokenizer and its card.

    Args:
        name: "smollm-scenes", "smollm-openmoji" (drawings.py), or a file that ``vlmcourse train`` wrote.
        smollm: if it is in memory already; the model gets the eye and LoRA.

    Raises:
        FileNotFoundError: if the course ships no such model.
        CheckpointError: if the file or its card is damaged, or another model's.
        interop.hub.MissingModel: if SmolLM2 is not on this machine; says what to run.
    """
    path = Path(name) if name.endswith(".safetensors") else shipped(f"{name}.safetensors")
    described, smollm = read_json(card_of(path)), smollm or hub.load_smollm2()
    try:
        model, tokenizer = assemble(described["recipe"]["model"], smollm)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.with_suffix('.json')} describes no model ({error!r})") from error
    add_lora(model.language.blocks[FIRST:], RANK, ALPHA)
    parts = StoredParts(model)
    card = load_weights(parts, path)
    parts.put_into(model)
    return model.eval().requires_grad_(False), tokenizer, card


def assemble(model: dict[str, Any], smollm: Smollm | None = None, seed: int = 0) -> tuple[Llava, Any]:
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


# ---- the recipe --------------------------------------------------------------------------------------------

Lessons = tuple[Features, list[list[Asked]]]  # of images, and what is asked about each


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out recipes/smollm.py for scenes."""
    return assembled(recipe, options, scene_lessons, measure)


def assembled(
    recipe: Recipe,
    options: Options,
    first_stage: Callable[[Recipe, Speaker], Lessons],
    measure: Callable[[Speaker], dict],
) -> Iterator[Made]:
    """Carry out a recipe: put the parts together, let images meet words, and let LoRA learn to answer.

    Args:
        first_stage: lets images meet words, and gives what LoRA learns from.
        measure: the metrics of the card beside the perplexity of plain sentences.
    """
    stage, seed = recipe.stage("answers"), recipe.seed
    language, tokenizer = hub.load_smollm2()
    before = perplexity(language, tokenizer)
    memory = Memory(language, tokenizer, stage.data["own_texts"], seed=seed)
    model, _ = assemble(recipe.model, (language, tokenizer), seed)
    lessons = first_stage(recipe, speaker(model, tokenizer))
    options = dict(memory=memory, seed=seed) | options(stage, model)
    history = tune(model, tokenizer, *lessons, stage=stage, **options)
    parts = StoredParts(model)

    def metrics() -> dict[str, float]:
        parts.put_into(model)  # as they are stored
        plain, after = "perplexity of plain sentences", perplexity(model.language, tokenizer)
        plainly = {f"{plain}, before": round(before, 2), plain: round(after, 2)}
        return plainly | measure(speaker(model, tokenizer))

    yield Made(stage, parts, history, metrics)


def scene_lessons(recipe: Recipe, speaker: Speaker) -> Lessons:
    """Stage 1, the projector learns what patches of scenes show; and what stage 2 learns from."""
    words, answers = recipe.stages
    model, tokenizer = speaker.model, speaker.words.tokenizer
    sample = partial(scenes.sample, "train", seed=recipe.seed)
    batch = sample(words.data["scenes"], objects=words.data["objects"])
    targets = patch_words(model.language, tokenizer, region_targets(batch, model.vision.config).words)
    options = dict(steps=words.steps, size=words.size, lr=words.rates["adamw"], seed=recipe.seed)
    meet_words(model, speaker.features(render(batch)), targets, **options)
    new = sample(answers.steps * answers.size, len(batch), objects=answers.data["objects"])
    return speaker.features(render(new)), scene_questions(new, seed=recipe.seed)


# ---- patches meet words -----------------------------------------------------------------------------


def word_vectors(language: Llama, tokenizer: Any, words: Sequence[str]) -> Float[Tensor, "word width"]:
    """The language model's own vectors of words inside a sentence; of several tokens, their mean."""
    table = language.embedding.weight.detach()
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    return torch.stack([table[tokens].mean(0) for tokens in ids])


def patch_words(
    language: Llama, tokenizer: Any, words: Int[Tensor, "scene patch 3"]
) -> Float[Tensor, "scene patch width"]:
    """What each patch should say: shape, colour and size at once; the mean of all words where nothing is.

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
    model: Llava, features: Features, targets: Float[Tensor, "image token out"], *,
    steps: int, size: int = 512, lr: float = 3e-3, seed: int = 0,
) -> History:  # fmt: skip
    """Teach the projector what patches should say; a quarter of each batch shows nothing, if there are such.

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

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        kinds = [(shows, size - blank), (nothing, blank)]
        while True:
            drawn = [kind[torch.randint(len(kind), (n,), generator=chance)] for kind, n in kinds if n]
            yield inputs[torch.cat(drawn)], targets[torch.cat(drawn)]

    scale = targets[shows[:1000]].square().mean()

    def loss(projector: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (project(batch[0], projector.expand, projector.contract) - batch[1]).square().mean() / scale

    return learn(model.projector, batches(), loss, steps=steps, lr=lr, precision="no")


# ---- stages 1 and 2: what is said about images -------------------------------------------------------------


def scene_questions(
    batch: scenes.Scenes, seed: int = 0, kinds: Sequence[str] = SCENE_KINDS
) -> list[list[Asked]]:
    """For each scene one question of every kind it allows, and a request for a short caption."""
    asked, rows = [questions.ask(batch, kind, seed=seed) for kind in kinds], []
    for caption, *of_kinds in zip(captions.captions(batch, "short"), *asked, strict=True):
        row = [Asked(each.text, in_a_sentence(each), each.kind) for each in of_kinds if each]
        rows.append([*row, Asked(SHORT, f"{caption.capitalize()}.", "caption")])
    return rows


def tune(
    model: Llava, tokenizer: Any, features: Features, about: Talks, *,
    stage: Stage = ANSWERS, memory: Memory | None = None, **options: Any,
) -> History:  # fmt: skip
    """Stage 2: LoRA, which is added if the model has none, learns to answer; all else stays as it is.

    LLaVA's second stage trains the projector on. Here it rests: then the gradient stops at the lowest block
    that has LoRA, which saves a quarter of the time.

    Args:
        features: of the images, see Speaker.features.
        about: for each image its questions and answers; see scene_questions.
        stage: whose rate, steps and size are used, unless the options say otherwise.
        memory: texts to which the model shall go on saying what it said before; their drift joins the loss.
        options: steps; size, images per step; seed; further arguments of training.loop.train.
    """
    if not lora_state(model.language):
        add_lora(model.language.blocks[FIRST:], RANK, ALPHA)
    learning = {f"language.{name}" for name in lora_state(model.language)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning)

    def loss(hidden: Tensor, rows: Packs, head: nn.Module) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        surprise = of_all_answers(answer_loss(hidden, rows.labels, head), rows.labels)
        if memory is None:
            return surprise
        drift = memory.drift(model.language)
        return surprise + drift, dict(drift=drift.detach())

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, stage.rates["adamw"], betas=(0.9, 0.95), weight_decay=0.0)
    given = dict(steps=stage.steps, size=stage.size, seed=0, optimizer=optimizer, loss=loss)
    words = speaker(model, tokenizer)
    history = words.tune(features, words.encode(about), **given | options)
    model.requires_grad_(False)
    return history


def measure(speaker: Speaker, split: str = "test", count: int = 60) -> dict[str, float]:
    """Accuracy on scenes never seen: whole sentences, colours and shapes named; also with another image."""
    batch = scenes.sample(split, count, objects=(1, 2))
    right_images, about = speaker.features(render(batch)), scene_questions(batch, seed=1)
    metrics = {}
    for case, given in ((", another image", right_images.roll(1, 0)), ("", right_images)):
        graded = grade_sentences(speaker, given, about)
        metrics[f"sentences{case}"] = graded.exact.mean().item()
        metrics[f"named{case}"] = graded.named[graded.of("colour", "shape")].nanmean().item()
    metrics |= graded.shares((*SCENE_KINDS, "caption"))
    return {name: round(value, 4) for name, value in metrics.items()}


# ---- for older copies of notebook 17 -----------------------------------------------------------------------


def opening(tokenizer: Any) -> Int[Tensor, "token"]:
    return pretrained_words(tokenizer).opening()


def grade(model: Llava, tokenizer: Any, *given: Any) -> Graded:
    return grade_sentences(speaker(model, tokenizer), *given)
