"""Learning from rewards: answers that turned out better than the others become likelier (notebook 20).

    group_advantages   how much better each of several answers to one question was than the others
    policy_loss        raise what was better than expected, in small steps, and stay near the start

Several answers are drawn from the model itself, a function says how good each is, and no second model is
needed to tell what could have been expected: the other answers of the group do.

Source: GRPO, Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, section 4.1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmcourse.slots import slot

NEVER_ZERO = 1e-4  # added to the deviation: a group of equal rewards has no advantages, not infinite ones


@slot
def group_advantages(rewards: Float[Tensor, "question answer"]) -> Float[Tensor, "question answer"]:
    """Rewards, less the mean of their group and divided by its standard deviation (n - 1, plus 1e-4).

    Where all answers to a question were equally good, or equally bad, there is nothing to learn: zeros.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1.2.
    """
    better = rewards - rewards.mean(dim=1, keepdim=True)
    return better / (rewards.std(dim=1, keepdim=True) + NEVER_ZERO)


@slot
def policy_loss(
    now: Float[Tensor, "sample token"],
    before: Float[Tensor, "sample token"],
    reference: Float[Tensor, "sample token"],
    advantages: Float[Tensor, "sample"],
    mask: Bool[Tensor, "sample token"],
    clip: float,
    beta: float,
) -> Float[Tensor, ""]:
    """Clipped policy loss with a penalty for leaving the reference: mean over samples of means over tokens.

    Of each token: ratio = exp(now - before); gain = the smaller of ratio · advantage and of
    clamp(ratio, 1 - clip, 1 + clip) · advantage; the loss is beta · kl - gain. The divergence from the
    reference is estimated by exp(reference - now) - (reference - now) - 1, which is never negative.

    Args:
        now: log-probability of each token under the model that learns; the only one with a gradient.
        before: under the model that drew the samples, some steps ago.
        reference: under the model as it was at the very start.
        mask: True at tokens of the answer.
        clip: how far the ratio may go until a token is left alone, such as 0.2.
        beta: weight of the divergence; 0 for none.

    Source: Schulman et al. 2017 (PPO), arXiv:1707.06347, equation 7; Shao et al. 2024, arXiv:2402.03300,
        equations 3 and 4.
    """
    ratio = torch.exp(now - before)
    near = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * advantages[:, None], near * advantages[:, None])
    back = reference - now
    divergence = torch.exp(back) - back - 1
    loss = beta * divergence - gain
    return ((loss * mask).sum(dim=1) / mask.sum(dim=1)).mean()
