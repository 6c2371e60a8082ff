"""Learning from rewards: a model answers its own questions, and what was true becomes likelier (notebook 20).

Drill           questions about images with their true answers, as a model reads them
drill_of_twins  questions that who does not look gets right half the time
drill_of_contrasts  and who looks, but not at what is asked about
hard_questions  those of them that a model answers sometimes right and sometimes wrong
sample_answers  several answers to each question, drawn by chance
sample_draws    the same chance for each question whoever else is asked
Rollouts        groups of answers with advantages, drawn from the model as it is by then
reinforce       GRPO with the one training loop
group_loss      what it makes small
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vlmcourse.data.branches import Branches, branch
from vlmcourse.data.chat import IGNORED
from vlmcourse.evaluation.answers import asked_of, asked_of_contrasts, asked_of_twins, chances_of_features
from vlmcourse.evaluation.rewards import truth_reward
from vlmcourse.models.attention import Cache
from vlmcourse.models.generation import write
from vlmcourse.models.language import next_scores
from vlmcourse.speak import Features, Speaker
from vlmcourse.training.history import History
from vlmcourse.training.loop import train
from vlmcourse.training.policy import group_advantages, policy_loss
from vlmcourse.training.preferences import entropies, token_log_probabilities
from vlmcourse.world import chance, scenes
from vlmcourse.world.render import render

Reward = Callable[[str, str, str], float]  # (reply, true answer, question) -> how good


class Drill(NamedTuple):
    """Questions about images, each with its true answer."""

    features: Features  # of the images, see Speaker.features
    image: list[int]  # of each question
    questions: list[str]
    answers: list[str]

    def pick(self, numbers: Sequence[int]) -> "Drill":
        """Some of the questions; the images stay."""
        parts = ([column[n] for n in numbers] for column in self[1:])
        return Drill(self.features, *parts)


def drill_about(speaker: Speaker, batch: scenes.Scenes, kinds: Sequence[str], seed: int = 0) -> Drill:
    """A question of each kind about each scene that allows it."""
    features = speaker.features(render(batch))
    place = {key: number for number, key in enumerate(batch.key.tolist())}
    image, texts, answers = [], [], []
    for kind in kinds:
        some, asked = asked_of(batch, kind, seed)
        image += [place[key] for key in some.key.tolist()]
        texts += [one.text for one in asked]
        answers += [one.answer for one in asked]
    return Drill(features, image, texts, answers)


def drill_of_twins(speaker: Speaker, batch: scenes.Scenes, kinds: Sequence[str], seed: int = 0) -> Drill:
    """A question of each kind about each scene that allows it, and the same about a twin of the scene.

    The true answers of the two differ. So whoever does not look earns half of what there is to earn at most,
    and a habit, such as "no" to "have the same colour?", earns no more than its opposite.
    """
    parts = []
    for kind in kinds:
        shown, asked = asked_of_twins(batch, kind, seed)
        texts, answers = [one.text for one in asked], [one.answer for one in asked]
        parts.append(Drill(speaker.features(render(shown)), [*range(len(asked))], texts, answers))
    return join_drills(parts)


def drill_of_contrasts(speaker: Speaker, batch: scenes.Scenes, kinds: Sequence[str], seed: int = 0) -> Drill:
    """Two questions of each kind about pictures that allow it; the true answers differ.

    First come all pictures with one of the questions, then the same pictures with the other: what a picture
    is like as a whole, such as how many colours it has, earns half, too. See answers.asked_of_contrasts.
    """
    parts = []
    for kind in kinds:
        shown, *both = asked_of_contrasts(batch, kind, seed)
        asked = [one for questions in both for one in questions]
        texts, answers = [one.text for one in asked], [one.answer for one in asked]
        image = [*range(len(shown))] * 2
        parts.append(Drill(speaker.features(render(shown)), image, texts, answers))
    return join_drills(parts)


def join_drills(drills: Sequence[Drill]) -> Drill:
    """The questions of several drills, one after another."""
    image, behind = [], 0
    for drill in drills:
        image += [behind + number for number in drill.image]
        behind += len(drill.features)
    features = torch.cat([drill.features for drill in drills])
    questions = [text for drill in drills for text in drill.questions]
    return Drill(features, image, questions, [text for drill in drills for text in drill.answers])


@torch.no_grad()
def chances_of_truth(speaker: Speaker, drill: Drill) -> Float[Tensor, "question"]:
    """How likely a model gives the true answer to each question, drawn by chance at temperature 1."""
    order = np.argsort(drill.image, kind="stable").tolist()
    about: dict[int, list[tuple[str, str]]] = {}  # image: its questions with their answers
    for number in order:
        about.setdefault(drill.image[number], []).append((drill.questions[number], drill.answers[number]))
    rows = speaker.encode([*about.values()])
    chances = torch.empty(len(order))
    chances[order] = chances_of_features(speaker, drill.features[[*about]], rows, len(order))
    return chances


def hard_questions(speaker: Speaker, drill: Drill, least: float = 0.02, most: float = 0.98) -> Drill:
    """The questions that a model answers sometimes right and sometimes wrong.

    Where all answers of a group earn the same, nothing is learned; drawing them would be wasted work.

    Args:
        least, most: chance of the true answer.

    Source: dynamic sampling, Yu et al. 2025 (DAPO), arXiv:2503.14476, section 3.2.
    """
    chances = chances_of_truth(speaker, drill)
    return drill.pick(((chances > least) & (chances < most)).nonzero()[:, 0].tolist())


@torch.no_grad()
def sample_answers(
    speaker: Speaker,
    features: Features,
    instructions: Sequence[str],
    samples: int = 8,
    steps: int = 8,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    draws: Float[Tensor, "question sample step"] | None = None,
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Several answers to each question, by chance; image and question are read once for all of them.

    Args:
        features: of the image of each question.
        steps: tokens at most; an answer that does not end by then has no end.
        generator: of the chance by which all of them are drawn; with draws it is not asked.
        draws: numbers from 0 to 1 that decide each token instead, see sample_draws.

    Returns:
        (prompts, answers): token ids of each question with its image; and of its answers, each with its end.
    """
    model, words = speaker.model, speaker.words
    here = device_of(model)
    ids, mask = (part.to(here) for part in words.prompts(instructions, model.tokens_per_image))
    image_tokens = model.connect(features.to(here).float())
    reader, prompt = model.language, model.embed(ids, features=image_tokens)
    caches = [Cache() for _ in reader.blocks]
    copies = torch.arange(len(ids)).repeat_interleave(samples).tolist()

    def read(unread: Tensor, real: Tensor) -> Tensor:
        if caches[0].length:
            return next_scores(reader, unread, real, caches)
        scores = next_scores(reader, prompt, mask, caches)  # one reading for all samples of a question
        for cache in caches:
            cache.select(copies)
        return scores[copies]

    # a number for each sample, step by step
    columns = None if draws is None else iter(draws.flatten(0, 1).T.contiguous())

    def choose(scores: Tensor) -> Tensor:
        chances = (scores.float() / temperature).softmax(dim=-1).cpu()  # the dice lie on the CPU
        if columns is None:
            return torch.multinomial(chances, 1, generator=generator).to(here)
        sums = chances.double().cumsum(dim=-1)
        return torch.searchsorted(sums / sums[:, -1:], next(columns)[:, None], right=True).to(here)

    written = torch.cat(write(read, ids[copies], mask[copies], steps, choose, words.end, words.pad), dim=1)
    prompts = [row[real].tolist() for row, real in zip(ids, mask, strict=True)]
    answers = [upto(row, words.end) for row in written.tolist()]
    groups = [answers[start : start + samples] for start in range(0, len(answers), samples)]
    return prompts, groups


