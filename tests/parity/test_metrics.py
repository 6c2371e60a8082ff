"""Our metrics give the numbers of well-known packages, on odd texts too: empty, repeated, foreign."""

import importlib.util
import itertools
import random
import re
from importlib.metadata import distribution

import numpy as np
import pytest
import sacrebleu
import torch
import torchvision
from anls import anls_score
from anls.metrics.dist import levenshtein_distance
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support
from sklearn.metrics.pairwise import cosine_similarity

from vlmcourse.evaluation import boxes, captioning, hallucination, intervals, vqa

WORDS = (
    "a the red blue circle square of left two none dont im he's 1,000 3.5 .5 U.S. t-shirt straße 青い 猫 é x"
)
MARKS = [*vqa.PUNCTUATION, ".", "..", "'", ":", "\n", "\t", "  ", "\u00a0", "", "7", "1,2"]


def odd_text(dice: random.Random, most: int = 9) -> str:
    """Words and marks in any order, with and without spaces between them."""
    pieces = dice.choices(WORDS.split() + MARKS, k=dice.randrange(most))
    return "".join(piece + dice.choice(["", " ", " "]) for piece in pieces)


@pytest.fixture(scope="module")
def official():
    """VQA's normalisation in lmms-eval, read from its file: the package would import all its models."""
    path = distribution("lmms-eval").locate_file("lmms_eval/tasks/_task_utils/vqa_eval_metric.py")
    spec = importlib.util.spec_from_file_location("vqa_eval_metric", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EvalAIAnswerProcessor()


def test_answers_are_normalised_as_vqa_does(official):
    dice, changed = random.Random(0), 0
    for _ in range(10_000):
        text = odd_text(dice)
        if re.search(r"\d,,+\d", text):
            continue  # there lmms-eval sees a number with a comma, and VQA's own code does not
        tidy = text.replace("\n", " ").replace("\t", " ").strip()
        right = official.process_punctuation(tidy)
        assert vqa.strip_punctuation(tidy) == right
        assert vqa.normalise_answer(text) == official.process_digit_article(right)
        changed += right != tidy
    assert changed > 5000
    for text in (".", "." * 40, ". " * 40, "a.b" * 40, "1.2." * 40):
        assert vqa.strip_punctuation(text) == official.process_punctuation(text)


def test_words_are_standardised_as_vqa_does(official):
    for text in [*official.CONTRACTIONS, *official.NUMBER_MAP, *official.ARTICLES, "Im Id've AN", ""]:
        assert vqa.standardise_words(text) == official.process_digit_article(text)
    reachable = {wrong: right for wrong, right in official.CONTRACTIONS.items() if wrong == wrong.lower()}
    assert {wrong: right for wrong, right in reachable.items() if wrong != right} == vqa.CONTRACTIONS


def odd_corpus(seed: int) -> tuple[list[str], list[list[str]]]:
    """Captions of a few words, so that they overlap, and one to four references for each."""
    dice = random.Random(seed)
    words = dice.sample(WORDS.split(), 6)

    def sentence() -> str:
        return odd_text(dice) if dice.random() < 0.2 else " ".join(dice.choices(words, k=dice.randrange(13)))

    references = [[sentence() for _ in range(dice.randint(1, 4))] for _ in range(dice.randint(1, 7))]
    return [dice.choice([sentence(), dice.choice(several)]) for several in references], references


def in_tokens(text: str) -> str:
    return " ".join(captioning.plain_words(text))


def in_cocos_form(candidates: list[str], references: list[list[str]]) -> tuple[dict, dict]:
    several = {n: [in_tokens(text) for text in texts] for n, texts in enumerate(references)}
    return several, {n: [in_tokens(text)] for n, text in enumerate(candidates)}


@pytest.mark.parametrize("seeds", [range(0, 400), range(400, 800)], ids=str)
def test_bleu_is_that_of_coco(seeds):
    for seed in seeds:
        corpus = odd_corpus(seed)
        theirs, _ = Bleu().compute_score(*in_cocos_form(*corpus), verbose=0)
        assert captioning.bleu(*corpus) == pytest.approx(theirs, rel=1e-9, abs=1e-15), seed


def test_bleu_is_sacrebleus_wherever_every_length_of_runs_has_a_match():
    compared = 0
    for seed in range(400):
        candidates, references = odd_corpus(seed)
        most = max(map(len, references))
        columns = [[in_tokens(r[n]) if n < len(r) else None for r in references] for n in range(most)]
        theirs = sacrebleu.corpus_bleu(
            [in_tokens(text) for text in candidates],
            columns,
            smooth_method="none",
            tokenize="none",
            use_effective_order=False,
        )
        if min(theirs.counts) > 0:
            assert captioning.bleu(candidates, references)[3] == pytest.approx(theirs.score / 100, rel=1e-7)
            compared += 1
    assert compared > 100


@pytest.mark.parametrize("seeds", [range(0, 300), range(300, 600)], ids=str)
def test_cider_d_is_what_coco_calls_cider(seeds):
    for seed in seeds:
        corpus = odd_corpus(seed)
        if any(
            in_tokens(text) for several in corpus[1] for text in several
        ):  # theirs fails on no words at all
            theirs = Cider().compute_score(*in_cocos_form(*corpus))[1]
            assert captioning.cider_d(*corpus) == pytest.approx(theirs, rel=1e-9, abs=1e-9), seed


def count_matrix(texts: list[str], n: int, vocabulary: dict) -> np.ndarray:
    """How often each n-gram (column) stands in each text (row)."""
    rows = np.zeros((len(texts), 1 + len(vocabulary)))  # the last column keeps the matrix from being empty
    for row, text in zip(rows, texts, strict=True):
        words = in_tokens(text).split()
        for ngram in zip(*(words[start:] for start in range(n)), strict=False):
            row[vocabulary[ngram]] += 1
    return rows


def all_ngrams(texts: list[str], n: int) -> dict:
    numbers: dict = {}
    for words in (in_tokens(text).split() for text in texts):
        for ngram in zip(*(words[start:] for start in range(n)), strict=False):
            numbers.setdefault(ngram, len(numbers))
    return numbers


def test_cider_is_a_mean_cosine_of_tf_idf():
    for seed in range(150):
        candidates, references = odd_corpus(seed)
        totals = np.zeros(len(candidates))
        for n in range(1, 5):
            vocabulary = all_ngrams([*candidates, *itertools.chain(*references)], n)
            several = [count_matrix(texts, n, vocabulary) for texts in references]
            images = np.sum([(counts > 0).any(axis=0) for counts in several], axis=0)
            idf = np.log(len(references) / np.maximum(images, 1))
            own = count_matrix(candidates, n, vocabulary)
            for image, counts in enumerate(several):
                totals[image] += cosine_similarity(own[[image]] * idf, counts * idf).mean() / 4 * 10
        assert captioning.cider(candidates, references) == pytest.approx(totals, abs=1e-9), seed


def test_anls_and_edit_distance_are_those_of_the_anls_package():
    dice = random.Random(1)
    partial = 0
    for _ in range(3000):
        answer = odd_text(dice, 5).replace(
            "ß", "ss"
        )  # the package measures lengths in capitals: ß is two there
        accepted = [odd_text(dice, 5).replace("ß", "ss") for _ in range(dice.randint(1, 3))]
        accepted += [answer[:3] + answer[4:]] * dice.randrange(2)
        assert vqa.edit_distance(answer, accepted[0]) == levenshtein_distance(answer, accepted[0])
        assert vqa.anls(answer, accepted) == pytest.approx(anls_score(answer, accepted), abs=1e-12)
        partial += 0 < vqa.anls(answer, accepted) < 1
    assert partial > 300


@pytest.mark.parametrize("dtype", [torch.long, torch.float, torch.double])
def test_iou_is_torchvisions(dtype):
    torch.manual_seed(0)
    first, second = (torch.randint(0, 40, (count, 4)).to(dtype) for count in (50, 70))
    for some in (first, second):
        some[:, 2:] += some[:, :2] + 1
    theirs = torchvision.ops.box_iou(first, second)
    assert (theirs > 0).float().mean() > 0.2
    torch.testing.assert_close(boxes.box_iou(first, second), theirs, check_dtype=False)


def test_pope_counts_as_scikit_learn():
    dice = random.Random(2)
    for _ in range(200):
        right = [dice.random() < 0.5 for _ in range(dice.randint(1, 12))]
        yes = [dice.random() < dice.choice([0, 0.3, 1]) for _ in right]
        theirs = precision_recall_fscore_support(
            right, yes, labels=[True], average="binary", pos_label=True, zero_division=0
        )
        scores = hallucination.pope_scores(yes, right)
        assert [scores[name] for name in ("precision", "recall", "f1")] == pytest.approx(theirs[:3])


def test_intervals_are_scipys():
    scores = np.random.default_rng(0).random(40)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=3000, method="percentile", rng=np.random.default_rng(1)
    )
    values = torch.tensor(theirs.bootstrap_distribution)
    ends = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert intervals.percentile_interval(values, 0.95) == pytest.approx(ends, abs=1e-12)
    ours = intervals.bootstrap_interval(scores)
    assert ours == pytest.approx((scores.mean(), *ends), abs=0.01)  # other draws
    assert ends[1] - ends[0] > 0.1


@pytest.mark.parametrize("questions", range(2, 11))
def test_exact_sign_flips_are_scipys(questions):
    dice = np.random.default_rng(questions)
    first, second = dice.integers(0, 4, (2, questions)) / 3  # many differences are equal, or 0
    theirs = stats.permutation_test(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert intervals.sign_flip_test(first, second) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_exact_mcnemar_is_the_binomial_test():
    for one, other in itertools.product(range(25), repeat=2):
        theirs = stats.binomtest(one, one + other).pvalue if one + other else 1.0
        assert intervals.mcnemar_exact(one, other) == pytest.approx(theirs)
    assert intervals.mcnemar_exact(900, 1100) == pytest.approx(stats.binomtest(900, 2000).pvalue)
