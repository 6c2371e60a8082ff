"""What every vision-language model of the course answers to, whatever its family (notebooks 06 to 11).

    VLM              images and texts in, scores for the next token out, at every position
    Reading          a model and the image it has read: it goes on writing like a language model
    EncoderDecoder   a VLM that reads the question with one stack and writes the answer with another
    Answering        the same as Reading, for such a model

Whoever trains, measures, asks or explains a model uses these methods and needs to know no family. In shapes,
batch and token are of texts, image and patch of pictures, width of the language model.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models import look as looks
from vlmcourse.models.attention import Cache, Tokens
from vlmcourse.models.language import Ids, Inputs, LanguageModel, Marks, Real
from vlmcourse.models.look import Look
from vlmcourse.models.native import PatchRow

LENGTHS = 4  # groups of like length into which the texts of a batch are cut
# what the connector makes of images; of those of different sizes (models/native_llava.py) a row
ImageTokens = Float[Tensor, "image vector connected"] | PatchRow


class VLM(nn.Module):
    """A language model that also reads images.

    A family is a subclass: it makes ``language``, says in ``image_features`` and ``connect`` what an image is
    to it, and in ``hidden`` where image and words meet.
    """

    language: LanguageModel
    tokens_per_image: int  # placeholders of an image in a text
    patchwise = False  # whether each of them stands for a place in the image
    any_size = False  # whether images may have different sizes, as a list, and each its own number of tokens

    @property
    def blocks(self) -> nn.ModuleList:
        return self.language.blocks

    @property
    def head(self) -> nn.Module:
        return self.language.head

    def tokens_of(self, height: int, width: int) -> int:
        """Placeholders of an image of so many pixels; where images have one size, always the same number."""
        return self.tokens_per_image

    def image_features(self, images: Tensor) -> Tensor:
        """What the vision encoder says of images; where it is frozen, computed once for a whole training."""
        raise NotImplementedError

    def connect(self, features: Tensor) -> ImageTokens:
        """What the language model reads of image_features: the work of the connector."""
        raise NotImplementedError

    def image_tokens(self, images: Tensor) -> ImageTokens:
        """Vectors of the language model's width, computed once for an image, whatever is asked about it."""
        return self.connect(self.image_features(images))

    def hidden(
        self,
        ids: Inputs,
        images: Tensor | None = None,
        features: ImageTokens | None = None,
        look: Look | None = None,
        *,
        mask: Real = None,
        caches: list[Cache] | None = None,
    ) -> Tokens:
        """One vector per token, from which the head reads the next one; see LanguageModel.hidden.

        Args:
            images: what image_tokens takes.
            features: image_tokens of the images, in their place, where they are known already.
        """
        raise NotImplementedError

    def forward(self, *args: Any, **options: Any) -> Float[Tensor, "batch token vocabulary"]:
        """Scores (logits) of every token to come next, at each position; arguments as in hidden."""
        return self.head(self.hidden(*args, **options))

    def hidden_of_packs(self, ids: Ids, packs: Int[Tensor, "batch token"], features: ImageTokens) -> Tokens:
        """``hidden`` of rows that hold several texts about one image each, see data/packing.py."""
        return self.hidden(ids, features=features, look=looks.packed(packs))

    def begin(self, ids: Ids, images: Tensor | None = None) -> tuple[Any, Tokens]:
        """What writing starts from: what reads on like a language model, and the prompts as vectors."""
        features = None if images is None else self.image_tokens(images)
        return Reading(self, features), self.language.embed(ids)


@dataclass
class Reading:
    """A model with the images it has read; to whoever writes with it, a language model."""

    model: VLM
    features: ImageTokens | None

    def __post_init__(self):
        self.blocks, self.head, self.embed = self.model.blocks, self.model.head, self.model.language.embed

    def hidden(self, embeddings: Inputs, *, mask: Real = None, caches: list[Cache] | None = None) -> Tokens:
        return self.model.hidden(embeddings, features=self.features, mask=mask, caches=caches)

    def select(self, rows: list[int]) -> None:
        """Go on with these of the texts, in this order, as Cache.select does for what caches keep."""
        if self.features is not None:
            self.features = self.features[rows]


