"""Does a model see what changes? Its answers about pairs and clips, with controls (notebook 16).

    about_pairs, about_clips   an FrameExam: pictures, what stands before each, questions and right answers
    FrameExam.score, FrameExam.says      the share of right answers; what the model says
    look_at_row                the row a model reads, where its pictures stand, and its attention
    change_controls            pairs: right, swapped pictures, two times the same picture, blank pictures
    motion_controls            clips: right, frames shuffled, one frame alone, blank frames
    which_controls             "in the second picture ...": right, and whether swapped pictures swap answers
    pointing_scores            boxes told by location tokens: how well they fit, beside the mean box
    frame_costs                tokens, seconds and accuracy over frames and over tokens of a frame
    measure_video              every number of the card of nano-video

Every control asks the same questions about other pictures. Chance is what a reader can know from the control
at best, see world/motion.py.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.evaluation.answers import accuracy
from vlmcourse.evaluation.boxes import box_iou
from vlmcourse.models.attention import record_attention
from vlmcourse.speak import Speaker, blinded
from vlmcourse.world import changes, motion, pointing, scenes
from vlmcourse.world.render import render, to_tensor

PAIR = tuple(
    f"{ordinal} picture" for ordinal in changes.ORDINALS
)  # what stands before each picture of a pair
FITS = 0.5  # the least overlap of a box that counts as found
AT_ONCE = 20_000  # tokens that are graded at once


@dataclass(frozen=True)
class FrameExam:
    """Questions about rows of several pictures, and the right answers."""

    images: UInt8[np.ndarray, "row frame 64 64 3"]
    before: tuple[str, ...]  # what stands before each picture of a row
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    def shown(self, images: UInt8[np.ndarray, "row frame 64 64 3"]) -> "FrameExam":
        """The same questions and answers about other pictures: a control."""
        return replace(self, images=images)

    def blank(self) -> "FrameExam":
        """The control in which every picture is empty."""
        return self.shown(blinded(self.images))

    def right(self, speaker: Speaker) -> Bool[torch.Tensor, "row"]:
        """Whether the model would write each answer word for word."""
        rows = speaker.encode(
            [[pair] for pair in zip(self.questions, self.answers, strict=True)], self.before
        )
        return speaker.grade(speaker.features(self.images), rows, max(1, AT_ONCE // rows.ids.shape[1]))

    def score(self, speaker: Speaker) -> float:
        """The share of right answers."""
        return self.right(speaker).float().mean().item()

    def says(self, speaker: Speaker, steps: int = 24) -> list[str]:
        """What the model says to each question."""
        return speaker.answer(self.images, self.questions, steps, before=self.before)


class RowLook(NamedTuple):
    """A row of several pictures and a question, and who attends to whom in it."""

    tokens: list[str]  # as words; "<image>" at the places of pictures
    spans: list[tuple[int, int]]  # of each picture the first place, and the first one behind it
    weights: Float[torch.Tensor, "layer head query key"]

    def shares(self, token: int = -1) -> Float[torch.Tensor, "layer picture"]:
        """How much of its attention a token gives to each picture, mean over heads; the last one answers."""
        own = self.weights[:, :, token].mean(dim=1)
        return torch.stack([own[:, begin:end].sum(dim=1) for begin, end in self.spans], dim=1)


@torch.no_grad()
def look_at_row(
    speaker: Speaker, images: UInt8[np.ndarray, "frame 64 64 3"], before: Sequence[str], instruction: str
) -> RowLook:
    """The row that a model reads when it is asked about several pictures, and its attention."""
    model, words = speaker.model, speaker.words
    ids, _ = words.prompts([instruction], model.tokens_per_frame, before)
    first = (ids[0] == words.image).nonzero()[:: model.tokens_per_frame, 0].tolist()
    with record_attention(model.language) as layers:
        model.hidden(ids, to_tensor(images)[None])
    tokens = [IMAGE_WORD if n == words.image else words.spell([[n]])[0] for n in ids[0].tolist()]
    spans = [(begin, begin + model.tokens_per_frame) for begin in first]
    return RowLook(tokens, spans, torch.stack([layer[0] for layer in layers]))


def about_pairs(pairs: changes.Changes) -> FrameExam:
    """What changed in each pair."""
    asked = (changes.WHAT_CHANGED,) * len(pairs)
    return FrameExam(pairs.pictures(), PAIR, asked, tuple(pairs.sentences()))


def about_clips(clips: motion.Clips) -> FrameExam:
    """Which way what moves goes in each clip."""
    return FrameExam(
        clips.pictures(), tuple(clips.stamps()), tuple(clips.questions()), tuple(clips.answers())
    )


def change_controls(speaker: Speaker, pairs: changes.Changes) -> dict[str, float]:
    """Shares of right answers to "What changed?".

    Swapped: the pictures exchanged, and right is what is true of them then. Still right when swapped: what
    was true before counts, as a model says that does not mind the order. Same: the first picture twice.
    """
    exam = about_pairs(pairs)
    other = about_pairs(pairs.swapped())
    same = exam.images[:, :1].repeat(2, axis=1)
    return {
        "right": exam.score(speaker),
        "swapped": other.score(speaker),
        "still right when swapped": exam.shown(other.images).score(speaker),
        "same picture twice": exam.shown(same).score(speaker),
        "blank": exam.blank().score(speaker),
    }


def motion_controls(speaker: Speaker, clips: motion.Clips, seed: int = 0) -> dict[str, float]:
    """Shares of right answers about the direction: all frames, in any order, one alone, blank; and chance.

    Args:
        seed: of the order of frames, and of which one is left.
    """
    exam = about_clips(clips)
    return {
        "right": exam.score(speaker),
        "shuffled": exam.shown(clips.shuffled(seed)).score(speaker),
        "single frame": exam.shown(clips.still(seed)).score(speaker),
        "blank": exam.blank().score(speaker),
        "chance, shuffled": 0.5 if clips.path == "straight" else 0.25,
        "chance, single frame": 1 / len(motion.MOVES),
    }


def which_controls(speaker: Speaker, pairs: changes.Changes, seed: int = 0) -> dict[str, float]:
    """Questions about the first or the second picture, whose answers differ.

    Swapped: of the pairs whose answer is right, the share whose answer to the same question becomes the other
    one when the pictures are exchanged.
    """
    asked = changes.ask_which(pairs, seed)
    rows = np.array([number for number, question in enumerate(asked) if question])
    images, shares, swaps = pairs.pictures()[rows], {}, []
    for side, ordinal in enumerate(changes.ORDINALS):
        questions = tuple(asked[row][side][0] for row in rows)
        own, other = (tuple(asked[row][n][1] for row in rows) for n in (side, 1 - side))
        exam = FrameExam(images, PAIR, questions, own)
        right = exam.right(speaker)
        swapped = replace(exam, images=images[:, ::-1], answers=other).right(speaker)
        shares[f"{ordinal} picture"] = right.float().mean().item()
        shares[f"{ordinal} picture, blank"] = exam.blank().score(speaker)
        swaps.append(swapped[right])
    swapped = torch.cat(swaps)
    return shares | {"swapped": swapped.float().mean().item() if len(swapped) else 0.0}


def pointing_scores(speaker: Speaker, batch: scenes.Scenes, seed: int = 0) -> dict[str, float]:
    """How well boxes fit that the model tells in words: mean intersection over union, and share above 1/2.

    What is no box counts as 0. Mean box: the mean of all true boxes, for every question. Best possible: the
    true boxes, written in words and read back.
    """
    asked = pointing.point_talks(batch, seed)
    rows = np.array([number for number, question in enumerate(asked) if question])
    pairs = [asked[row][0] for row in rows]
    true = torch.tensor(pointing.true_boxes(batch, seed))[rows].float()
    images, questions = render(batch)[rows], [question for question, _ in pairs]
    mean = true.mean(dim=0).expand(len(rows), 4)
    told = {
        "told": _boxes(speaker.answer(images, questions, 4)),
        "blank": _boxes(speaker.answer(blinded(images), questions, 4)),
        "mean box": mean,
        "best possible": _boxes([answer for _, answer in pairs]),
    }
    scores = {}
    for name, boxes in told.items():
        fits = box_iou(boxes, true).diagonal()
        scores[f"{name}: mean IoU"] = fits.mean().item()
        scores[f"{name}: IoU over 0.5"] = (fits > FITS).float().mean().item()
    return scores


def _boxes(texts: Sequence[str]) -> torch.Tensor:
    """(text, 4) in pixels; empty boxes for texts that tell of none."""
    return torch.tensor([pointing.read_box(text) or (0.0,) * 4 for text in texts])


def frame_costs(
    speaker: Speaker,
    count: int,
    frames: Sequence[int] = (2, 4, 8, 16),
    sides: Sequence[int] = (1, 2, 4, 8),
    path: str = "round",
    start: int = 0,
) -> list[dict[str, float]]:
    """Over frames and squares that a frame is pooled by: tokens of a row, CPU seconds of an answer, right.

    The model is asked as it is, whatever it was trained with. Features of the eye are counted as well.
    """
    model, rows = speaker.model, []
    own = model.side
    try:
        for side in sides:
            model.side = side
            for number in frames:
                clips = motion.sample_clips("test", count, start, frames=number, path=path)
                exam = about_clips(clips)
                begun = time.process_time()
                right = exam.score(speaker)
                spent = time.process_time() - begun
                tokens = int((speaker.encode([[("", "")]], exam.before).packs == 0).sum())
                rows.append(
                    {
                        "frames": number,
                        "tokens a frame": model.tokens_per_frame,
                        "tokens": tokens,
                        "CPU seconds": spent / count,
                        "right": right,
                    }
                )
    finally:
        model.side = own
    return rows


def measure_video(speaker: Speaker, count: int = 200, seed: int = 0) -> dict[str, float]:
    """The metrics of the card, on scenes never seen: shares from 0 to 1.

    Args:
        count: of pairs, of clips of each path, of scenes to point at, and of scenes for each old question.
        seed: another seed draws other scenes.
    """
    pairs = changes.sample_changes("test", count, seed=seed)
    batch = scenes.sample("test", count, seed=seed)
    found = {"what changed": change_controls(speaker, pairs) | changes_by_kind(speaker, pairs)}
    found["which picture"] = which_controls(speaker, pairs)
    for path in motion.PATHS:
        clips = motion.sample_clips("test", count, seed=seed, path=path)
        found[f"direction, {path}"] = motion_controls(speaker, clips)
    found["pointing"] = pointing_scores(speaker, batch)
    found["new combinations"] = _new_combinations(speaker, count, seed)
    metrics = {f"{what}: {one}": share for what, shares in found.items() for one, share in shares.items()}
    metrics["one picture, as nano-vlm"] = np.mean(list(accuracy(speaker, batch).values()))
    return {name: round(float(value), 4) for name, value in metrics.items()}


def _new_combinations(speaker: Speaker, count: int, seed: int) -> dict[str, float]:
    """The shares of right answers where things have colours that no thing of their shape had in training."""
    pairs = changes.sample_changes("novel", count, seed=seed)
    shares = {"what changed": about_pairs(pairs).score(speaker)}
    for path in motion.PATHS:
        exam = about_clips(motion.sample_clips("novel", count, seed=seed, path=path))
        shares[f"direction, {path}"] = exam.score(speaker)
    return shares


def changes_by_kind(speaker: Speaker, pairs: changes.Changes) -> dict[str, float]:
    """Shares of right answers to "What changed?", by what did."""
    right = about_pairs(pairs).right(speaker).numpy()
    kinds = np.array([change.kind for change in pairs.truths()])
    return {kind: right[kinds == kind].mean() for kind in changes.CHANGES if (kinds == kind).any()}
