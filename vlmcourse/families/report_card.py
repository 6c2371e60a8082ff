"""What a report card measures, for any model that answers questions about images (notebook 13).

    report_on_scenes    on the course's scenes, whose truth is known
    report_on_pictures  on a folder of your own pictures
    load_answering      a model of the course, or a folder that transformers opens

A model is anything with ``answer(images, instructions)``; a Speaker has maps and probabilities, too.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmcourse.data.own import data_files, open_pictures
from vlmcourse.data.records import MOST_SKIPPED, Record
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.diagnostics.occlusion import explain_all, grounding_of, occlusion_map
from vlmcourse.diagnostics.share import prompt_looks
from vlmcourse.evaluation.answers import agrees, answer_probabilities, asked_of, prior_accuracy
from vlmcourse.evaluation.hallucination import (
    NEGATIVES,
    OF_A_SCENE,
    chair,
    mentioned,
    poll,
    pope_scores,
    said_yes,
    scene_objects,
)
from vlmcourse.evaluation.intervals import bootstrap_interval, by_rule_of_three
from vlmcourse.evaluation.report import Report, ReportLine
from vlmcourse.evaluation.statements import true_and_complete
from vlmcourse.evaluation.vqa import anls, normalise_answer
from vlmcourse.families.making import load_speaker
from vlmcourse.families.mine import MINE
from vlmcourse.families.page_card import page_lines
from vlmcourse.speak import Images, Speaker, blinded
from vlmcourse.world import questions, scenes, twins
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import render

ShownAs = Callable[[Images], Images]
CHOSEN = dict(random="at random", popular="as often seen", adversarial="as usual beside the other")
BINS = 10  # of probabilities, for calibration
TIMED = 5  # answers, one by one
FOLDER_SIDE = 336  # pixels


def swapped(images: Images) -> Images:
    """To each question another question's image."""
    return np.roll(images, 1, axis=0)


