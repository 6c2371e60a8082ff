"""What connectors take: words that know instructions, queries that know texts (notebooks 09 to 11).

load_prepared   a shipped one, and its card
run             carry out a recipe of recipes/connectors.py
read_talks      nano-chat: instruction tuning without images
answer_unseen   what it answers of an image that it never saw
meet_texts      nano-qformer: BLIP-2's stage 1; any model of training/matching.py
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vlmcourse.data.assets import shipped
from vlmcourse.data.batches import Batches
from vlmcourse.data.packing import Packs
from vlmcourse.data.text import load_tokenizer
from vlmcourse.evaluation.retrieval import recall_at_k
from vlmcourse.families import nano
from vlmcourse.families.nano import by_length, optimized
from vlmcourse.models.blip import Blip
from vlmcourse.models.generation import generate
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.models.look import packed
from vlmcourse.models.qformer import Matcher
from vlmcourse.recipes.book import find_recipe
from vlmcourse.recipes.recipe import Made, Options, Recipe
from vlmcourse.speak import Speaker, course_words
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.matching import learn_to_match
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import hard_talks, talks
from vlmcourse.world.render import render


def new_prepared(recipe: Recipe) -> Llama | Matcher:
    """An untrained one; it begins with nano-words' language model, or has nano-vlm's eye."""
    torch.manual_seed(recipe.seed)
    if isinstance(recipe.model, LlamaConfig):
        return nano.load_vlm(recipe.start["language"])[0].language
    model = Matcher(recipe.model)
    model.vision.load_state_dict(nano.load_vlm(recipe.start["vision"])[0].vision.state_dict())
    return model


def _stored(model: Llama | Matcher) -> nn.Module:
    """What a checkpoint holds: all but the eye."""
    parts = {name: part for name, part in model.named_children() if name != "vision"}
    return model if isinstance(model, Llama) else nn.ModuleDict(parts)


def load_prepared(name: str) -> tuple[Llama | Matcher, dict[str, Any]]:
    """A shipped one in evaluation mode, and its card.

    Raises:
        FileNotFoundError: if the course ships none of this name.
        CheckpointError: if the file is damaged, or another model's.
    """
    model = new_prepared(find_recipe(name, "preparing"))
    card = load_weights(_stored(model), shipped(f"{name}.safetensors"))
    return model.eval(), card


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe, or a variant of it."""
    model = new_prepared(recipe)
    (stage,) = recipe.stages
    batch = scenes.sample("train", stage.data["scenes"], seed=recipe.seed)
    given = dict(steps=stage.steps, size=stage.size, seed=recipe.seed) | optimized(stage, model)
    given |= options(stage, model)
    if isinstance(model, Llama):
        yield Made(stage, model, read_talks(model, batch, **given), lambda: measure_words(model))
    else:
        yield Made(stage, _stored(model), meet_texts(model, batch, **given), lambda: measure_matches(model))


def read_talks(model: Llama, batch: scenes.Scenes, size: int, seed: int, **options: Any) -> History:
    """Instruction tuning without images: what is asked, how answers look, and how often each is right."""
    about = [a + b for a, b in zip(talks(batch, seed), hard_talks(batch, seed), strict=True)]
    rows = course_words().encode(about, image_tokens=0)

    def loss_of(model: Llama, columns: tuple) -> Tensor:
        some = Packs(*columns).cut()
        return by_length(model.hidden(some.ids, packed(some.packs)), some, model.head)

    return learn(model, Batches(tuple(rows), size, seed=seed), loss_of, **options)


def measure_words(model: Llama) -> dict[str, float]:
    """How surprised it is by the answers of conversations never read, whose images nobody shows it."""
    batch = scenes.sample("validation", 500)
    rows = course_words().encode(talks(batch, sentences=0, captioned=False), image_tokens=0)
    with torch.no_grad():
        loss = by_length(model.hidden(rows.ids, packed(rows.packs)), rows, model.head)
    return {"surprise by answers, no image": round(loss.item(), 4)}


@torch.no_grad()
def answer_unseen(model: Llama, prompts: list[str], temperature: float = 0.7, seed: int = 0) -> list[str]:
    """nano-chat as a text model of data.generating: it reads only the last line of a prompt, the instruction.

    It never learned to read boxes, so all it knows of the picture is what pictures usually show.
    """
    words = course_words()
    ids, mask = words.prompts([prompt.splitlines()[-1] for prompt in prompts], image_tokens=0)
    options = dict(steps=64, eos=words.end, pad=words.pad, temperature=temperature, seed=seed)
    return words.decode(generate(model, ids, mask=mask, **options)[:, ids.shape[1] :])


def scene_texts(batch: scenes.Scenes) -> tuple[Tensor, Tensor]:
    """Full captions as ids and mask, each between BOS and EOS."""
    return load_tokenizer().encode(captions.captions(batch, "full"), bos=True)


def meet_texts(model: Matcher | Blip, batch: scenes.Scenes, size: int, seed: int, **options: Any) -> History:
    """Contrast, match and write, on scenes and their full captions; the eye stays frozen."""
    model.vision.requires_grad_(False)
    features = Speaker(model).features(render(batch), 500, torch.bfloat16)
    return learn_to_match(model, features, scene_texts(batch), size=size, seed=seed, **options)


@torch.no_grad()
def measure_matches(model: Matcher, count: int = 200) -> dict[str, float]:
    """Retrieval among so many held-out scenes, in both directions, by contrast alone."""
    batch = scenes.sample("test", count)
    ids, mask = scene_texts(batch)
    features = Speaker(model).features(render(batch))
    alike = model.alike(model.image_vectors(features), model.text_vectors(ids, mask))
    right = torch.eye(count, dtype=torch.bool)
    found = {"text": recall_at_k(alike, right, 1), "image": recall_at_k(alike.T, right, 1)}
    return {f"{name} found first": round(share, 4) for name, share in found.items()}
