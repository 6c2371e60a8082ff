"""What a Q-Former's parts are worth: number of queries, stage 1, each of its losses, a new one in stage 2.

    python tools/qformer_trials.py [ARM ...]

Each arm reads scenes of one or two objects: stage 1 with their short captions, then stage 2 before a frozen
language model with three kinds of questions. Recorded are retrieval after stage 1, and right answers about
new scenes over the steps of stage 2: means of three seeds, and where each ended. Arms called "seen" have the
language model of nano-vlm, which once read images; "crowded" ones also scenes of three and four objects. A
seed takes about half a minute of one core; arms that were not run again stay. The card is
assets/checkpoints/nano-queries.json, which notebook 11 reads.
"""

import json
import platform
import sys
import time
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from vlmcourse.data.assets import assets_folder
from vlmcourse.data.text import IMAGE, load_tokenizer
from vlmcourse.evaluation.retrieval import recall_at_k
from vlmcourse.families import nano, preparing
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip2 import Blip2, Blip2Config
from vlmcourse.models.qformer import Matcher, MatcherConfig, QFormerConfig
from vlmcourse.speak import Speaker, blinded
from vlmcourse.training.matching import KINDS_OF_LOSS, learn_to_match, matching_loss
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear
from vlmcourse.world import captions, questions, scenes
from vlmcourse.world.render import render

ASKED = ("colour", "shape", "position")
SETTING = dict(scenes=3000, new_scenes=300, objects=(1, 2), kinds=ASKED, width=64, depth=2,
               steps=(100, 120), size=(32, 16), every=40, rates=(0.02, 2e-3), seeds=3)  # fmt: skip
CROWD = (1, 4)


@dataclass(frozen=True)
class Arm:
    """What an arm does otherwise than the others."""

    queries: int = 16
    losses: tuple[str, ...] = KINDS_OF_LOSS  # of stage 1; none: no stage 1, a new Q-Former
    frozen: bool = False  # whether the linear layer learns alone in stage 2
    words: str = "nano-chat"  # whose language model answers
    objects: tuple[int, int] = SETTING["objects"]
    seed: int = 0


ARMS = {f"{count} queries": Arm(count) for count in (1, 4, 8, 16, 64)}
ARMS |= {
    f"without {loss}": Arm(losses=tuple(k for k in KINDS_OF_LOSS if k != loss)) for loss in KINDS_OF_LOSS
}
ARMS |= {f"crowded, {count} queries": Arm(count, words="nano-vlm", objects=CROWD) for count in (1, 4, 16, 64)}
ARMS |= {"seen": Arm(words="nano-vlm"), "seen and frozen": Arm(words="nano-vlm", frozen=True)}
ARMS |= {"new": Arm(losses=()), "frozen": Arm(frozen=True), "new and frozen": Arm(losses=(), frozen=True)}


def lessons(batch: scenes.Scenes) -> list[list[tuple[str, str]]]:
    """For each scene a question of every kind that it allows, with its answer."""
    asked = zip(*[questions.ask(batch, kind) for kind in ASKED], strict=True)
    return [[(each.text, each.answer) for each in row if each] for row in asked]


def answerable(split: str, count: int, objects: tuple[int, int]) -> scenes.Scenes:
    """Scenes of which at least one question can be asked."""
    batch = scenes.sample(split, count, objects=objects)
    return batch[[number for number, row in enumerate(lessons(batch)) if row]]


def optimized(model: torch.nn.Module, steps: int) -> dict:
    return dict(optimizer=MuonAdamW(model, *SETTING["rates"]), schedule=warmup_linear(steps, warmup=20))