class Examiner:
    """Asks one model about scenes, and keeps what it measured as lines."""

    def __init__(self, model: Any, count: int, seed: int = 0):
        self.model, self.count, self.seed = model, count, seed
        self.lines: list[ReportLine] = []

    def add(
        self, part: str, name: str, right: Sequence[float] | Tensor, groups: Any = None, says: str = ""
    ) -> None:
        """A share with its interval."""
        images = len(set(groups) if groups is not None else right)
        mean, low, high = by_rule_of_three(bootstrap_interval(right, groups), images)
        self.lines.append(ReportLine(part, name, mean, low, high, says=says))

    def right(
        self, batch: scenes.Scenes, asked: Sequence[questions.Question], look: ShownAs | None = None
    ) -> list[bool]:
        """Which questions are answered rightly."""
        images = render(batch)
        said = self.model.answer(look(images) if look else images, [question.text for question in asked])
        return [agrees(reply, question) for reply, question in zip(said, asked, strict=True)]

    def of_all_kinds(self, split: str, look: ShownAs | None = None) -> list[tuple[str, bool, int]]:
        """(kind, right or not, scene) of a question of each kind about each scene that allows it."""
        batch, graded = scenes.sample(split, self.count, seed=self.seed), []
        for kind in questions.KINDS:
            some, asked = asked_of(batch, kind)
            right = self.right(some, asked, look)
            graded += [(kind, *pair) for pair in zip(right, some.key.tolist(), strict=True)]
        return graded

    def add_all(self, part: str, name: str, graded: list[tuple[str, bool, int]], says: str) -> None:
        """Over all kinds; a scene's questions share its luck."""
        _, right, scene = zip(*graded, strict=True)
        self.add(part, name, right, scene, says)

    def answers(self) -> None:
        """Accuracy by kind, on seen and on new combinations of shape and colour."""
        graded = self.of_all_kinds("test")
        for kind in questions.KINDS:
            self.add("answers", kind, [right for of, right, _ in graded if of == kind])
        self.add_all("answers", "all kinds", graded, "every question counts alike")
        says = "colours that these shapes never had in training"
        self.add_all("answers", "new combinations", self.of_all_kinds("novel"), says)

    def controls(self) -> None:
        """What is left without the image, with another one, and for twins."""
        part, prior = "does it look", prior_accuracy(self.count)
        self.lines.append(
            ReportLine(part, "by habit alone", prior, says="the most frequent answer of each kind")
        )
        blind, other = (self.of_all_kinds("test", look) for look in (blinded, swapped))
        self.add_all(part, "an empty image", blind, "what is answered from words alone")
        self.add_all(part, "another image", other, "that of another scene of the same kind")
        both = []
        for kind in questions.KINDS:
            batch, asked = asked_of(scenes.sample("test", max(self.count // 4, 2), start=5000), kind)
            pairs = zip(self.right(batch, asked), self.right(*twins.twins(batch, asked)), strict=True)
            both += [
                (kind, one and two, key) for (one, two), key in zip(pairs, batch.key.tolist(), strict=True)
            ]
        says = "the same question, and an image changed just enough for another answer"
        self.add_all(part, "twins, both right", both, says)

    def hallucination(self) -> None:
        """POPE by each kind of negatives, and CHAIR of captions."""
        batch = scenes.sample("test", self.count, seed=self.seed)
        images, present = render(batch), dict(enumerate(scene_objects(batch)))
        for negatives in NEGATIVES:
            asked = poll(present, negatives, per_image=1, seed=self.seed, template=OF_A_SCENE)
            numbers, texts = [poll.image for poll in asked], [poll.question for poll in asked]
            yes = [said_yes(text) for text in self.model.answer(images[numbers], texts)]
            true = [poll.answer == "yes" for poll in asked]
            right = [one == other for one, other in zip(yes, true, strict=True)]
            share = pope_scores(yes, true)["yes"]
            says = f"what is not there was chosen {CHOSEN[negatives]}; {share:.0%} were yes, half is right"
            self.add("does it invent", f"POPE, {negatives}", right, numbers, says)
        self.captions(images, batch, [*present.values()])

    def captions(self, images: Images, batch: scenes.Scenes, present: list[list[str]]) -> None:
        """CHAIR, and how many captions are true and complete."""
        part = "does it invent"
        told = self.model.answer(images, [FULL] * len(batch))
        named = [f"{colour} {shape}" for colour in scenes.COLOURS for shape in scenes.SHAPES]
        mentions = [mentioned(text, {name: () for name in named}) for text in told]
        if any(mentions):
            of_names, of_captions = chair(mentions, present)
            self.lines.append(
                ReportLine(part, "CHAIR_i", of_names, says="things named in captions that are not there")
            )
            self.lines.append(
                ReportLine(part, "CHAIR_s", of_captions, says="captions with at least one of them")
            )
        self.add(part, "captions, true and complete", true_and_complete(told, batch).tolist())

    def grounding(self, count: int = 40) -> None:
        """How much of what counts for an answer lies in the box of its evidence, against boxes anywhere.

        By occlusion: whether covering the evidence takes the answer away more than covering as much
        elsewhere. By attention, where image tokens stand for places: that of the prompt's last token, mean
        over layers and heads; it shows where the model looks, not what counts.
        """
        batch, asked = asked_of(scenes.sample("test", count, seed=self.seed), "colour")
        images = render(batch)
        self.add_times("occlusion", *explain_all(occlusion_map, self.model, images, asked))
        looks = [
            prompt_looks(self.model, image, question.text)
            for image, question in zip(images, asked, strict=True)
        ]
        if looks[0].weights is not None:
            maps = [look.weights[:, :, -1].mean(dim=(0, 1)).unflatten(0, look.grid) for look in looks]
            side = images.shape[1] // len(maps[0])
            self.add_times("attention", *grounding_of(maps, [question.boxes for question in asked], side))

    def add_times(self, what: str, inside: float, anywhere: float) -> None:
        """A line of grounding."""
        says = "a cell inside the evidence box against one anywhere; 1 is chance"
        times = inside / max(anywhere, 1e-9)
        part = "does it look in the right place"
        self.lines.append(ReportLine(part, f"{what} in the box", times, unit="times", says=says))

    def calibration(self) -> None:
        """Whether 90 % sure means right in 90 %: how probable the model finds the answers that it gives."""
        sure, right = [], []
        for kind in questions.KINDS:
            batch, asked = asked_of(scenes.sample("test", self.count, seed=self.seed), kind)
            images, texts = render(batch), [question.text for question in asked]
            said = self.model.answer(images, texts)
            sure.append(answer_probabilities(self.model, images, texts, said))
            right += [float(agrees(reply, question)) for reply, question in zip(said, asked, strict=True)]
        error = calibration_error(torch.cat(sure), torch.tensor(right))
        says = "mean distance between how sure it is of what it says and how often that is right"
        self.lines.append(ReportLine("does it know", "calibration error", error, says=says))

    def price(self, images: Images, asked: Sequence[str]) -> None:
        """Milliseconds of an answer, parameters, and the memory of weights."""
        seconds = []
        for image, question in zip(images[: TIMED + 1], asked, strict=False):
            start = time.perf_counter()
            self.model.answer(image, question)
            seconds.append(time.perf_counter() - start)
        middle = 1000 * float(np.median(seconds[1:] or seconds))
        says = "one question about one image, image and all; this machine"
        self.lines.append(ReportLine("price", "an answer", middle, unit="ms", says=says))
        weights = {weight.data_ptr(): weight for weight in self.model.model.parameters()}.values()
        millions = sum(weight.numel() for weight in weights) / 1e6
        megabytes = sum(weight.numel() * weight.element_size() for weight in weights) / 1e6
        self.lines.append(ReportLine("price", "parameters", millions, unit="million"))
        self.lines.append(ReportLine("price", "weights in memory", megabytes, unit="MB"))


def calibration_error(sure: Tensor, right: Tensor) -> float:
    """Mean over bins of probability, by their sizes, of the distance between certainty and accuracy; 0…1.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2, equation 3.
    """
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    error = 0.0
    for number in bins.unique():
        here = bins == number
        gap = sure[here].mean() - right[here].mean()
        error += here.float().mean().item() * abs(gap.item())
    return error


def report_on_scenes(model: Any, name: str, count: int = 200, seed: int = 0) -> Report:
    """Every line of the report card; also about pages, if the model takes pictures of any size.

    Args:
        model: a Speaker; or whatever answers, of which fewer lines are measured.
        count: scenes for each kind of question; intervals narrow with its root.

    Raises:
        ValueError: if fewer than 8 scenes are asked for.
    """
    if count < 8:
        raise ValueError(f"{count} scenes say nothing; take at least 8, better 200")
    examiner = Examiner(model, count, seed)
    examiner.answers()
    examiner.controls()
    examiner.hallucination()
    if isinstance(model, Speaker):
        examiner.grounding(min(count, 40))
        examiner.calibration()
        if model.any_size:
            examiner.lines += page_lines(model, count, seed)
    batch, asked = asked_of(scenes.sample("test", count, seed=seed), "shape")
    examiner.price(render(batch), [question.text for question in asked])
    return Report(name, f"{count} test scenes for each kind of question", tuple(examiner.lines))


def report_on_pictures(
    model: Any, name: str, folder: str | Path, file: str | None = None, most_skipped: float = MOST_SKIPPED
) -> Report:
    """Answers to the rows of a folder of pictures; of its test file, if there is one.

    Args:
        file: of rows; the test file of the folder if not given, else its only one.
        most_skipped: share of rows that may be left out.

    Raises:
        ValueError: if the folder cannot be read, see data.own.open_pictures, or has fewer than two pictures.
    """
    records, own_file = question_rows(folder, file, most_skipped)
    asked, right = ([record.turns[number][1] for record in records] for number in (0, 1))
    asked = [text.replace(IMAGE_WORD, "") for text in asked]
    side = picture_side(model)
    images = np.stack([record.load(side) for record in records])
    groups = [record.image for record in records]
    others = other_pictures(asked, [normalise_answer(answer) for answer in right], groups)
    examiner = Examiner(model, len(records))
    for part, shown, says in (
        ("answers", images, ""),
        ("an empty image", blinded(images), "what is answered from words alone"),
        (
            "another image",
            images[others],
            "of a row that asks the same and wants another answer, if there is one",
        ),
    ):
        said = model.answer(shown, asked)
        pairs = [*zip(said, right, strict=True)]
        same = [normalise_answer(one) == normalise_answer(other) for one, other in pairs]
        behind = "" if part == "answers" else f", {part}"
        examiner.add(part, f"the same answer{behind}", same, groups, says)
        near = [anls(one, [other]) for one, other in pairs]
        examiner.add(part, f"ANLS{behind}", near, groups, "how alike in letters; under half is 0")
    examiner.price(images, asked)
    return Report(name, f"{len(records)} rows of {own_file}", tuple(examiner.lines))


def question_rows(
    folder: str | Path, file: str | None = None, most_skipped: float = MOST_SKIPPED
) -> tuple[list[Record], Path]:
    """The rows of a folder of pictures that are one question and its answer, and the file that holds them.

    Args: see report_on_pictures.

    Raises:
        ValueError: if the folder cannot be read, see data.own.open_pictures, or has fewer than two pictures.
    """
    if file is None:
        files = data_files(folder)
        file = files.get("test", files["train"]).name
    own = open_pictures(folder, file, most_skipped=most_skipped)
    records = [record for record in own.records if len(record.turns) == 2]
    if len({record.image for record in records}) < 2:
        raise ValueError(f"{own.file} holds rows about fewer than two pictures; one picture shows nothing")
    return records, own.file


def other_pictures(asked: Sequence[str], right: Sequence[str], pictures: Sequence[Any]) -> list[int]:
    """For each row the number of a row with another picture.

    It asks the same and wants another answer wherever there are enough of such; a picture of which the
    answer stays true would tell nothing.

    Raises:
        ValueError: if all rows have one picture.
    """
    if len(set(pictures)) < 2:
        raise ValueError("all rows have one picture, so none has another")
    count = len(asked)
    order = sorted(range(count), key=lambda row: (asked[row], right[row]))
    partner = [0] * count
    for _, same in groupby(order, key=lambda row: asked[row]):
        rows = [*same]
        often = max(
            Counter(right[row] for row in rows).values()
        )  # so far to the next answer, whichever it is
        for place, row in enumerate(rows):
            partner[row] = rows[(place + often) % len(rows)]
    place = {row: number for number, row in enumerate(order)}
    for row in range(count):
        while pictures[partner[row]] == pictures[row]:
            partner[row] = order[(place[partner[row]] + 1) % count]
    return partner


def picture_side(model: Any) -> int:
    """How many pixels wide a model reads pictures; 336 for a folder, whose processor scales them itself."""
    return model.model.config.vision.image_shape[0] if isinstance(model, Speaker) else FOLDER_SIDE


def load_answering(name: str) -> Any:
    """A model that answers: a Speaker of the course, or of a folder that transformers opens.

    Args:
        name: see load_speaker; or a folder with a config.json.

    Raises:
        FileNotFoundError, ValueError, CheckpointError: see load_speaker and interop.answering.open_folder.
    """
    if Path(name).is_dir() and name != MINE:  # the learner's folder has that name, and holds no model
        from vlmcourse.interop.answering import FolderModel

        return FolderModel(name)
    return load_speaker(name)[0]
