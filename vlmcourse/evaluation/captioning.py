"""Captions against what people wrote: BLEU counts shared words, CIDEr weighs them by how telling they are
(notebook 13).

    plain_words                              "A red circle." -> a, red, circle
    count_ngrams                             runs of n words
    clipped_matches, closest_length          what of a caption stands in a reference; the nearest length
    brevity_penalty, bleu                    precision of all captions, and that none was too short
    document_frequency, tf_idf               which n-grams tell pictures apart
    ngram_cosine, clipped_cosine             two captions as vectors of n-grams
    length_penalty, consensus                one caption against its references
    cider, cider_d                           all captions

Both compare words, not pictures: a paraphrase loses, a wrong colour hardly does.  Tokens are plain_words, not
those of the Penn Treebank tokenizer that published COCO scores use ("don't" is one word here, two there), so
compare scores of this module with each other.
"""

import math
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from vlmcourse.slots import slot

Ngram = tuple[str, ...]
Weights = Mapping[Ngram, float]
LONGEST_RUN = 4  # n-grams of 1 to 4 words
SMALL, TINY = 1e-9, 1e-15  # BLEU: added to what is divided by and to what is divided
SIGMA = 6.0  # CIDEr-D: words by which a caption may be longer or shorter before it matters


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation at their ends; "blue-green" is one."""
    words = [word.strip(string.punctuation) for word in text.lower().split()]
    return [word for word in words if word]


@slot
def count_ngrams(words: Sequence[str], n: int) -> Counter[Ngram]:
    """How often each run of n words occurs; none does in a text of fewer than n."""
    starts = range(len(words) - n + 1)
    return Counter(tuple(words[start : start + n]) for start in starts)


@slot
def clipped_matches(candidate: Sequence[str], references: Sequence[Sequence[str]], n: int) -> tuple[int, int]:
    """How many n-grams of a caption stand in a reference, and how many it has.

    An n-gram counts at most as often as in the reference that has it most often; "red red red" finds one red
    in "a red circle", not three.

    Source: Papineni et al. 2002 (BLEU), section 2.1.
    """
    counts = count_ngrams(candidate, n)
    most: Counter[Ngram] = Counter()
    for reference in references:
        most |= count_ngrams(reference, n)  # the larger of two counts
    matched = counts & most  # the smaller
    return matched.total(), counts.total()


@slot
def closest_length(length: int, references: Sequence[int]) -> int:
    """Of the lengths of the references the nearest; of two as near, the shorter.

    Source: Papineni et al. 2002 (BLEU), section 2.2.2.
    """
    return min(references, key=lambda reference: (abs(reference - length), reference))


@slot
def brevity_penalty(candidates: int, references: int) -> float:
    """1, or exp(1 - references / candidates) where the captions have fewer words than their references.

    Without it a caption of one sure word would be the best: precision does not notice what is left out.

    Args:
        candidates: words of all captions together.
        references: the closest_length of each, together. SMALL and TINY keep 0 / 0 from happening.

    Source: Papineni et al. 2002 (BLEU), section 2.2.
    """
    ratio = (candidates + TINY) / (references + SMALL)
    return math.exp(1 - 1 / ratio) if ratio < 1 else 1.0


@slot
def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of all captions together, 0…1.

    BLEU-n is the geometric mean of the precisions of 1- to n-grams, times the brevity_penalty. Counts and
    lengths are summed over all captions before they are divided: the mean of single BLEUs is another number.

    A precision is (matched + TINY) / (all + SMALL), so BLEU is never quite 0: without a run of four words in
    common BLEU-4 is below 2e-4, and where no caption has four words it is at most 0.03.

    Args:
        candidates: one caption per image.
        references: what people wrote about each image, at least one caption.

    Raises:
        ValueError: if there are no images, not one list of references for each, or one is empty.

    Source: Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation", section
        2.3; SMALL and TINY as in COCO's evaluation, Chen et al. 2015, arXiv:1504.00325.
    """
    candidates, references = _split(candidates, references)
    words = wanted = 0
    for candidate, several in zip(candidates, references, strict=True):
        words += len(candidate)
        wanted += closest_length(len(candidate), [len(reference) for reference in several])
    scores, product = [], 1.0
    for n in range(1, LONGEST_RUN + 1):
        matched = total = 0
        for candidate, several in zip(candidates, references, strict=True):
            found, there = clipped_matches(candidate, several, n)
            matched, total = matched + found, total + there
        product *= (matched + TINY) / (total + SMALL)
        scores.append(brevity_penalty(words, wanted) * product ** (1 / n))
    return scores


def _split(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list, list]:
    """Everything as words; refuses what does not fit together."""
    if not 0 < len(candidates) == len(references):
        raise ValueError(
            f"{len(candidates)} captions, references of {len(references)} images; give one caption for each"
        )
    split = []
    for image, several in enumerate(references):
        if isinstance(several, str) or not several:
            raise ValueError(f"image {image} has no list of references; give at least one caption in a list")
        split.append([plain_words(reference) for reference in several])
    return [plain_words(candidate) for candidate in candidates], split


