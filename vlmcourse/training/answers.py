"""Learning answers with a large language model on a small machine: only what is learned (notebook 17).

SmolLM2's vocabulary has 49,152 tokens: a score for every one of them at every position would cost a quarter
of all the time, so answer_loss asks only at the places of answers. And each conversation begins with the same
24 tokens, the system prompt, so read reads them once for all.
"""

from jaxtyping import Float, Int
from torch import Tensor

from vlmcourse.models.attention import Cache
from vlmcourse.models.language import Llama
from vlmcourse.models.look import packed
from vlmcourse.training.losses import answer_loss  # noqa: F401  the slot of this name


def read(
    language: Llama,
    opening: Int[Tensor, "first"],
    vectors: Float[Tensor, "batch token width"],
    packs: Int[Tensor, "batch token"],
) -> Float[Tensor, "batch token width"]:
    """What the language model makes of rows that stand behind a common opening.

    The opening is read once, as a batch of one; its keys and values are then shared by all rows. Gradients
    flow through it too. The same as reading opening and row together, every time.

    Args:
        vectors: image tokens and embedded words of each row.
        packs: several texts about one image in a row, as models.look.packed takes them.
    """
    caches = [Cache() for _ in language.blocks]
    language.hidden(opening[None], caches=caches)
    for cache in caches:
        cache.past = tuple(part.expand(len(vectors), -1, -1, -1) for part in cache.past)
    return language.hidden(vectors, packed(packs, past=len(opening)), caches)
