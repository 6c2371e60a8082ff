"""Rewards that can be checked: is the answer true, and in the form that was asked for? (Notebook 20.)

    truth_reward    1 for the true answer, 0 for any other
    format_reward   1 for an answer in the form that the question wants, whatever it says

A reward is all that a model learns from here; whatever it does not look at, it will not teach.
"""

from vlmcourse.evaluation.vqa import normalise_answer
from vlmcourse.slots import slot
from vlmcourse.world.grammar import SENTENCE


@slot
def truth_reward(reply: str, answer: str) -> float:
    """1.0 if the reply says the answer, 0.0 otherwise; capitals, articles and punctuation do not matter.

    A reply that goes on behind the answer, "2 or 3", is not the answer.
    """
    return float(normalise_answer(reply) == normalise_answer(answer))


@slot
def format_reward(reply: str, instruction: str) -> float:
    """1.0 if the reply has the form that its instruction asks for, 0.0 otherwise.

    An instruction that ends with " Answer in a sentence." wants a capital first letter, several words, and
    one full stop, at the end. Any other question wants at most two words ("top left") and no full stop.
    """
    words = reply.split()
    if instruction.endswith(SENTENCE):
        stops = reply.count(".") == 1 and reply.endswith(".")
        return float(len(words) > 2 and reply[0].isupper() and stops)
    return float(0 < len(words) <= 2 and "." not in reply)
