"""BLIP's negatives and its filter, with three seeds each, for notebook 10.

    python tools/blip_trials.py [negatives] [capfilt] [relations]

negatives: from one start, ITC and ITM go on with hard or with random negatives; how often is a true caption
told from its twin? capfilt: a contrast learns from web captions of which 40 % belong to other images, from
what CapFilt leaves of them and of the captioner's, and from true captions; how often is the nearest of all
names that of a thing in the image? relations: ITM learns from captions and their twins, in which the things
changed places, in a new BLIP and in nano-blip, which answered questions before; how often is the true one
told? The card is assets/checkpoints/blip-trials.json.
"""

import copy
import json
import platform
import sys
import time
from dataclasses import replace

import torch

from vlmcourse.data.assets import assets_folder
from vlmcourse.families import clips, naming, relating
from vlmcourse.families.connectors import load_connected, new_model
from vlmcourse.families.naming import ALL_NAMES, NamedPairs, learn_names, new_blip, show_pairs
from vlmcourse.models.blip import Blip
from vlmcourse.recipes.book import RECIPES
from vlmcourse.training.capfilt import judge_captions, keep_captions
from vlmcourse.world.render import render

SEEDS = (0, 1, 2)
SETTING = {"images": 1500, "pairs": 48, "start": 90, "more": 60, "few pairs": 16, "tested": 400}
SETTING |= {"taught": 150, "web": 600, "noise": 0.4, "contrast": 80}
SETTING |= {"related": 4000, "related steps": 250}


def negatives() -> dict[str, list[float]]:
    """Twins of both kinds told by ITM, for each seed: at the start, and after equal steps from there."""
    rows, train, options = (
        {"start": [], "hard": [], "random": []},
        training(),
        dict(kinds=("contrast", "match")),
    )
    for seed in SEEDS:
        start = new_blip(seed=seed)
        learn_names(
            start, train, steps=SETTING["start"], size=SETTING["pairs"], hard=False, seed=seed, **options
        )
        rows["start"].append(told(start))
        for name in ("hard", "random"):
            model = copy.deepcopy(start)
            given = dict(steps=SETTING["more"], size=SETTING["few pairs"], seed=seed + 50)
            learn_names(model, train, hard=name == "hard", **given, **options)
            rows[name].append(told(model))
        print({name: seen[-1] for name, seen in rows.items()}, flush=True)
    return rows


def told(model: Blip) -> float:
    """Mean over both kinds of twins."""
    twins = [naming.trade_names(scenes_tested(), what) for what in ("colour", "shape")]
    shares = [naming.twins_told(model, tested(), twin)["ITM"] for twin in twins]
    return round(sum(shares) / len(shares), 4)


def capfilt() -> dict[str, list[float]]:
    """Names found by contrast, for each seed; and what the filter lets pass."""
    test, rows = tested(), {"noisy": [], "filtered": [], "clean": [], "web kept": [], "true of kept": []}
    for seed in SEEDS:
        taught = learned(new_blip(seed=seed), training(), SETTING["taught"], seed)
        clean = show_pairs(taught, naming.two_things("train", SETTING["web"], seed=100 + seed))
        noisy = naming.swap_some(clean, SETTING["noise"], seed)
        passed, share = bootstrap(taught, noisy)
        rows["web kept"].append(round(share, 4))
        rows["true of kept"].append(round(true_share(passed), 4))
        for name, pairs in {"noisy": noisy, "filtered": passed, "clean": clean}.items():
            model = new_blip(seed=seed)
            options = dict(kinds=("contrast",), known=False, seed=seed)
            learn_names(model, pairs, steps=SETTING["contrast"], size=SETTING["pairs"], **options)
            rows[name].append(round(naming.names_found(model, test), 4))
        print({name: seen[-1] for name, seen in rows.items()}, flush=True)
    return rows


def relations() -> dict[str, list[float]]:
    """Relation twins told by ITM, for each seed: a new BLIP and nano-blip after equal steps, and CLIP."""
    recipe = RECIPES["nano-blip"]
    clip, test = clips.load_clip("clip-scenes")[0], relating.relations("test", SETTING["tested"])
    seen = clips.image_features(clip, render(test[0]))
    true, twin = ((seen * clips.text_features(clip, texts)).sum(dim=1) for texts in test[1:])
    rows = {"CLIP": [round((true > twin).float().mean().item(), 4)] * len(SEEDS), "new": [], "nano-blip": []}
    for seed in SEEDS:
        for name in ("new", "nano-blip"):
            model = new_model(replace(recipe, seed=seed)) if name == "new" else load_connected(name)[0]
            pairs = relating.show_relations(model, "train", SETTING["related"])
            relating.learn_relations(model, pairs, steps=SETTING["related steps"], seed=seed)
            new = relating.show_relations(model, "test", SETTING["tested"])
            rows[name].append(round(relating.relations_told(model, new), 4))
        print({name: seen[-1] for name, seen in rows.items()}, flush=True)
    return rows


def bootstrap(model: Blip, noisy: NamedPairs) -> tuple[NamedPairs, float]:
    """What the filter leaves of web captions and of the captioner's; and its share of the web captions."""
    numbers = {text: number for number, text in enumerate(ALL_NAMES)}
    # what is no name at all counts as the web's caption once more
    texts = naming.write_names(model, noisy.features)
    written = torch.tensor(
        [numbers.get(text, web) for text, web in zip(texts, noisy.said.tolist(), strict=True)]
    )
    sources = noisy.said, written
    scores = judge_captions(model, noisy.features, [naming.spell_names(said) for said in sources])
    images, chosen = keep_captions(scores, 0.5)
    passed = noisy.take(images).say(torch.stack(sources, dim=1)[images, chosen])
    return passed, (chosen == 0).sum().item() / len(noisy.said)


def true_share(pairs: NamedPairs) -> float:
    return (pairs.shown == pairs.said[:, None]).any(dim=1).float().mean().item()


def learned(model: Blip, pairs: NamedPairs, steps: int, seed: int) -> Blip:
    learn_names(model, pairs, steps=steps, size=SETTING["pairs"], seed=seed)
    return model


def training() -> NamedPairs:
    return show_pairs(new_blip(), naming.two_things("train", SETTING["images"]))


def scenes_tested():
    return naming.two_things("test", SETTING["tested"])


def tested() -> NamedPairs:
    return show_pairs(new_blip(), scenes_tested())


if __name__ == "__main__":
    path, started = assets_folder() / "checkpoints" / "blip-trials.json", time.process_time()
    card = json.loads(path.read_text()) if path.is_file() else {}
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    card |= dict(command="python tools/blip_trials.py", setting=SETTING, hardware=hardware)
    for chosen in sys.argv[1:] or ("negatives", "capfilt", "relations"):
        card[chosen] = dict(negatives=negatives, capfilt=capfilt, relations=relations)[chosen]()
        path.write_text(json.dumps(card, indent=1) + "\n")
    print(f"{time.process_time() - started:.0f} CPU seconds")
