"""Speaking about images: one interface for every vision-language model (notebooks 00, 08 and 17).

    Speaker             a model and its words: features, foreign, encode, answer, grade, tune
    course_words        the words of the course's tokenizer and chat template
    pretrained_words    those of a tokenizer of transformers, such as SmolLM2's

Evaluation, diagnostics, playground, command line and export speak to a model through a Speaker. It takes any
model of models/vlm.py that also says how many placeholders an image has, ``tokens_per_image``, what its
vision encoder says, ``image_features(images)``, and what the language reads of it, ``connect(features)``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import Turns, collate, label_mask, render_chat
from vlmcourse.data.packing import Packs, pack
from vlmcourse.data.text import END, IMAGE, IMAGE_WORD, PAD, SPECIAL, as_plain_text, load_tokenizer
from vlmcourse.diagnostics.familiar import Familiar
from vlmcourse.models.frames import interleave
from vlmcourse.models.generation import generate
from vlmcourse.models.language import CONTEXT, IGNORED, following
from vlmcourse.models.native import PatchRow, join_rows
from vlmcourse.models.vlm import VLM
from vlmcourse.training.answers import read
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.precision import precision_of
from vlmcourse.world.render import to_tensor

GREY = 235  # of a picture that shows nothing; a scene's paper is about as light

# a list where pictures have different sizes, see models/native_llava.py
Images = UInt8[np.ndarray, "image rows columns 3"] | Sequence[UInt8[np.ndarray, "_ _ 3"]]
# images, or rows of several: (row, frame, ...)
OneOrMany = UInt8[np.ndarray, "*image rows columns 3"] | Sequence[UInt8[np.ndarray, "_ _ 3"]]
Features = Float[Tensor, "*image patch features"] | PatchRow
Talks = Sequence[Sequence[tuple]]  # for each image what is asked and answered: (instruction, answer, ...)
RowLoss = Callable[[Tensor, Packs, nn.Module], Any]  # of what ``Speaker.hidden`` gives, the rows and the head


@dataclass(frozen=True)
class Words:
    """How conversations are written for one language model."""

    number: Callable[[list[str]], list[list[int]]]  # token ids of texts, nothing added
    spell: Callable[[list[list[int]]], list[str]]  # texts of token ids, special tokens left out
    render: Callable[[Turns], str]  # the chat template: a conversation as one text
    image: int  # id of the placeholder <image>
    end: int  # id of what ends an answer
    pad: int  # id of what fills up rows
    opening_apart: bool  # what precedes the image is read once for all rows, see training.answers.read
    control: tuple[str, ...] = SPECIAL  # words that steer; in a person's text they are plain text
    learned: Callable[[Tensor], Tensor] | None = None  # ids -> tokens to be predicted; else the answers
    # what interop.llava.save_folder writes for transformers, if they are not the course's
    tokenizer: Any = None
    template: str | None = None

    def frame(self) -> tuple[str, str, str]:
        """What the template writes before an image, between question and answer, and behind the answer."""
        text = self.render([("user", f"{IMAGE_WORD}QUESTION"), ("assistant", "ANSWER")])
        opening, _, rest = text.partition(f"{IMAGE_WORD}QUESTION")
        middle, _, ending = rest.partition("ANSWER")
        return opening, middle, ending

    def opening(self) -> Int[Tensor, "token"]:
        """The tokens before the image, the same in every conversation."""
        return torch.tensor(self.number([self.frame()[0]])[0])

    def pictures(self, text: str, image_tokens: int) -> list[int]:
        """Ids of a text in which every <image> has its room, see models.frames.interleave."""
        row = self.number([text])[0]
        return interleave(row, self.image, [image_tokens] * list(row).count(self.image))[0]

    def prompts(
        self, instructions: Sequence[str], image_tokens: int | Sequence[int], before: Sequence[str] = ("",)
    ) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
        """Ids and mask of instructions that wait for answers, each about its image, padded on the left.

        Args:
            image_tokens: of one image; or of that of each instruction, where images have different sizes.
            before: what stands before each image of a row, such as when it was taken; one image by default.

        Raises:
            ValueError: if an instruction is too long, or not text throughout.
        """
        opening, middle, _ = self.frame()
        shown = opening + "".join(text + IMAGE_WORD for text in before)
        asked = [as_plain_text(text, self.control) for text in instructions]
        rooms = [image_tokens] * len(asked) if isinstance(image_tokens, int) else image_tokens
        rows = [self.pictures(shown + asked[n] + middle, room) for n, room in enumerate(rooms)]
        longest = max(map(len, rows), default=0)
        if longest > CONTEXT:
            counted = f"a question has {longest:,} tokens with its image, {CONTEXT:,} are allowed"
            raise ValueError(f"{counted}; ask with fewer words")
        return collate(rows, self.pad, left=True)

    def encode(self, talks: Talks, image_tokens: int | Sequence[int], before: Sequence[str] = ("",)) -> Packs:
        """One row per image, or per several, see data/packing.py; an opening that is read apart is not in it.

        Args:
            image_tokens, before: see prompts.

        Raises:
            ValueError: if an image has no conversation.
        """
        opening, middle, ending = self.frame()
        exchanges = [
            [as_plain_text(text, self.control) for text in pair[:2]] for row in talks for pair in row
        ]
        texts = [text for asked, said in exchanges for text in (asked + middle, said + ending)]
        ids = self.number(texts) if texts else []
        answers = [answer[: answer.index(self.end) + 1] for answer in ids[1::2]]
        pairs = iter(zip(ids[::2], answers, strict=True))
        shown = "" if self.opening_apart else opening
        shown += "".join(text + IMAGE_WORD for text in before)
        if isinstance(image_tokens, int):
            image = self.pictures(shown, image_tokens)
        else:
            image = [self.pictures(shown, room) for room in image_tokens]
        rows = pack([list(islice(pairs, len(row))) for row in talks], image, self.pad)
        if self.learned is None:
            return rows
        return rows._replace(labels=torch.where(self.learned(rows.ids), rows.ids, IGNORED))

    def decode(self, written: Int[Tensor, "batch token"]) -> list[str]:
        """Answers as text, each up to its end."""
        rows = written.tolist()
        return self.spell([row[: row.index(self.end)] if self.end in row else row for row in rows])


def course_words(extra: Sequence[str] = ()) -> Words:
    """The course's words: what is learned says ``label_mask``, and how turns are written ``render_chat``.

    Args:
        extra: further words, one token each, numbered behind all others; a model needs vectors for them.
    """
    tokenizer = load_tokenizer()
    tokenizer.encoder.add_tokens(list(extra))

    def number(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encoder.encode_batch(texts)]

    own = tokenizer if extra else None  # a folder for transformers has those words, too
    return Words(
        number, tokenizer.decode, render_chat, IMAGE, END, PAD, False, learned=label_mask, tokenizer=own
    )


def pretrained_words(tokenizer: Any, template: str | None = None) -> Words:
    """Those of a tokenizer of transformers that knows <image>; its template may open with a system prompt."""

    def number(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    def spell(rows: list[list[int]]) -> list[str]:
        return tokenizer.batch_decode(rows, skip_special_tokens=True)

    def render(turns: Turns) -> str:
        messages = [{"role": role, "content": text} for role, text in turns]
        return tokenizer.apply_chat_template(messages, tokenize=False)

    image = tokenizer.convert_tokens_to_ids(IMAGE_WORD)
    end, pad, added = tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.added_tokens_decoder.values()
    control = tuple(str(token) for token in added if token.special or str(token) == IMAGE_WORD)
    options = dict(tokenizer=tokenizer, template=template)
    return Words(number, spell, render, image, end, pad, True, control, **options)


def blinded(images: OneOrMany) -> OneOrMany:
    """Empty pictures in place of the images, for the blind control: what is answered then was not seen."""
    if isinstance(images, np.ndarray):
        return np.full_like(images, GREY)
    return [np.full_like(image, GREY) for image in images]


def shown(images: OneOrMany | PatchRow) -> Any:
    """Images as a model takes them: a tensor, where they have different sizes a list of tensors.

    The pixels of patches of pictures are what a model takes already, see NativeViT.cut.
    """
    if isinstance(images, PatchRow):
        return images
    if not isinstance(images, np.ndarray):
        return [to_tensor(image[None])[0] for image in images]
    return to_tensor(images.reshape(-1, *images.shape[-3:])).unflatten(0, images.shape[:-3])


class Speaker:
    """A vision-language model that can be asked.

    Args:
        words: of its language model; the course's own when not given.
        familiar: which pictures it learned from, where that was measured.
    """

    def __init__(self, model: VLM, words: Words | None = None, familiar: Familiar | None = None):
        self.model, self.words, self.familiar = model, words or course_words(), familiar
        self.any_size = getattr(model, "any_size", False)

    @torch.no_grad()
    def features(self, images: Images, batch: int = 250, dtype: torch.dtype = torch.float32) -> Features:
        """What the vision encoder says of images; computed once, since it is frozen."""
        if self.any_size:
            parts = [images[start : start + batch] for start in range(0, len(images), batch)]
            return join_rows([self.model.image_features(shown(part)).to(dtype) for part in parts])
        several = np.asarray(images).shape[:-3]
        flat = np.asarray(images).reshape(-1, *images.shape[-3:])
        parts = [flat[start : start + batch] for start in range(0, len(flat), batch)]
        found = torch.cat([self.model.image_features(to_tensor(part)).to(dtype) for part in parts])
        return found.unflatten(0, several)

    def foreign(self, images: Images) -> Bool[Tensor, "image"]:
        """Whether images are unlike those it learned from; of none it is said where that was not measured."""
        if self.familiar is None:
            return torch.zeros(len(images), dtype=torch.bool)
        return self.familiar.foreign(self.features(images))

    def encode(
        self, talks: Talks, before: Sequence[str] | None = None, images: Images | Features | None = None
    ) -> Packs:
        """Questions and answers about images, one row for each image, see Words.encode.

        Args:
            before: for rows of several images, see answer.
            images: or their features; needed where images have different sizes, and so numbers of tokens.
        """
        return self.words.encode(talks, *self._room(before, images))

    def answer(
        self,
        images: OneOrMany,
        instructions: str | Sequence[str],
        steps: int = 64,
        batch: int = 200,
        before: Sequence[str] | None = None,
    ) -> str | list[str]:
        """What the model says, always with the likeliest word: about one image, or one for each instruction.

        Args:
            steps: tokens of an answer at most.
            before: for a model of models/video.py, where instructions are about several images each:
                (row, frame, ...). What is written before each image, such as "first picture" or a timestamp.

        Raises:
            ValueError: if there are not as many images as instructions, or texts ``before`` as frames; or the
                model reads one image at a time.
        """
        if isinstance(instructions, str):
            return self.answer(images[None], [instructions], steps, before=before)[0]
        self._check_frames(images, before)
        if len(images) != len(instructions):
            counts = f"{len(images)} images and {len(instructions)} instructions"
            raise ValueError(f"{counts}; give one of each per answer")
        answers, options = [], dict(steps=steps, eos=self.words.end, pad=self.words.pad)
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            ids, mask = self.words.prompts(instructions[part], *self._room(before, images[part]))
            written = generate(self.model, ids, mask=mask, images=shown(images[part]), **options)
            answers += self.words.decode(written[:, ids.shape[1] :])
        return answers

    def _room(
        self, before: Sequence[str] | None, images: OneOrMany | Features | None
    ) -> tuple[int | list[int], Sequence[str]]:
        """Tokens of an image, or of each, and what stands before each one of a row."""
        if before is not None:
            return self.model.tokens_per_frame, before
        if not self.any_size or images is None:
            return self.model.tokens_per_image, ("",)
        if isinstance(images, PatchRow):
            size = self.model.config.vision.patch_size
            return [self.model.tokens_of(rows * size, columns * size) for rows, columns in images.grids], (
                "",
            )
        return [self.model.tokens_of(*image.shape[:2]) for image in images], ("",)

    def _check_frames(self, images: OneOrMany, before: Sequence[str] | None) -> None:
        if before is not None and not hasattr(self.model, "tokens_per_frame"):
            kind = type(self.model).__name__
            raise ValueError(f"this {kind} reads one image at a time; ask one of models/video.py, nano-video")
        if self.any_size:
            return
        frames = images.shape[1:-3]
        if frames != (() if before is None else (len(before),)):
            texts = "no texts" if before is None else f"{len(before)} texts"
            form = "several images to an instruction are (row, frame, height, width, 3)"
            raise ValueError(f"{texts} stand before images {images.shape}; {form}, a text before each frame")

    def hidden(self, features: Features, rows: Packs) -> Float[Tensor, "image token width"]:
        """What the language model makes of rows whose images have these features."""
        model, image_tokens = self.model, self.model.connect(features)
        if not self.words.opening_apart:
            return model.hidden_of_packs(rows.ids, rows.packs, image_tokens)
        opening = self.words.opening().to(rows.ids.device)
        return read(model.language, opening, model.embed(rows.ids, features=image_tokens), rows.packs)

    @torch.no_grad()
    def scores(
        self, features: Features, rows: Packs, batch: int = 100
    ) -> Iterator[tuple[Float[Tensor, "place vocabulary"], Int[Tensor, "place"], Int[Tensor, "place"]]]:
        """Part by part: scores where answers are predicted, right tokens, numbers of their conversations."""
        counts = rows.packs.amax(dim=1)
        first = counts.cumsum(0) - counts  # conversations in the rows before
        for start in range(0, len(features), batch):
            part = slice(start, start + batch)
            some = rows.rows(part)
            right, owner = following(some.labels), F.pad(some.packs[:, 1:], (0, 1), value=-1)
            wanted = right != IGNORED
            hidden = self.hidden(features[part].float(), some)
            number = owner - 1 + first[part, None]
            yield self.model.head(hidden[wanted]), right[wanted], number[wanted]

    def grade(self, features: Features, rows: Packs, batch: int = 100) -> Bool[Tensor, "conversation"]:
        """Of each conversation, row by row, whether the model would write its answer word for word, greedily.

        Nothing is written. The likeliest token is taken at each step; so an answer is written exactly if each
        of its tokens, given those before it, is the likeliest one, and one pass over right answers shows all.
        """
        exact = torch.ones(int(rows.packs.amax(dim=1).sum()), dtype=torch.bool)
        for scores, right, number in self.scores(features, rows, batch):
            exact[number[scores.argmax(dim=-1) != right]] = False
        return exact

    def tune(
        self, features: Features, rows: Packs, steps: int, size: int, loss: RowLoss, seed: int, **options: Any
    ) -> History:
        """Let what is not frozen learn to answer.

        Args:
            features, rows: of the same images, see features and encode.
            size: images per step.
            options: further arguments of training.loop.train, such as the optimizer.
        """

        def loss_of(model: nn.Module, batch: tuple[Tensor, tuple]) -> Any:
            some = Packs(*batch[1]).cut()
            return loss(self.hidden(batch[0].float(), some), some, model.head)

        tokens = size * int((rows.packs >= 0).sum(dim=1).float().mean())
        precision = precision_of(tokens, self.model.language.config.width)
        options = dict(precision=precision, by_block=not self.words.opening_apart) | options
        batches = Batches((features, tuple(rows)), size, seed=seed)
        return learn(self.model, batches, loss_of, steps=steps, **options)
