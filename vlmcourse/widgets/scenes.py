"""Scene Browser: page through pictures with their captions, questions and the evidence for each answer."""

import textwrap

import traitlets

from vlmcourse.widgets.base import Widget, as_images, script
from vlmcourse.widgets.stills import Still, new_figure

PAGE = 12


class SceneBrowser(Widget):
    """A page of thumbnails; the chosen scene large, with caption, questions and answers.

    Pointing at a question outlines the boxes that hold its evidence.

    Args:
        images: uint8, (scene, height, width, 3).
        captions: one text per scene.
        records: per scene a list of {"question": str, "answer": str, "boxes": [(left, top, right, bottom)]},
            boxes in pixels with right and bottom exclusive; None for no questions.

    Raises:
        ValueError: if the numbers of images, captions and records differ, or a box leaves its picture.
    """

    _esm = script("scenes.js")
    scenes = traitlets.List().tag(sync=True)
    size = traitlets.List().tag(sync=True)
    chosen = traitlets.Int(0, help="index of the scene shown large").tag(sync=True)

    def __init__(self, images, captions, records=None):
        self._images = as_images(images)
        records = [[] for _ in captions] if records is None else records
        if not len(self._images) == len(captions) == len(records):
            raise ValueError(
                f"{len(self._images)} images, {len(captions)} captions and {len(records)} records; "
                "pass one caption and one list of records per image"
            )
        height, width = self._images.shape[1:3]
        for number, questions in enumerate(records):
            for left, top, right, bottom in (box for record in questions for box in record["boxes"]):
                if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                    raise ValueError(
                        f"scene {number}: box {(left, top, right, bottom)} leaves the {width}×{height} "
                        "picture; boxes are (left, top, right, bottom) in pixels"
                    )
        scenes = [
            {"caption": str(caption), "records": [plain(record) for record in questions]}
            for caption, questions in zip(captions, records, strict=True)
        ]
        self.allowed = {"chosen": range(len(self._images))}
        super().__init__(size=[height, width, PAGE], scenes=scenes)
        firsts = range(0, len(self._images), PAGE)
        self.offer({f"page/{page}": self._images[first : first + PAGE] for page, first in enumerate(firsts)})

    def static_figure(self) -> Still:
        """The page of the chosen scene as a picture, each with its caption."""
        start = self.chosen // PAGE * PAGE
        shown = range(start, min(start + PAGE, len(self._images)))
        lines = -(-len(shown) // 4)
        drawing = new_figure(2.5 * lines)
        all_axes = drawing.subplots(lines, 4, squeeze=False).ravel()
        for axes in all_axes:
            axes.axis("off")
        for axes, scene in zip(all_axes, shown):  # noqa: B905 - the last line may have places to spare
            axes.imshow(self._images[scene], interpolation="nearest")
            caption = textwrap.fill(self.scenes[scene]["caption"], 24)
            axes.set_title(caption, fontsize=9)
        return Still(drawing, f"Scenes {start} to {shown[-1]} of {len(self._images)} with their captions")

    def __repr__(self) -> str:
        questions = sum(len(scene["records"]) for scene in self.scenes)
        return f"SceneBrowser({len(self._images)} scenes, {questions} questions)"


def plain(record: dict) -> dict:
    """A question with its answer and evidence, as the browser reads it."""
    boxes = [list(map(float, box)) for box in record["boxes"]]
    return {"question": str(record["question"]), "answer": str(record["answer"]), "boxes": boxes}
