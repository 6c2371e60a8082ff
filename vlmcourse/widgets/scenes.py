"""Scene Browser: page through pictures with their captions, questions and the evidence for each answer."""

import traitlets

from vlmcourse.widgets.base import Still, Widget, as_images, script

PAGE = 12


class SceneBrowser(Widget):
    """A page of thumbnails; the chosen scene large, with caption, questions and answers.

    Pointing at a question outlines the boxes that hold its evidence.

    Args:
        images: uint8, (scene, height, width, 3).
        captions: one text per scene.
        records: per scene a list of {"question": str, "answer": str, "boxes": [(left, top, right, bottom),
            ...]}, boxes in pixels with right and bottom exclusive; None for no questions.

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
        super().__init__(
            size=[height, width, PAGE],
            scenes=[
                {
                    "caption": str(caption),
                    "records": [
                        {
                            "question": str(r["question"]),
                            "answer": str(r["answer"]),
                            "boxes": [[float(x) for x in box] for box in r["boxes"]],
                        }
                        for r in questions
                    ],
                }
                for caption, questions in zip(captions, records, strict=True)
            ],
        )
        self.preload([f"page/{p}" for p in range(-(-len(self._images) // PAGE))])

    def blob(self, name: str) -> bytes:
        """page/P: the pixels of the scenes on page P."""
        page = int(name.removeprefix("page/"))
        return self._images[page * PAGE : (page + 1) * PAGE].tobytes()

    def static_figure(self) -> Still:
        """The page of the chosen scene as a picture, each with its caption."""
        import textwrap

        from matplotlib.figure import Figure

        start = self.chosen // PAGE * PAGE
        shown = range(start, min(start + PAGE, len(self._images)))
        figure = Figure(figsize=(7, 2.1 * -(-len(shown) // 4)), layout="constrained")
        for place, axes in enumerate(figure.subplots(-(-len(shown) // 4), 4, squeeze=False).flat):
            axes.axis("off")
            if place < len(shown):
                axes.imshow(self._images[shown[place]], interpolation="nearest")
                axes.set_title(textwrap.fill(self.scenes[shown[place]]["caption"], 28), fontsize=6.5)
        return Still(figure, f"Scenes {start} to {shown[-1]} of {len(self._images)} with their captions")

    def __repr__(self) -> str:
        questions = sum(len(scene["records"]) for scene in self.scenes)
        return f"SceneBrowser({len(self._images)} scenes, {questions} questions)"
