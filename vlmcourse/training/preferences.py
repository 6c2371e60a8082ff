"""Preferences: which of two answers is the better one, learned without a judge (notebook 20).

    token_log_probabilities   how likely a model finds each token of an answer
    dpo_loss                  prefer the chosen answer over the rejected one, held against a frozen copy

In shapes, pair is a question with two answers.
"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vlmcourse.models.language import IGNORED
from vlmcourse.slots import slot


@slot
def token_log_probabilities(
    logits: Float[Tensor, "... token vocabulary"], labels: Int[Tensor, "... token"]
) -> Float[Tensor, "... next"]:
    """Log-probability, in nats, of every token of the answers; next = token - 1.

    The token at place t + 1 is predicted by the scores at place t. Where nothing is to be predicted stands 0,
    so that the sum over the last axis is the log-probability of the whole answer.

    Args:
        labels: the tokens of the answer, and -100 everywhere else: at the prompt, the image and padding.
    """
    following = labels[..., 1:]
    learned = following != IGNORED
    everything = logits[..., :-1, :].float().log_softmax(dim=-1)
    chosen = everything.gather(-1, following.masked_fill(~learned, 0)[..., None])[..., 0]
    return chosen.masked_fill(~learned, 0.0)


@slot
def dpo_loss(
    chosen: Float[Tensor, "pair"],
    rejected: Float[Tensor, "pair"],
    reference_chosen: Float[Tensor, "pair"],
    reference_rejected: Float[Tensor, "pair"],
    beta: float,
) -> Float[Tensor, ""]:
    """Mean of -log σ(beta · margin): small where the chosen answer gained more than the rejected one.

    An answer gains by how much likelier the model finds it than the frozen reference does; the margin is
    the gain of the chosen answer less that of the rejected one. At the start all gains are 0, the loss ln 2.

    Args:
        chosen, rejected: log-probabilities of whole answers, of the model that learns.
        reference_chosen, reference_rejected: the same of the model as it was before.
        beta: how dear it is to leave the reference; about 0.1. Smaller moves further.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -F.logsigmoid(beta * margin).mean()


def entropies(logits: Float[Tensor, "... vocabulary"]) -> Float[Tensor, "..."]:
    """Entropy of the next token, in nats: 0 where a model is sure, ln(vocabulary) where it knows nothing."""
    logarithms = logits.float().log_softmax(dim=-1)
    return -(logarithms.exp() * logarithms).sum(dim=-1)
