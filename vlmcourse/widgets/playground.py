"""Scene Playground: change a scene by hand and watch a model's answer, caption and attention change with it.

The widget knows no model: it calls the functions it was given, in the kernel.  Who does what: the browser
keeps the scene, draws it at once from ready-made sprites (cut from pictures of the same renderer) and sends
the newest state, one request at a time: what changes while the kernel answers goes with the next request, so
nothing ever queues.  The kernel renders, asks the model, and sends pixels and answer back together.
"""

import textwrap
import time
from itertools import combinations

import numpy as np
import traitlets

from vlmcourse.widgets.base import AskedWidget, UpTo, as_array, as_images, same_words, script
from vlmcourse.widgets.maps import MapWidget, quantise
from vlmcourse.widgets.stills import ACCENT, TEXT, Still, new_figure, open_corner, overlay, scale_bar
from vlmcourse.world import questions
from vlmcourse.world.arranging import TRAINED, arrange, check_things, cut_sprites, outside, paste, room
from vlmcourse.world.grammar import true_answer
from vlmcourse.world.scenes import COLOURS, GAP, MARGIN, MOST, RADII, SHAPES, SIDE, SIZES, SLANT, Scenes
from vlmcourse.world.truth import Thing, list_things

WORDS = {"scene": "", "swapped": ": another scene", "grey": ": grey"}  # what the model gets
MID_GREY = 128
BARS = 5  # of the likeliest answers
SUGGESTED = ("colour", "position", "count", "existence", "relation", "comparison")


