"""Attention Explorer for texts: click a token and see which tokens it reads.

It takes the tokens of one text and attention weights as an array and knows no model.  In a decoder, choosing
a token is also choosing a moment of generation: those after it were not yet written, so they are hatched.

Every row of weights (one query, one head) is scaled to its own largest weight, which the scale states.
Weights travel as one byte each, so a number shown is right to within 1/510 of that largest one.
"""

import textwrap

import numpy as np
import traitlets

from vlmcourse.widgets.base import as_array, script
from vlmcourse.widgets.maps import MapWidget, check_rows, quantise
from vlmcourse.widgets.stills import ACCENT, MASKED, TEXT, Still, new_figure, tint

MOST_IN_TEXT = 64
MOST_MAPS = 12 * 12


class TextAttention(MapWidget):
    """Which tokens does each token read?  For every layer and head, as shaded words and as the whole matrix.

    Play walks through the text as a decoder wrote it.  A weight in the future of a decoder's token is not
    hidden: it keeps its colour, and a warning tells of it.

    Args:
        tokens: the tokens as text, at most 64.
        attention: weights after the softmax, (layer, head, query, key) with query = key = token; array or
            tensor; at most 144 layers · heads.
        causal: True for a decoder (a token reads itself and those before it), False for an encoder like BERT.
        view: where to open, any of layer, head (a number or "mean"), query.
    """

    _esm = script("maps.js", "text_attention.js")
    tokens = traitlets.List().tag(sync=True)

    def __init__(self, tokens, attention, *, causal: bool = True, view: dict | None = None):
        tokens, attention = [str(token) for token in tokens], as_array(attention).astype(np.float32)
        count = len(tokens)
        if attention.ndim != 4 or attention.shape[2:] != (count, count):
            raise ValueError(
                f"attention must be (layer, head, query, key) with query = key = {count}, the number of "
                f"tokens; got shape {attention.shape}; take one text out of the batch"
            )
        layers, heads = attention.shape[:2]
        if count > MOST_IN_TEXT or layers * heads > MOST_MAPS:
            raise ValueError(
                f"{count} tokens and {layers}×{heads} maps; at most {MOST_IN_TEXT} tokens and {MOST_MAPS} "
                "maps can be told apart, so pass a part of the text or of the layers"
            )
        check_rows("attention", attention)
        self._maps = np.concatenate([attention, attention.mean(axis=1, keepdims=True)], axis=1)
        start = {"layer": layers - 1, "head": "mean", "query": count - 1, **(view or {})}
        rules = {"layer": range(layers), "head": (range(heads), "mean"), "query": range(count)}
        self.allowed = {"view": rules}
        shape = {"layers": layers, "heads": heads, "causal": causal}
        super().__init__(tokens=tokens, view=start, shape=shape)
        codes, largest = quantise(self._maps)  # of every head, the last is the mean
        self.offer({"largest": largest.astype("<f4"), "codes": codes})

    def _matrix(self) -> np.ndarray:
        """Weights (query, key) of the head shown now."""
        return self._maps[self.view["layer"], -1 if self.view["head"] == "mean" else self.view["head"]]

    def static_figure(self) -> Still:
        """The current row and its whole matrix as a picture."""
        view, query, matrix, count = self.view, self.view["query"], self._matrix(), len(self.tokens)
        row = matrix[query]
        drawing = new_figure(max(3.4, 0.16 * count))
        bars, axes = drawing.subplots(1, 2)
        small = min(9, 300 / count)
        bars.barh(range(count), row, color=tint(row / row.max()))
        bars.set(ylim=(count - 0.5, -0.5), xlabel="weight")
        bars.set_yticks(range(count), self.tokens, fontsize=small, color=TEXT)
        bars.get_yticklabels()[query].set(color=ACCENT, fontweight="bold")
        if self.shape["causal"]:
            edges = np.arange(count + 1) - 0.5
            axes.fill_between(edges, -0.5, edges, step="post", fc="none", ec=MASKED, hatch="////", lw=0)
            matrix = np.ma.masked_where(np.triu(matrix == 0, 1), matrix)
        axes.imshow(matrix / matrix.max(axis=1, keepdims=True), cmap="cividis", zorder=2)
        axes.axhspan(query - 0.5, query + 0.5, fill=False, edgecolor=ACCENT, linewidth=1.5, zorder=3)
        axes.set(xlabel="key", ylabel="query")
        axes.locator_params(integer=True)  # a token has no half
        heads = "mean of heads" if view["head"] == "mean" else f"head {view['head']}"
        best = int(row.argmax())
        reads = f"token {query} “{self.tokens[query]}” reads token {best} “{self.tokens[best]}” most"
        alt = f"Attention of layer {view['layer']}, {heads}: {reads}, with weight {row[best]:.3f}"
        drawing.suptitle(textwrap.fill(alt, 95), fontsize=9)
        return Still(drawing, alt)

    def __repr__(self) -> str:
        layers, heads = self.shape["layers"], self.shape["heads"]
        return f"TextAttention({len(self.tokens)} tokens, {layers} layers, {heads} heads)"