class Bench:
    """Scenes, their captions, and what the frozen eye says of them; the same for all arms."""

    def __init__(self, objects: tuple[int, int]):
        self.vlm = nano.load_vlm()[0]
        self.words = {"nano-vlm": self.vlm.language, "nano-chat": preparing.load_prepared("nano-chat")[0]}
        self.known = answerable("train", SETTING["scenes"], objects)
        self.new = answerable("validation", SETTING["new_scenes"], objects)
        model = self.matcher(Arm())
        self.seen, self.new_seen = (Speaker(model).features(render(b)) for b in (self.known, self.new))

    def config(self, arm: Arm) -> QFormerConfig:
        text = BertConfig(1024, SETTING["width"], SETTING["depth"], 4, positions=64, segments=0)
        return QFormerConfig(text, self.vlm.config.vision.width, arm.queries)

    def matcher(self, arm: Arm) -> Matcher:
        torch.manual_seed(arm.seed)
        model = Matcher(MatcherConfig(self.vlm.config.vision, self.config(arm), shared=64))
        model.vision.load_state_dict(self.vlm.vision.state_dict())
        model.vision.requires_grad_(False)
        return model

    @cache  # noqa: B019 - one bench lives as long as the script
    def stage_1(self, arm: Arm) -> tuple[Matcher, dict[str, float]]:
        """A Q-Former that met texts, and how often the right text and image are found first."""
        model, (steps, size) = self.matcher(arm), (SETTING["steps"][0], SETTING["size"][0])
        texts = load_tokenizer().encode(captions.captions(self.known, "short"), bos=True)
        loss = partial(matching_loss, kinds=arm.losses)
        options = dict(seed=arm.seed, loss=loss) | optimized(model, steps)
        learn_to_match(model, self.seen, texts, steps=steps, size=size, **options)
        return model.eval(), self.found(model)

    @torch.no_grad()
    def found(self, model: Matcher) -> dict[str, float]:
        """Retrieval among the new scenes; of equal captions each is right."""
        said = captions.captions(self.new, "short")
        ids, mask = load_tokenizer().encode(said, bos=True)
        alike = model.alike(model.image_vectors(self.new_seen), model.text_vectors(ids, mask))
        right = torch.tensor([[one == other for other in said] for one in said])
        return {"text found first": round(recall_at_k(alike, right, 1), 4),
                "image found first": round(recall_at_k(alike.T, right, 1), 4)}  # fmt: skip

    def stage_2(self, arm: Arm, matcher: Matcher | None) -> dict:
        """Right answers over the steps of stage 2, and those about empty pictures in the end."""
        torch.manual_seed(arm.seed)
        words, qformer = self.words[arm.words], replace(self.config(arm), reads=False)
        model = Blip2(Blip2Config(self.vlm.config.vision, qformer, words.config, IMAGE))
        model.vision.load_state_dict(self.vlm.vision.state_dict())
        model.language.load_state_dict(words.state_dict())
        if matcher is not None:
            known = matcher.qformer.state_dict()
            model.qformer.load_state_dict({name: known[name] for name in model.qformer.state_dict()})
        model.requires_grad_(False)
        model.projector.requires_grad_(True)
        model.qformer.requires_grad_(not arm.frozen)
        return self.tuned(model, arm.seed)

    def tuned(self, model: Blip2, seed: int) -> dict:
        speaker, steps = Speaker(model), SETTING["steps"][1]
        rows, new_rows = speaker.encode(lessons(self.known)), speaker.encode(lessons(self.new))

        def right(seen: Tensor) -> float:
            model.eval()
            share = speaker.grade(seen, new_rows).float().mean().item()
            model.train()
            return round(share, 4)

        curve = [[0, right(self.new_seen)]]

        def watch(step: int, **numbers: float) -> None:
            if step % SETTING["every"] == 0:
                curve.append([step, right(self.new_seen)])

        options = dict(seed=seed, loss=nano.by_length, watch=watch)
        size = SETTING["size"][1]
        speaker.tune(self.seen, rows, steps=steps, size=size, **options, **optimized(model, steps))
        empty = speaker.features(blinded(render(self.new)))
        return {"right": curve, "right blind": right(empty), "questions": int(new_rows.packs.amax(1).sum())}

    def run(self, arm: Arm) -> dict:
        """Both stages of an arm, and the CPU seconds of each."""
        start, matcher, numbers = time.process_time(), None, {}
        if arm.losses:
            matcher, numbers = self.stage_1(replace(arm, frozen=False, words="nano-chat"))
        numbers = numbers | self.stage_2(arm, matcher)
        return numbers | {"seconds": round(time.process_time() - start)}


def mean_of(runs: list[dict]) -> dict:
    """The means of an arm's seeds, and where each of them ended."""
    mean = {name: round(sum(run[name] for run in runs) / len(runs), 4) for name in runs[0] if name != "right"}
    curves = zip(*(run["right"] for run in runs), strict=True)
    right = [[points[0][0], round(sum(share for _, share in points) / len(runs), 4)] for points in curves]
    return mean | {"right": right, "ends": [run["right"][-1][1] for run in runs]}


if __name__ == "__main__":
    bench_of, card = cache(Bench), assets_folder() / "checkpoints" / "nano-queries.json"
    done = json.loads(card.read_text())["arms"] if card.is_file() else {}
    for chosen in sys.argv[1:] or ARMS:
        arm = ARMS[chosen]
        seeds = range(SETTING["seeds"])
        done[chosen] = mean_of([bench_of(arm.objects).run(replace(arm, seed=seed)) for seed in seeds])
        print(chosen, done[chosen], flush=True)
        hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
        head = dict(command="python tools/qformer_trials.py", setting=SETTING, hardware=hardware)
        in_order = {name: done[name] for name in ARMS if name in done}
        card.write_text(json.dumps(head | dict(arms=in_order), indent=1) + "\n")
