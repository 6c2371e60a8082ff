"""The course's widgets on a page without a kernel: their own script, fed with the data that the run has left.

A widget's script is a module, and a page that was opened as a file may load none: here it becomes a function.
The data are a script as well, compressed.  Widgets that ask a model show their picture instead, unless the
run has recorded its answers, or the model comes along (recording.py).
"""

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

from book.cells import Page
from book.words import WORDS

STATE = "application/vnd.jupyter.widget-state+json"
EXPORT = "export default { render };"
WAITING = "Asking the kernel; if nothing comes, it is busy or gone."
MISSING = "This part is only in the notebook: a page carries the first megabytes of a tool."
NEEDS_KERNEL = {"ScenePlayground", "LiveOcclusion", "PictureChat", "RowBrowser", "PageReader"}
LEFT_OUT = {"_esm", "_css", "_anywidget_id", "_dom_classes", "layout", "tabbable", "tooltip"}
LEFT_OUT |= {"_model_module", "_model_module_version", "_model_name"}
LEFT_OUT |= {"_view_count", "_view_module", "_view_module_version", "_view_name"}


class WidgetState(NamedTuple):
    """What a run has left of one widget."""

    kind: str  # the name of its class
    script: str
    state: dict
    buffers: list[dict]  # {"path": keys, "data": base64}
    recorded: dict

    @property
    def runs_here(self) -> bool:
        """Whether a page is enough for it: it asks no kernel, or brings its model along."""
        return self.kind not in NEEDS_KERNEL or "speaker" in self.state

    @property
    def note(self) -> str:
        """The name of what the page says below it, if it can do less there than in the notebook."""
        return "spoken" if "speaker" in self.state else "recorded" if self.recorded else ""


def widgets_of(metadata: Mapping, recorded: Mapping) -> dict[str, WidgetState]:
    """The widgets of an executed notebook, by the identity of their models; those of others are left out."""
    found = {}
    for identity, model in metadata.get("widgets", {}).get(STATE, {}).get("state", {}).items():
        state = model["state"]
        if state.get("_anywidget_id", "").startswith("vlmcourse."):
            kept = {name: value for name, value in state.items() if name not in LEFT_OUT}
            kind = state["_anywidget_id"].rsplit(".", 1)[-1]
            known, buffers = dict(recorded.get(identity, {})), list(model.get("buffers", []))
            if speaker := known.pop("speaker", None):
                tensors = speaker.pop("tensors")
                kept["speaker"] = speaker | {"tensors": {}}
                buffers += [{"path": ["speaker", "tensors", name], "data": tensors[name]} for name in tensors]
            found[identity] = WidgetState(kind, script_of(state["_anywidget_id"]), kept, buffers, known)
    return found


def script_of(name: str) -> str:
    """The script of a widget as the package has it now, by the whole name of its class."""
    module, _, kind = name.rpartition(".")
    return str(getattr(import_module(module), kind)._esm)


def as_function(kind: str, script: str) -> str:
    """The script of a widget as a function that keeps its names to itself.

    Raises:
        ValueError: if the module exports something else, or imports.
    """
    if script.count(EXPORT) != 1 or script.count("export ") != 1 or "\nimport " in f"\n{script}":
        raise ValueError(f"the script of {kind} must import nothing and export once: {EXPORT}")
    body = script.replace(EXPORT, "").replace(WAITING, MISSING)
    return f"(window.vlmWidgets ??= {{}})[{kind!r}] = (() => {{\n{body}\nreturn render; }})();\n"


def on_page(widget: WidgetState, page: Page) -> str:
    """The place of a widget in a page; its data become a script, loaded when the place comes near."""
    packed = packed_data(widget)
    name = f"{widget.kind}-{hashlib.sha256(packed.encode()).hexdigest()[:12]}"
    page.files[f"static/data/{name}.js"] = f"(window.vlmData ??= {{}})[{name!r}] = {packed!r};\n".encode()
    note = f'<p class="note">{html.escape(WORDS[page.lang][widget.note])}</p>' if widget.note else ""
    return f'<div class="widget" data-widget="{widget.kind}" data-state="{name}"></div>{note}'


def packed_data(widget: WidgetState) -> str:
    """Base64 of gzip of: the length of the JSON in four bytes, the JSON, and all bytes in their order."""
    blobs, places = [], []
    for buffer in widget.buffers:
        blobs.append(base64.b64decode(buffer["data"]))
        places.append([buffer["path"], len(blobs[-1])])
    told = {"state": widget.state, "buffers": places, "recorded": widget.recorded}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    data = len(text).to_bytes(4, "little") + text + b"".join(blobs)
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