class EncoderDecoder(VLM):
    """A VLM that reads image and question with one stack, and writes the answer with another.

    A family says in ``read_question`` and ``write_answer`` what the stacks do. The answer begins with the
    token ``start``, which the decoder is given, and ends with ``end``; all before ``start`` is the question.
    """

    start: int
    end: int

    def embed(self, ids: Ids, features: ImageTokens | None = None) -> Tokens:
        """Questions as vectors, as read_question takes them."""
        raise NotImplementedError

    def read_question(self, question: Tokens, features: ImageTokens | None, look: Look) -> Tokens:
        """What the encoder makes of questions (as vectors, see embed) and their images."""
        raise NotImplementedError

    def write_answer(
        self,
        answer: Inputs,
        context: Float[Tensor, "batch read width"],
        look: Look,
        context_mask: Bool[Tensor, "... read"] | None,
        caches: list[tuple[Cache, Cache]] | None = None,
    ) -> Tokens:
        """One vector per token of the answer, from which the head reads the next one."""
        raise NotImplementedError

    def hidden(
        self,
        ids: Ids,
        images: Tensor | None = None,
        features: ImageTokens | None = None,
        *,
        mask: Real = None,
    ) -> Tokens:
        """See VLM.hidden; at the question's places stand zeros. Writing goes through begin."""
        features = self.image_tokens(images) if images is not None else features
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        answers = answering(ids, self.start, self.end) & real
        asking = real & ~answers
        count = int(asking.any(dim=0).nonzero().max()) + 1  # columns that hold questions
        sees = (asking[:, :count] | ~asking[:, :count].any(dim=1, keepdim=True))[:, None, None]
        question = Look(sees, (real.cumsum(dim=1) - 1).clamp(min=0)[:, :count])
        context = self.read_question(self.embed(ids[:, :count], features), features, question)
        places = (~answers).long().argsort(dim=1, stable=True)[:, : max(int(answers.sum(dim=1).max()), 1)]
        own = looks.causal(places.shape[1], 0, answers.gather(1, places), ids.device)
        written = self.write_answer(ids.gather(1, places), context, own, asking[:, None, None, :count])
        hidden = written.new_zeros(*ids.shape, written.shape[-1])
        return hidden.scatter(1, places[..., None].expand_as(written), written)

    def hidden_of_packs(self, ids: Ids, packs: Int[Tensor, "batch token"], features: ImageTokens) -> Tokens:
        """See VLM.hidden_of_packs. An encoder lets the image see the question, so every text has a row."""
        row, places, real = unpacked(packs)
        whole = None
        # texts of one length together, so that a word is not filled up to a caption
        for some in real.sum(dim=1).argsort().chunk(LENGTHS):
            longest = int(real[some].sum(dim=1).max())
            image, place, own = row[some], places[some, :longest], real[some, :longest]
            hidden = self.hidden(ids[image].gather(1, place), features=features[image], mask=own)
            if whole is None:
                whole = hidden.new_zeros(*ids.shape, hidden.shape[-1])
            own = own & (packs[image].gather(1, place) > 0)
            whole[image[:, None].expand_as(place)[own], place[own]] = hidden[own]
        return whole

    def begin(self, ids: Ids, images: Tensor | None = None) -> tuple["Answering", Tokens]:
        features = None if images is None else self.image_tokens(images)
        return Answering(self, features, ids), self.embed(ids, features)


def unpacked(
    packs: Int[Tensor, "batch token"],
) -> tuple[Int[Tensor, "text"], Int[Tensor, "text place"], Bool[Tensor, "text place"]]:
    """Where the texts of packed rows stand: the row of each, its places there, and which of these are real.

    A text's places begin with those of the row's beginning.

    Args:
        packs: 0 for what a row begins with, 1, 2, ... for its texts, -1 for padding, see data/packing.py.
    """
    row, text = torch.nonzero(F.one_hot(packs.clamp(min=0)).amax(dim=1)[:, 1:], as_tuple=True)
    member = (packs[row] == 0) | (packs[row] == text[:, None] + 1)
    longest = int(member.sum(dim=1).max())
    places = (~member).long().argsort(dim=1, stable=True)[:, :longest]
    return row, places, member.gather(1, places)


def answering(ids: Ids, start: int, end: int) -> Marks:
    """True at the tokens of answers: from each ``start`` on, up to and with the next ``end``."""
    opened, closed = (ids == start).cumsum(dim=1), (ids == end).cumsum(dim=1)
    return opened > closed - (ids == end).long()


@dataclass
class Answering(Reading):
    """An EncoderDecoder, its image and its question; to whoever writes with it, a language model."""

    ids: Ids  # the prompts, whose last token begins the answer
    context: Tokens | None = None  # what the encoder made of the question, once it is known
    across: list[Cache] = field(default_factory=list)  # of the decoder's attention to it

    def hidden(
        self, embeddings: Inputs, *, mask: Real = None, caches: list[Cache] | None = None
    ) -> Float[Tensor, "batch written width"]:
        """See LanguageModel.hidden; first come the prompts, then, with caches, what was written."""
        asked = self.ids.shape[1] - 1
        past = caches[0].length if caches else 0
        real = torch.ones_like(self.ids[:, :asked], dtype=torch.bool) if mask is None else mask[:, :asked]
        if not past:
            look = Look(real[:, None, None], (real.cumsum(dim=1) - 1).clamp(min=0))
            self.context = self.model.read_question(embeddings[:, :asked], self.features, look)
            self.across = [Cache() for _ in self.blocks]
            begun = self.embed(self.ids[:, asked:])
            embeddings = torch.cat([begun, embeddings[:, asked + 1 :]], dim=1)
        look = looks.causal(embeddings.shape[1], past, device=embeddings.device)
        pairs = list(zip(caches, self.across, strict=True)) if caches else None
        return self.model.write_answer(embeddings, self.context, look, real[:, None, None], pairs)

    def select(self, rows: list[int]) -> None:
        super().select(rows)
        self.ids, self.context = self.ids[rows], self.context[rows]
        for cache in self.across:
            cache.select(rows)