def sample_draws(
    numbers: Sequence[int], samples: int, steps: int, seed: int
) -> Float[Tensor, "question sample step"]:
    """Numbers from 0 to 1 that decide the tokens of answers, for each question its own.

    So several processes that share the questions draw what one would.

    Args:
        numbers: of the questions.
    """
    keys = chance.derive(chance.mix(np.asarray(numbers, dtype=np.uint64)), "samples", seed)
    drawn = chance.uniform(keys, samples * steps).reshape(len(keys), samples, steps)
    return torch.from_numpy(drawn)


def device_of(model: nn.Module) -> torch.device:
    """Where a model is; while it is trained that may be a GPU."""
    return next(model.parameters()).device


def upto(row: Sequence[int], end: int) -> list[int]:
    """A row of written tokens up to its end, which stays."""
    return list(row[: row.index(end) + 1] if end in row else row)


class Groups(NamedTuple):
    """Answers to some questions, what they earned, and how likely they were when they were drawn."""

    features: Features  # of the image of each question
    rows: Branches
    advantages: Float[Tensor, "question answer"]
    before: Float[Tensor, "question answer token"] | None  # None: one step is taken with them, so as then
    reference: Float[Tensor, "question answer token"]
    rewards: Float[Tensor, "question answer"]

    @property
    def mask(self) -> Bool[Tensor, "question answer token"]:
        return self.rows.labels[..., 1:] != IGNORED