@slot
def document_frequency(references: Sequence[Sequence[Sequence[str]]], n: int) -> Counter[Ngram]:
    """In the references of how many images each n-gram occurs; twice at one image counts once.

    Args:
        references: for each image the captions people wrote, each split into words.
    """
    images: Counter[Ngram] = Counter()
    for several in references:
        here = set()
        for reference in several:
            here |= set(count_ngrams(reference, n))
        images.update(here)
    return images


@slot
def tf_idf(counts: Mapping[Ngram, int], frequency: Mapping[Ngram, int], images: int) -> dict[Ngram, float]:
    """Weigh each n-gram: its count × log(images / images whose references have it).

    What stands at every image weighs 0: with one image, everything does. What no reference has counts as if
    one image had it.

    Args:
        frequency: see document_frequency.
        images: how many images there are.

    Source: Vedantam et al. 2015 (CIDEr), arXiv:1411.5726. The paper divides a count by the length
        of the caption, the authors' code does not; a cosine does not notice, clipping does.
    """
    weights = {}
    for ngram, count in counts.items():
        weights[ngram] = count * math.log(images / max(1, frequency.get(ngram, 0)))
    return weights


def _length(vector: Weights) -> float:
    return math.sqrt(sum(weight**2 for weight in vector.values()))


@slot
def ngram_cosine(candidate: Weights, reference: Weights) -> float:
    """The cosine of the angle between two captions as vectors of n-grams, 0…1; 0 if one of them is 0."""
    product = 0.0
    for ngram, weight in candidate.items():
        product += weight * reference.get(ngram, 0.0)
    lengths = _length(candidate) * _length(reference)
    return product / lengths if lengths else 0.0


@slot
def clipped_cosine(candidate: Weights, reference: Weights) -> float:
    """ngram_cosine, where an n-gram of the candidate weighs at most what it weighs in the reference.

    So repeating a telling word gains nothing in the product, and still makes the candidate's vector longer.

    Source: CIDEr-D, Vedantam et al. 2015, arXiv:1411.5726, section on gameability.
    """
    product = 0.0
    for ngram, weight in candidate.items():
        there = reference.get(ngram, 0.0)
        product += min(weight, there) * there
    lengths = _length(candidate) * _length(reference)
    return product / lengths if lengths else 0.0


@slot
def length_penalty(candidate: int, reference: int) -> float:
    """exp(-difference² / 2σ²) of two lengths in words, σ = SIGMA; a text of no words counts as one word.

    Source: CIDEr-D, Vedantam et al. 2015, arXiv:1411.5726, section on gameability; its code takes the number
        of pairs of neighbouring words for the length.
    """
    difference = max(candidate, 1) - max(reference, 1)
    return math.exp(-(difference**2) / (2 * SIGMA**2))


@slot
def consensus(
    candidate: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: Sequence[Mapping[Ngram, int]],
    images: int,
    clip: bool,
) -> float:
    """How much one caption is like its references, 0…10: CIDEr, or CIDEr-D with `clip`.

    Both are vectors of tf_idf, one for each n; the likeness is their ngram_cosine, with `clip` clipped_cosine
    × length_penalty. The mean over references and n, times 10.

    Args:
        candidate, references: split into words.
        frequencies: document_frequency for n = 1, 2, … of all images.
        images: how many images those are.

    Source: Vedantam et al. 2015, arXiv:1411.5726; both times 10, as in the authors' code.
    """
    total = 0.0
    for n, frequency in enumerate(frequencies, start=1):
        vector = tf_idf(count_ngrams(candidate, n), frequency, images)
        for reference in references:
            other = tf_idf(count_ngrams(reference, n), frequency, images)
            if clip:
                total += clipped_cosine(vector, other) * length_penalty(len(candidate), len(reference))
            else:
                total += ngram_cosine(vector, other)
    return 10 * total / (len(references) * len(frequencies))


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr of each caption, 0…10, see consensus; their mean is the score of the corpus.

    How telling an n-gram is follows from the references of all images, so a caption's score depends on which
    other images are measured with it; a single image scores 0. Words are not reduced to their stems, as they
    are in the paper.

    Args, Raises: as bleu.
    """
    return _consensus_of_all(candidates, references, clip=False)


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption, 0…10; this is what COCO's leaderboard and papers since call CIDEr.

    Args, Raises: as bleu; see cider.
    """
    return _consensus_of_all(candidates, references, clip=True)


def _consensus_of_all(
    candidates: Sequence[str], references: Sequence[Sequence[str]], clip: bool
) -> list[float]:
    candidates, references = _split(candidates, references)
    frequencies = [document_frequency(references, n) for n in range(1, LONGEST_RUN + 1)]
    pairs = zip(candidates, references, strict=True)
    return [consensus(*pair, frequencies, len(references), clip) for pair in pairs]
