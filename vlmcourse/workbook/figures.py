"""Figures of a chapter: one style, colours by role, and drawings that suit light and dark themes."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from jaxtyping import Bool

from vlmcourse.data.assets import assets_folder
from vlmcourse.widgets import stills

BACKDROP = "var(--jp-layout-color0, var(--vscode-editor-background, Canvas))"

LEAST_WIDTH = 480  # pixels at which letters of a figure that fills a page can still be read
CALM = 'fill="#e6f0ec" stroke="#5B8C7B" stroke-width="2"'
LIT = 'fill="#ffe9b8" stroke="#D55E00" stroke-width="3"'
# Colours of the drawings on white -> those that also stand on dark paper: let through, or the page's ink
ON_ANY_PAPER = {"#ffffff": "none", "#52606d": "currentColor", "#e6f0ec": "#5B8C7B33", "#ffe9b8": "#E69F0055"}
ON_ANY_PAPER |= {"#f1f4f7": "#9aa5b133", "#e6f1f8": "#0072B226"}

roles = SimpleNamespace(
    image=stills.IMAGE,  # image tokens, patches, and what is read from them
    text=stills.TEXT,  # text tokens, words, and a model that only reads
    learned=stills.GOOD,  # what learns here: your model, as it should be
    accent=stills.ACCENT,  # what is broken, wrong, or pointed at
    control=stills.CONTROL,  # blind, untrained, chance, habit: what a number is compared with
    masked=stills.MASKED,  # hidden or frozen; hatched as well
    ink=stills.INK,  # text, and bounds that a theory gives
    first=stills.FIRST,  # two of a kind side by side: CNN and ViT, named and sentence
    second=stills.SECOND,
)
"""The course's colours by what they mean, the same everywhere; dash, mark or hatch says it once more."""


def plot_style() -> None:
    """One style for all figures: the course's colours, no clutter, 9 points or more, readable at 100 %."""
    import matplotlib

    colours = matplotlib.cycler(color=[roles.learned, roles.first, roles.second, roles.control])
    ink = stills.INK
    matplotlib.rc("axes", prop_cycle=colours, titlesize=10, labelsize=9, facecolor="none")
    matplotlib.rc("axes", edgecolor=ink, labelcolor=ink)
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("font", size=9)
    matplotlib.rc("figure", dpi=110)
    matplotlib.rc("hatch", color=ink)
    matplotlib.rc("image", cmap="cividis")
    matplotlib.rc("legend", frameon=False, fontsize=9)
    matplotlib.rc("text", color=ink)
    matplotlib.rc("xtick", color=ink)
    matplotlib.rc("ytick", color=ink)


@dataclass(repr=False)
class Described:
    """An SVG with its description, for people who see it and people who hear it.

    It stands in the page itself, not in a picture's address: so its ink is the page's, light or dark.
    """

    svg: str
    width: int
    alt: str

    def _repr_html_(self) -> str:
        svg = self.svg.replace(stills.INK, "currentColor").replace("#000000", "currentColor")
        tag, rest = re.fullmatch(r".*?<svg ([^>]*)>(.*)", svg, flags=re.DOTALL).groups()
        kept = re.sub(r'\b(width|height|xmlns\S*|version)="[^"]*"', "", tag)
        # on a phone it scrolls sideways at half its size rather than become too small to read
        style = f"max-width:100%;min-width:{min(self.width, LEAST_WIDTH)}px;height:auto;stroke-linejoin:round"
        label = html.escape(self.alt)
        return f'<svg role="img" aria-label="{label}" width="{self.width}" style="{style}" {kept}>{rest}'

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"


def figure(fig, alt: str) -> None:
    """Show a matplotlib figure, and close it, so that the notebook does not show it twice.

    Args:
        alt: what the figure shows, in a sentence, for screen readers and text output.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if not alt.strip():
        raise ValueError("a figure needs a description: figure(fig, alt='what it shows')")
    stream = io.StringIO()
    silent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    fig.savefig(stream, format="svg", dpi=200, facecolor="none", metadata=silent)
    plt.close(fig)
    svg = re.sub(
        r"<style.*?</style>", "", stream.getvalue(), flags=re.DOTALL
    )  # it would style the whole page
    display(Described(svg.replace("#ffffff", BACKDROP), round(fig.get_figwidth() * 105), alt))


def draw_mask(ax, seen: Bool[torch.Tensor, "query key"], colours: str | Sequence[str] = roles.text) -> None:
    """Draw who may see whom: a key's colour where the query may look, hatched where it may not.

    Args:
        ax: matplotlib axes.
        colours: one for all keys, or one for each.
    """
    from matplotlib.patches import Rectangle

    queries, keys = seen.shape
    of_key = [colours] * keys if isinstance(colours, str) else colours
    for query, row in enumerate(seen.tolist()):
        for key, may_look in enumerate(row):
            inside = dict(facecolor=of_key[key]) if may_look else dict(facecolor="none", hatch="/////")
            ax.add_patch(Rectangle((key, query), 1, 1, edgecolor=roles.masked, linewidth=0.8, **inside))
    ax.set(xlim=(0, keys), ylim=(queries, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def course_map(lit: str = "") -> None:
    """Show the picture of a vision-language model, with "vision", "connector", "language" or no part lit."""
    part = f'<g id="{lit}" class="part">'
    svg = (assets_folder() / "figures" / "vlm.svg").read_text(encoding="utf-8")
    if lit and part not in svg:
        raise ValueError(f"the map has no part {lit!r}; there are vision, connector and language")
    if lit:
        before, _, after = svg.partition(part)
        svg = before + part + after.replace(CALM, LIT, 1)
    way = "image → vision encoder → connector → language model → answer"
    note = f", with the {lit} part lit: this chapter" if lit else ""
    _show(svg, f"{way}; the question enters the language model{note}")


def drawing(name: str) -> None:
    """Show the architecture of a chapter, with the learner's exercises lit; tools/draw_figures.py draws them.

    Raises:
        ValueError: if there is no such drawing.
    """
    folder = assets_folder() / "figures"
    path = folder / f"{name}.svg"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.svg")))
        raise ValueError(f"no drawing {name!r}; there are {there}")
    svg = path.read_text(encoding="utf-8")
    _show(svg, html.unescape(svg.partition("<desc>")[2].partition("</desc>")[0]))


def _show(svg: str, alt: str) -> None:
    from IPython.display import display

    for on_white, on_any in ON_ANY_PAPER.items():
        svg = svg.replace(on_white, on_any)
    display(Described(svg, 720, alt))
