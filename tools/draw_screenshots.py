"""Draw the README's pictures of widgets, in a light and a dark theme: python tools/draw_screenshots.py

A widget's own script and style run in a plain page of Chromium, on what the widget has computed in this
process; a page without a kernel shows the same as JupyterLab.  The Attention Explorer is chapter 02's, whose
cells are run for it (two minutes).  Needs the extra "test" and Chromium.
"""

import base64
import io
import json
import shutil
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from playwright.sync_api import sync_playwright

from vlmcourse.diagnostics.alternatives import answers_for
from vlmcourse.evaluation.answers import faultless
from vlmcourse.families.making import load_speaker
from vlmcourse.widgets.base import Widget
from vlmcourse.widgets.playground import ScenePlayground
from vlmcourse.world import scenes

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "assets" / "screenshots"
THEMES = {
    "light": {
        "--jp-ui-font-color1": "#1f2933",
        "--jp-layout-color1": "#ffffff",
        "--jp-border-color1": "#cbd2d9",
    },
    "dark": {
        "--jp-ui-font-color1": "#e4e7eb",
        "--jp-layout-color1": "#0d1117",
        "--jp-border-color1": "#52606d",
    },
}
PAGE = """<meta charset="utf-8"><style>
body {{ margin: 0; padding: 14px; background: var(--jp-layout-color1); }}
:root {{ {theme} }} {css}</style><div id="here"></div><script type="module">
const unpacked = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const held = (value) => value && value.bytes !== undefined ? unpacked(value.bytes) : value;
const state = {state};
for (const name in state) state[name] = held(state[name]);
for (const name in state.blobs ?? {{}}) state.blobs[name] = held(state.blobs[name]);
const nothing = () => {{}};
const model = {{ get: (name) => state[name], set: nothing, on: nothing }};  // no kernel
const widget = await import("data:text/javascript;base64,{script}");
widget.default.render({{ model, el: document.getElementById("here") }});
document.body.dataset.ready = "yes";
</script>"""


def playground() -> ScenePlayground:
    """The first scenes about which the model makes no mistake, with a question it answers rightly."""
    model, _ = load_speaker("nano-vlm")
    some = scenes.sample("test", 12, start=100)
    shown = ScenePlayground(*answers_for(model), some[faultless(model, some).nonzero()[0][:1]])
    if not shown.answer["right"]:
        raise ValueError(f"the model says {shown.answer['answer']}, right is {shown.answer['truth']}")
    return shown


def made_by(chapter: str, cell_id: str) -> Widget:
    """What a cell of a chapter shows last, all code cells up to it run in this process.

    Raises whatever a cell raises; LookupError if the chapter has no such cell.
    """
    shell = InteractiveShell.instance()
    cells = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", 4).cells
    for cell in cells:
        if cell.cell_type == "code":
            outcome = shell.run_cell(cell.source)
            outcome.raise_error()
            if cell.id == cell_id:
                return outcome.result
    raise LookupError(f"chapter {chapter} has no code cell {cell_id}")


def page_of(widget: Widget, theme: str) -> str:
    """The widget as a page by itself."""
    names = [name for name in widget.traits(sync=True) if name != "layout" and not name.startswith("_")]
    state = json.dumps({name: getattr(widget, name) for name in names}, default=as_text)
    colours = " ".join(f"{name}: {colour};" for name, colour in THEMES[theme].items())
    script = base64.b64encode(str(widget._esm).encode()).decode()
    return PAGE.format(theme=colours, css=widget._css, state=state, script=script)


def as_text(value: object) -> dict[str, str]:
    """Bytes in a form that JSON can hold; TypeError for anything else."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} cannot be written into a page")
    return {"bytes": base64.b64encode(value).decode()}


def draw(widget: Widget, name: str, width: int = 900) -> None:
    """Write NAME_light.png and NAME_dark.png: the widget and an even margin, laid out in `width` pixels."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for theme in THEMES:
            page = browser.new_page(viewport={"width": width, "height": 400}, device_scale_factor=1.5)
            page.set_content(page_of(widget, theme))
            page.wait_for_selector("body[data-ready]", timeout=120_000)
            shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
            few = shot.quantize(96, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # fewer bytes
            few.save(FOLDER / f"{name}_{theme}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    draw(playground(), "playground")
    draw(made_by("02_vit", "dino-explore"), "attention_explorer", width=970)  # six heads, side by side