def branch_scores(
    speaker: Speaker, features: Features, rows: Branches
) -> Float[Tensor, "question answer place vocabulary"]:
    """Scores at every place of the answers."""
    model = speaker.model
    hidden = model.hidden_of_packs(rows.ids, rows.packs, model.connect(features.float()))
    return model.head(rows.read(hidden))


@dataclass
class Rollouts:
    """Groups of answers, drawn anew from the model as it is by then; an iterable for training.loop.train.

    Args:
        speaker: whose model learns.
        drill: what is asked.
        reward: of (reply, true answer, question).
        samples: answers to each question.
        size: questions at a time.
        repeats: steps taken with the same answers; from the second on they are a little out of date, and
            the clip of policy_loss begins to matter. With 1 how likely they were is not computed apart.
        steps: tokens of an answer at most, as of sample_answers.
        advantages: what learns from rewards; group_advantages, or what somebody wrote in its place.
        reference: the model that must not be left far behind; None for a copy of this one.
    """

    speaker: Speaker
    drill: Drill
    reward: Reward = lambda reply, answer, question: truth_reward(reply, answer)
    samples: int = 8
    size: int = 32
    repeats: int = 2
    temperature: float = 1.0
    steps: int = 8
    seed: int = 0
    advantages: Callable[[Tensor], Tensor] = group_advantages
    reference: nn.Module | None = None

    def __post_init__(self):
        kept = deepcopy(self.speaker.model) if self.reference is None else self.reference
        self.reference = kept.eval().requires_grad_(False)
        self.chance, self.epoch = torch.Generator().manual_seed(self.seed), 0

    def __iter__(self) -> Iterator[Groups]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.drill.image))
        self.epoch += 1
        for start in range(0, len(order) - self.size + 1, self.size):
            groups = self.draw(order[start : start + self.size].tolist())
            yield from [groups] * self.repeats

    @torch.no_grad()
    def draw(
        self, numbers: Sequence[int], draws: Float[Tensor, "question sample step"] | None = None
    ) -> Groups:
        """Answers to these questions, and what they earn.

        Args:
            draws: see sample_answers.
        """
        asked, speaker, here = self.drill.pick(numbers), self.speaker, device_of(self.speaker.model)
        features = asked.features[asked.image].to(here)
        prompts, answers = sample_answers(
            speaker,
            features,
            asked.questions,
            self.samples,
            self.steps,
            self.temperature,
            generator=self.chance,
            draws=draws,
        )
        rows = Branches(*(column.to(here) for column in branch(prompts, answers, speaker.words.pad)))
        rewards = []
        for question, truth, group in zip(asked.questions, asked.answers, answers, strict=True):
            rewards.append([self.reward(text, truth, question) for text in speaker.words.spell(group)])
        earned = torch.tensor(rewards, device=here)
        before = None
        if self.repeats > 1:
            before = token_log_probabilities(branch_scores(speaker, features, rows), rows.labels)
        frozen = Speaker(self.reference.to(here), speaker.words)
        reference = token_log_probabilities(branch_scores(frozen, features, rows), rows.labels)
        return Groups(features, rows, self.advantages(earned), before, reference, earned)


def reinforce(
    rollouts: Rollouts, steps: int, clip: float = 0.2, beta: float = 0.04, **options: Any
) -> History:
    """GRPO: what earned more than its group becomes likelier. The history has reward, entropy and divergence.

    Args:
        beta: weight of the divergence from the model as it was at the start.
        options: further arguments of training.loop.train.
    """
    speaker = rollouts.speaker

    def loss_of(model: nn.Module, groups: Groups) -> tuple[Tensor, dict[str, Tensor]]:
        return group_loss(speaker, groups, clip, beta)

    history = train(speaker.model, rollouts, loss_of, steps=steps, **options)
    speaker.model.cpu().eval()
    return history


def group_loss(
    speaker: Speaker, groups: Groups, clip: float, beta: float
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The policy loss of groups of answers, and reward, entropy, share of mixed groups and divergence."""
    rows, mask = groups.rows, groups.mask
    scores = branch_scores(speaker, groups.features, rows)
    now = token_log_probabilities(scores, rows.labels)
    before = now.detach() if groups.before is None else groups.before
    columns = now, before, groups.reference, groups.advantages, mask
    loss = policy_loss(*(column.flatten(0, 1) for column in columns), clip, beta)
    back = (groups.reference - now.detach())[mask]
    with torch.no_grad():
        spread = entropies(scores[..., :-1, :])[mask].mean()
    mixed = (groups.rewards.amax(dim=1) > groups.rewards.amin(dim=1)).float().mean()
    metrics = dict(reward=groups.rewards.mean(), entropy=spread, mixed=mixed)
    return loss, metrics | dict(divergence=(back.exp() - back - 1).mean())
