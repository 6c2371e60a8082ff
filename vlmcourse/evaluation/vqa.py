"""Is a short answer right? VQA accuracy with its ten people, and ANLS for words read off (notebook 13).

    normalise_answer    "The two, maybe" -> "2 maybe": strip_punctuation, then standardise_words
    vqa_accuracy        agreement with ten people, leaving out one after the other
    anls                1 - edit distance, for answers that are copied letter by letter; 0 from half on

The rules of the benchmark are odd in places and kept as they are, since a score is only worth something
beside those of others: each oddity is named where it stands.
"""

import re
from collections.abc import Sequence

from vlmcourse.slots import slot

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # neither colon nor apostrophe; the period has a rule of its own
ARTICLES = ("a", "an", "the")
NUMBER_WORDS = dict(none="0", zero="0", one="1", two="2", three="3", four="4", five="5", six="6")
NUMBER_WORDS |= dict(seven="7", eight="8", nine="9", ten="10")
ENOUGH = 3  # people that must agree with an answer to make it fully right
FAR = 0.5  # ANLS: from this normalised distance on an answer counts nothing

_CONTRACTED = """
    'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
    hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
    might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've there're
    there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""


def _contractions() -> dict[str, str]:
    """Each contraction by how it looks when one of its apostrophes was forgotten: "dont" -> "don't"."""
    table = {"somebody'd": "somebodyd"}  # the official table has this one the wrong way round
    for right in _CONTRACTED.split():
        for place, letter in enumerate(right):
            if letter == "'":
                table[right[:place] + right[place + 1 :]] = right
    return table


CONTRACTIONS = _contractions()


@slot
def strip_punctuation(text: str) -> str:
    """Take PUNCTUATION out of an answer, and periods that stand before no digit.

    A mark becomes a space, so that "red/blue" is two words. It goes without a space if anywhere in the text
    it stands beside one ("wait - what"), or if the text has a comma between two digits ("1,000"): then all
    marks go without a space. All this is decided by the text as it was given.

    Odd, and kept: ".5" and "1.5" keep their period, as does "v.2"; "3." and "U.S." lose theirs; only the
    first 32 periods go.

    Source: evaluation code of Antol et al. 2015 (VQA), arXiv:1505.00468; 32 is the value of the flag
        re.UNICODE, which stands where the number of replacements belongs.
    """
    has_number_comma = re.search(r"\d,\d", text) is not None
    stripped = text
    for mark in PUNCTUATION:
        beside_a_space = f"{mark} " in text or f" {mark}" in text
        stripped = stripped.replace(mark, "" if beside_a_space or has_number_comma else " ")
    return re.sub(r"\.(?!\d)", "", stripped, count=32)


@slot
def standardise_words(text: str) -> str:
    """Lower case, NUMBER_WORDS as digits, no ARTICLES, and CONTRACTIONS with their apostrophe.

    Spaces of any kind and number become one. Words are those between spaces, so "twenty one" becomes
    "twenty 1". Odd, and kept: "none" is the number 0, "A" as a letter read off a sign is an article, and
    "im" stays "im", because the official table knows it only with a capital, after lowering.

    Source: evaluation code of Antol et al. 2015 (VQA), arXiv:1505.00468.
    """
    words = []
    for word in text.lower().split():
        word = NUMBER_WORDS.get(word, word)
        if word not in ARTICLES:
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


def normalise_answer(text: str) -> str:
    """An answer as VQA compares it; nothing may be left of it, as of "the"."""
    return standardise_words(strip_punctuation(_one_line(text)))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@slot
def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """How far an answer agrees with people's: min(1, others who said it / 3), leaving out each of them once.

    Leaving out one of ten and taking the mean makes 0, 0.3, 0.6, 0.9 or 1 of 0, 1, 2, 3 or more that agree:
    three of ten are not enough for 1, since each of the three misses himself. People disagree with people by
    the same rule, so a model can be compared with them.

    Odd, and kept: if all people gave one answer, texts are compared as they stand, so "Yes" is not "yes";
    else everything is normalised first, see normalise_answer.

    Args:
        people: what (usually ten) people answered to the same question.

    Raises:
        ValueError: if there are fewer than four people: no answer could be fully right.

    Source: Antol et al. 2015 (VQA), arXiv:1505.00468, section 3; leaving one out as in the evaluation code.
    """
    if len(people) <= ENOUGH:
        raise ValueError(f"{len(people)} people answered, and {ENOUGH} besides the one left out must agree")
    answer, people = _one_line(answer), [_one_line(person) for person in people]
    if len(set(people)) > 1:
        answer, people = normalise_answer(answer), [normalise_answer(person) for person in people]
    scores = []
    for left_out in range(len(people)):
        others = people[:left_out] + people[left_out + 1 :]
        scores.append(min(1, others.count(answer) / ENOUGH))
    return sum(scores) / len(scores)


@slot
def edit_distance(first: str, second: str) -> int:
    """The fewest letters to insert, delete or exchange that turn one text into the other.

    Source: Levenshtein 1966; row by row, so that two rows of the table are enough.
    """
    above = list(range(len(second) + 1))  # from no letter of the first text
    for number, letter in enumerate(first, start=1):
        row = [number]
        for column, other in enumerate(second):
            exchanged = above[column] + (letter != other)
            row.append(min(exchanged, above[column + 1] + 1, row[column] + 1))
        above = row
    return above[-1]


@slot
def anls(answer: str, accepted: Sequence[str]) -> float:
    """Similarity of letters to the nearest accepted answer, 0…1; the mean over questions is ANLS.

    The distance is edit_distance / length of the longer text; the similarity is 1 - distance, or 0 from a
    distance of FAR on, where the answer is another one and not the same misread. Capitals do not matter, nor
    does how many spaces stand where there is one.

    Raises:
        ValueError: if no answer is accepted.

    Source: average normalised Levenshtein similarity, Biten et al. 2019 (ST-VQA), arXiv:1905.13648; in
        lower case as in DocVQA, Mathew et al. 2020, arXiv:2007.00398.
    """
    if not accepted:
        raise ValueError("no answer is accepted; give at least one")
    answer = " ".join(answer.lower().split())
    similarities = []
    for right in accepted:
        right = " ".join(right.lower().split())
        distance = edit_distance(answer, right) / max(len(answer), len(right), 1)
        similarities.append(1 - distance if distance < FAR else 0.0)
    return max(similarities)