class ScenePlayground(AskedWidget, MapWidget):
    """A canvas with a scene, and what a model says about it.

    `playground.change(question="Is there a star?", given="grey")` does from Python what the controls do;
    `playground.state` holds what is set, `playground.answer` what came of it. With several models, all answer
    the question side by side, and one of them is looked at closely.

    Args:
        answer: takes a picture, uint8 (64, 64, 3), and a question; returns {"answer": str, "choices": [(text,
            probability), ...] best first, "attention": weights on the picture, (row, column), or None}.
        caption: takes a picture and returns a text.
        scenes: where to start, and what "Next scene" goes to.
        render: Scenes -> uint8 pictures (scene, 64, 64, 3); the course's own if not given.
        name: of the model, where it stands beside others.
        others: by name further models: for each an answer and a caption, as above.

    Raises:
        ValueError: if there are no scenes, two models have one name, a picture or an answer another form.
        Exception: whatever the functions raise for the first scene, so that a broken model is noticed at
            once.  Later, the message is shown in one line and the last answer stays.
    """

    _esm = script("maps.js", "playground.js")
    pixels = traitlets.Bytes(help="the scene, uint8 (64, 64, 3)").tag(sync=True)
    model_input = traitlets.Bytes(help="what the model was given").tag(sync=True)
    attention = traitlets.Bytes(help="one byte for each cell of the grid").tag(sync=True)
    world = traitlets.Dict(help="names, rules and scenes").tag(sync=True)

    def __init__(self, answer, caption, scenes: Scenes, *, render=None, name: str = "model", others=None):
        if not len(scenes):
            raise ValueError("there are no scenes to play with; pass some, such as scenes.sample('test', 12)")
        if render is None:
            from vlmcourse.world.render import render
        self._scenes, self._render = scenes, render
        self._models = [(answer, caption), *(others or {}).values()]
        self._names = [name, *(others or {})]
        if len(set(self._names)) < len(self._names):
            raise ValueError(f"two models are called {name}; give this one another name")
        self._captioned = (None, "")  # the last picture with its reader, and the caption
        self._sheets = {
            int(light): cut_sprites(self._draw, scenes[first])
            for light, first in zip(*np.unique(scenes.light, return_index=True), strict=True)
        }
        suggested = {kind: questions.ask(scenes, kind) for kind in SUGGESTED}
        listed = []
        for number in range(len(scenes)):
            known = {kind: texts[number].text for kind, texts in suggested.items() if texts[number]}
            things, light = list_things(scenes, number), int(scenes.light[number])
            listed.append({"things": things, "light": light, "questions": known})
        question = next(iter(listed[0]["questions"].values()))
        rules = {"side": SIDE, "margin": MARGIN, "gap": GAP, "slant": SLANT, "most": MOST, "trained": TRAINED}
        names = {"names": [SHAPES, COLOURS, SIZES], "radii": RADII.tolist()}
        super().__init__(world={**rules, **names, "best": BARS, "scenes": listed, "models": self._names})
        state = {"turn": 0, "by": "python", "number": 0, "question": question, "given": "scene", "model": 0}
        state["things"] = listed[0]["things"]
        self._show(state)
        rules = {"turn": int, "by": str, "number": range(len(scenes)), "question": str, "given": tuple(WORDS)}
        rules["model"] = range(len(self._models))
        rules["things"] = UpTo(
            MOST, [range(len(names)) for names in (SHAPES, COLOURS, SIZES)] + [range(SIDE)] * 2
        )
        self.allowed = {"state": rules}
        self.state = state
        papers = [f"paper/{number}" for number in range(len(scenes))]
        lights = [f"sprites/{light}" for light in dict.fromkeys(scenes.light.tolist())]
        self.preload([papers[0], lights[0], *papers[1:], *lights[1:]])

    def check(self, name: str, value) -> None:
        """ValueError unless the trait `name` may be set to `value`; things also stand inside the frame."""
        super().check(name, value)
        check_things([Thing(*thing) for thing in value["things"]])

    def change(self, **what) -> None:
        """Set any of number (of the scene), things, question, given, model (its number or name).

        Raises:
            ValueError: names the rule that is broken.
        """
        unknown = ", ".join(sorted(set(what) - {"number", "things", "question", "given", "model"}))
        if unknown:
            raise ValueError(f"there is no {unknown}; set number, things, question, given or model")
        if "model" in what:
            what["model"] = self._number_of(what["model"])
        state = {**self.state, **what, "turn": self.state["turn"] + 1, "by": "python"}
        if not 0 <= state["number"] < len(self._scenes):
            raise ValueError(f"number is {state['number']}, expected 0..{len(self._scenes) - 1}")
        if state["given"] not in WORDS:
            raise ValueError(f"given is {state['given']!r}, expected one of {', '.join(WORDS)}")
        if "number" in what and "things" not in what:
            state["things"] = self.world["scenes"][state["number"]]["things"]
        state["things"] = [Thing(*map(int, thing)) for thing in state["things"]]
        check_things(state["things"])
        self.state = state

    def _number_of(self, model: int | str) -> int:
        number = self._names.index(model) if model in self._names else model
        if number not in range(len(self._names)):
            raise ValueError(f"model is {model!r}, expected one of {', '.join(self._names)}")
        return number

    def _show(self, state: dict) -> None:
        """Ask the model about a state and show what it says, everything at once."""
        things = [Thing(*map(int, thing)) for thing in state["things"]]
        image = self._picture(state["number"], things)
        start = time.perf_counter()
        picture, chosen = self._given(state, image), state["model"]
        all_said = [self._asked(ask, picture, state["question"]) for ask, _ in self._models]
        said, seen = all_said[chosen], (chosen, picture.tobytes())
        if self._captioned[0] != seen:
            self._captioned = seen, str(self._models[chosen][1](picture))
        took = time.perf_counter() - start
        text, weights, truth = said["answer"], said["attention"], true_answer(state["question"], things)
        codes, largest = quantise(weights.ravel()) if weights.size else (weights.astype(np.uint8), 0.0)

        def right(text: str) -> bool:
            return bool(truth) and same_words(text, truth)

        answer = {name: state[name] for name in ("by", "turn", "question")} | {"error": ""}
        answer |= {"answer": text, "right": right(text), "truth": truth, "caption": self._captioned[1]}
        answer["choices"] = [{"text": text, "p": p, "right": right(text)} for text, p in said["choices"]]
        answer |= {"grid": weights.shape, "largest": float(largest), "share": float(weights.sum())}
        answer |= {"outside": outside(things), "milliseconds": round(1000 * took), "model": chosen}
        answer["all"] = [{"text": one["answer"], "right": right(one["answer"])} for one in all_said]
        with self.hold_sync():  # pictures and numbers change together
            self.pixels, self.model_input = image.tobytes(), picture.tobytes()
            self.attention, self.answer = codes.tobytes(), answer

    def _draw(self, scenes: Scenes) -> np.ndarray:
        images = as_images(self._render(scenes))
        if images.shape != (len(scenes), SIDE, SIDE, 3):
            raise ValueError(f"render returned {images.shape}, expected {(len(scenes), SIDE, SIDE, 3)}")
        return images

    def _picture(self, number: int, things: list[Thing]) -> np.ndarray:
        """Things on the paper of a scene, as the course renders them; it knows nothing of overlaps."""
        if any(room(a, b) < 0 for a, b in combinations(things, 2)):
            return paste(self._picture(number, []), self._sheets[int(self._scenes.light[number])], things)
        return self._draw(arrange(self._scenes[number], [things]))[0]

    def _given(self, state: dict, image: np.ndarray) -> np.ndarray:
        """The picture that the model gets."""
        if state["given"] == "grey":
            return np.full_like(image, MID_GREY)
        if state["given"] == "swapped":
            return self._draw(self._scenes[(state["number"] + 1) % len(self._scenes)])[0]
        return image

    def _asked(self, ask, image: np.ndarray, question: str) -> dict:
        """What a model says, checked; nothing to an empty question."""
        nothing = np.zeros((0, 0), np.float32)
        if not question.strip():
            return {"answer": "", "choices": [], "attention": nothing}
        said = ask(image, question)
        choices = [(str(text), float(p)) for text, p in said["choices"]][:BARS]
        if not all(0 <= p <= 1.001 for _, p in choices):
            raise ValueError(f"answer returned the probabilities {[p for _, p in choices]}; expected 0 to 1")
        weights = nothing if said["attention"] is None else as_array(said["attention"]).astype(np.float32)
        if weights.ndim != 2 or not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(
                f"answer returned attention of shape {weights.shape}; expected finite weights, none "
                "negative, as (row, column)"
            )
        return {"answer": str(said["answer"]), "choices": choices, "attention": weights}

    def blob(self, name: str) -> bytes:
        """paper/N: scene N without objects.  sprites/L: every object on shade L, see cut_sprites."""
        kind, number = name.split("/")
        if kind == "sprites":
            return b"".join(sheet.tobytes() for sheet in self._sheets[int(number)])
        return self._picture(int(number), []).tobytes()

    def static_figure(self) -> Still:
        """The scene, what the model was given with the attention of its answer, and the likeliest answers."""
        said, given = self.answer, WORDS[self.state["given"]]
        drawing = new_figure(3.1)
        scene, looked, bars = drawing.subplots(1, 3, width_ratios=(1, 1.15, 1.1))
        self._draw_pictures(scene, looked)
        looked.set_title(f"what the model gets{given}", fontsize=9)
        draw_choices(bars, said["choices"][::-1])
        truth, caption = said["truth"], said["caption"]
        verdict = "" if not truth else " ✓" if said["right"] else f" ✗ ({truth})"
        colour = "black" if said["right"] or not truth else ACCENT
        name = f"{self._names[said['model']]}: " if len(self._names) > 1 else ""
        title = f"{name}{said['question']}  {said['answer']}{verdict}"
        drawing.suptitle(title, fontsize=10, color=colour)
        drawing.supxlabel("\n".join(textwrap.wrap(caption, 95)), fontsize=9)
        alt = f"A scene; what the model gets{given}; asked “{said['question']}” it says “{said['answer']}”"
        return Still(drawing, alt + f", the truth is {truth}" * bool(truth) + f"; its caption: {caption}")

    def _draw_pictures(self, scene, looked) -> None:
        shape, frame = (SIDE, SIDE, 3), {"extent": (0, SIDE, SIDE, 0), "interpolation": "nearest"}
        pixels, picture = (np.frombuffer(b, np.uint8).reshape(shape) for b in (self.pixels, self.model_input))
        scene.imshow(pixels, **frame)
        scene.set_title("the scene", fontsize=9)
        if self.attention:
            weights = np.frombuffer(self.attention, np.uint8).reshape(self.answer["grid"])
            shown = overlay(looked, picture, weights * (self.answer["largest"] / 255))
            bar = scale_bar(shown, looked)
            bar.set_label("attention of the answer", fontsize=9)
            bar.ax.tick_params(labelsize=9)
        else:
            looked.imshow(picture, **frame)
        for axes in (scene, looked):
            axes.axis("off")

    def __repr__(self) -> str:
        return f"ScenePlayground({len(self._scenes)} scenes)"


def draw_choices(bars, rows: list[dict]) -> None:
    """Bars of the likeliest answers, from the lowest to the highest."""
    bars.barh(range(len(rows)), [row["p"] for row in rows], color=TEXT)
    names = [textwrap.shorten(row["text"], 22, placeholder="…") + " ✓" * row["right"] for row in rows]
    bars.set_yticks(range(len(rows)), names, fontsize=9)
    for place, row in enumerate(rows):
        bars.text(row["p"] + 0.02, place, percent(row["p"]), va="center", fontsize=9)
    bars.set(xlim=(0, 1.25), xticks=[])
    open_corner(bars)
    bars.spines["bottom"].set_visible(False)


def percent(p: float) -> str:
    return "< 0.1 %" if p < 0.0005 else f"{100 * p:.1f} %" if p < 0.0995 else f"{100 * p:.0f} %"
