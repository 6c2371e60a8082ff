"""Learning to read examples: riddles as rows of tokens, and whoever answers them (notebook 09).

A row holds a riddle's examples and its question, each behind its image. All answers are learned: the first
without an example before it, the second with one, and so on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmcourse.data.batches import Batches
from vlmcourse.data.chat import Chats, Turns, encode, few_shot
from vlmcourse.models.vlm import VLM
from vlmcourse.training.history import History
from vlmcourse.training.loop import learn
from vlmcourse.training.losses import answer_loss
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world.riddles import WORD, Riddles

MATRICES = 0.02  # rate of Muon


def write_out(told: Riddles, image_tokens: int = 1, also: Sequence[Turns] = ()) -> Chats:
    """Riddles with all their answers as a model reads them; every answer is a label.

    Args:
        also: further conversations, in rows of their own.
    """
    chats = list(also)
    for *shown, last in told.answers:
        prompt = few_shot([(WORD, said) for said in shown], WORD)
        chats.append([*prompt, ("assistant", last)])
    return encode(chats, image_tokens)


def riddle_loss(
    model: VLM, features: Float[Tensor, "scene patch features"], told: Riddles, rows: Chats
) -> Float[Tensor, ""]:
    """Mean surprise by the answers, in nats per token.

    Args:
        features: of all scenes, see Speaker.features.
        rows: the riddles, see write_out.
    """
    shown = torch.as_tensor(told.pictures).flatten()
    image_tokens = model.connect(features[shown].float())
    return answer_loss(model.hidden(rows.ids, features=image_tokens), rows.labels, model.head)


def learn_texts(
    model: nn.Module, rows: Chats, *, steps: int, size: int, rate: float = 2e-3, **options: Any
) -> History:
    """Let a language model learn the labels of texts without seeing images."""

    def loss_of(model: nn.Module, batch: tuple) -> Tensor:
        return answer_loss(model.hidden(batch[0]), batch[1], model.head)

    options = _optimized(model, steps, rate) | options
    return learn(model, Batches((rows.ids, rows.labels), size), loss_of, steps=steps, **options)


def learn_riddles(
    model: VLM,
    features: Float[Tensor, "scene patch features"],
    told: Riddles,
    *,
    steps: int,
    size: int,
    rate: float = 0.02,
    **options: Any,
) -> History:
    """Let what is not frozen learn to answer riddles about scenes.

    Args:
        size: riddles per step.
        rate: of what is no matrix inside a block, such as gates, norms and embeddings.
        options: further arguments of training.loop.train.
    """
    rows = write_out(told, model.tokens_per_image)

    def loss_of(model: VLM, batch: tuple) -> Tensor:
        pictures, *some = batch
        return riddle_loss(model, features, told._replace(pictures=pictures), Chats(*some))

    options = _optimized(model, steps, rate) | options
    batches = Batches((torch.from_numpy(told.pictures), *rows), size)
    return learn(model, batches, loss_of, steps=steps, **options)


def _optimized(model: nn.Module, steps: int, rate: float) -> dict[str, Any]:
    optimizer = MuonAdamW(model, MATRICES, rate, weight_decay=0.01)
    return dict(optimizer=optimizer, schedule=warmup_linear(steps, flat=0.5))
