"""How well is a text read off a picture, letter by letter? (notebook 19)"""

from collections.abc import Sequence

from vlmcourse.evaluation.vqa import edit_distance
from vlmcourse.slots import slot


@slot
def character_error_rate(answers: Sequence[str], truths: Sequence[str]) -> float:
    """Letters to insert, delete or exchange, of all texts together, for each letter that there is to read.

    0 is without a mistake; a model that says nothing gets 1, and one that says too much more than that.
    Capitals do not count, nor how many spaces stand where there is one. Long texts weigh more than short
    ones.

    Raises:
        ValueError: if there is nothing to read, or not one answer for each text.

    Source: the word error rate of Morris et al. 2004, "From WER and RIL to MER and WIL", on letters; the
        distance is that of Levenshtein 1966, see vqa.edit_distance.
    """
    if len(answers) != len(truths):
        raise ValueError(f"{len(answers)} answers for {len(truths)} texts; give one for each")
    mistakes, letters = 0, 0
    for answer, truth in zip(answers, truths, strict=True):
        answer, truth = (" ".join(text.lower().split()) for text in (answer, truth))
        mistakes += edit_distance(answer, truth)
        letters += len(truth)
    if not letters:
        raise ValueError("there is no letter to read")
    return mistakes / letters
