"""How the course's tokenizer comes about, see recipes/tokenizer.py."""

from collections.abc import Iterator

from vlmcourse.data import openmoji, text
from vlmcourse.recipes.recipe import Made, Options, Recipe, Stage
from vlmcourse.world import captions, questions, scenes


def run(recipe: Recipe, options: Options) -> Iterator[Made]:
    """Carry out the recipe; it takes no steps, so ``options`` are not asked."""
    (stage,) = recipe.stages
    tokenizer = text.train_tokenizer(corpus(stage), recipe.model["size"])
    yield Made(stage, tokenizer, None, lambda: {"tokens": len(tokenizer)})


def corpus(stage: Stage) -> list[str]:
    """Texts about scenes, of both palettes, and the names of OpenMoji's training drawings."""
    texts = list(openmoji.load(stage.data["drawings"], size=16).captions)
    for split in stage.data["splits"]:
        sample = scenes.sample(split, stage.data["scenes"])
        for style in captions.STYLES:
            texts += captions.captions(sample, style)
        for question in questions.ask(sample):
            texts += [question.text, question.answer]
    return texts
