"""Train the course's tokenizer on captions, questions and answers of scenes and on OpenMoji's names.

It comes before the models, which are trained with it; with the same versions of its data the file is the
same, byte for byte.
"""

from vlmcourse.data import openmoji, text
from vlmcourse.data.assets import assets_folder
from vlmcourse.world import captions, questions, scenes

SCENES = 4_000


def corpus() -> list[str]:
    """Texts about scenes, of both palettes, and the names of OpenMoji's training drawings."""
    texts = list(openmoji.load("train", size=16).captions)
    for split in ("train", "novel"):
        sample = scenes.sample(split, SCENES)
        for style in captions.STYLES:
            texts += captions.captions(sample, style)
        for question in questions.ask(sample):
            texts += [question.text, question.answer]
    return texts


def main() -> None:
    folder = assets_folder() / "checkpoints"
    folder.mkdir(exist_ok=True)
    tokenizer = text.train(corpus())
    tokenizer.save(folder / "tokenizer.json")
    print(f"{tokenizer} in {folder / 'tokenizer.json'}")


if __name__ == "__main__":
    main()
