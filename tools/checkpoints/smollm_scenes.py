"""Give SmolLM2 an eye: projector and LoRA for scenes, in under four minutes on two CPU cores (notebook 17).

    python tools/checkpoints/smollm_scenes.py [MINUTES]

Stage 1, the projector learns which words each patch shows; stage 2, LoRA learns to answer. Shipped are eye, projector
and LoRA in fp16, nothing of SmolLM2.
"""

import platform
import sys
import time

import torch

from vlmcourse import real
from vlmcourse.data import scenes
from vlmcourse.data.assets import assets_folder
from vlmcourse.data.render import render
from vlmcourse.interop import hub
from vlmcourse.training.checkpoints import save_weights
from vlmcourse.training.regions import region_targets

RECIPE = dict(eye="nano-words", rank=real.RANK, objects=(1, 2), scenes=3_000, words=400, steps=70, size=4)
SEED, MINUTES = 0, 10.0
TRIED = [  # named and whole sentences on 24 scenes of 1 or 2 objects, questions of colour and shape, one CPU thread
    "eye clip-scenes (patches' words recovered: shape 0.83, colour 0.93), word sums not centred, 17 steps of 4 images, "
    "all kinds of questions: named 0.68 (other image 0.28), sentences 0.66; perplexity of plain sentences 65 to 107",
    "eye nano-words, centred words, 16 steps of 4 images, two kinds of questions: named 0.68 (other image 0.26), "
    "sentences 0.55; perplexity of plain sentences 73 to 82",
]


def main(minutes: float = MINUTES) -> None:
    language, tokenizer = hub.load_smollm2()
    before = real.surprise(language, tokenizer)
    eye, layer = real.load_eye(RECIPE["eye"])
    torch.manual_seed(SEED)
    start, objects = time.perf_counter(), RECIPE["objects"]
    model = real.join(eye, language, tokenizer, layer)
    told = scenes.sample("train", RECIPE["scenes"], objects=objects, seed=SEED)
    words = real.patch_words(language, tokenizer, region_targets(told, eye.config).words)
    real.meet_words(model, real.features(model, render(told)), words, steps=RECIPE["words"], seed=SEED)
    print(f"{time.perf_counter() - start:.0f} s: patches have met words")
    batch = scenes.sample("train", RECIPE["steps"] * RECIPE["size"], len(told), objects=objects, seed=SEED)
    seen, about = real.features(model, render(batch)), real.ask(batch, seed=SEED)
    left = 60 * minutes - (time.perf_counter() - start)
    history = real.tune(model, tokenizer, seen, about, steps=RECIPE["steps"], size=RECIPE["size"], seconds=left,
                        seed=SEED, watch=lambda step, **told: step % 10 or print(step, told, flush=True))  # fmt: skip
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s: tuned for {history.steps} steps, loss {history.losses[0]:.2f} to {history.losses[-1]:.2f}")
    parts = real.Parts(model)
    for name, value in parts.named_buffers():  # the file holds fp16: measure what is shipped
        setattr(parts, name, value.half().float())
    parts.put_into(model)
    metrics = real.measure(model, tokenizer) | {"perplexity of plain sentences, before": round(before, 2),
               "perplexity of plain sentences": round(real.surprise(model.language, tokenizer), 2)}  # fmt: skip
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    recipe = RECIPE | dict(language=hub.SMOLLM2, lora_from_block=real.FIRST, lr=real.RATES["lora"], done=history.steps,
                           script="tools/checkpoints/smollm_scenes.py")  # fmt: skip
    card = dict(recipe=recipe, seed=SEED, seconds=round(seconds), hardware=hardware, metrics=metrics, tried=TRIED)
    path = save_weights(parts, assets_folder() / "checkpoints" / "smollm-scenes.safetensors", card)
    print(f"{path} after {seconds:.0f} s: {metrics}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
