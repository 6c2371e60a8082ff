"""Wrong answers as people write them, in their own words; each one's docstring says what is wrong with it."""

from collections.abc import Callable
from typing import NamedTuple


class Wrong(NamedTuple):
    """An answer to the exercise ``slot``, and words that the sentence about it must hold."""

    slot: str
    answer: Callable
    says: str | None  # None: only the difference is told


WRONG: list[Wrong] = []


def wrong(slot: str, says: str | None) -> Callable[[Callable], Callable]:
    """Add the decorated function to ``WRONG``."""

    def added(answer: Callable) -> Callable:
        WRONG.append(Wrong(slot, answer, says))
        return answer

    return added
