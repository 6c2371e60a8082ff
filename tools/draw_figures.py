"""Draw the chapters' architectures as SVG into assets/figures: `python tools/draw_figures.py`.

A drawing is rows; a row is boxes from left to right, with " > " between them and "|" where a line ends.
"*" before a box: the learner writes it in this chapter. (i, j) in a row's skips: the input of box i is
also added in box j, which reads "+".
"""

import html
from pathlib import Path

FIGURES = Path(__file__).resolve().parents[1] / "assets" / "figures"
WIDTH, LEFT, GAP, HIGH = 720, 136, 20, 44
LIT, CALM = ("#ffe9b8", "#D55E00"), ("#e6f0ec", "#5B8C7B")
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
    'font-family="system-ui, \'Segoe UI\', Helvetica, Arial, sans-serif" font-size="11.5" fill="#1f2933">\n'
    "<title>{title}</title>\n<desc>{desc}</desc>\n"
    '<rect width="{w}" height="{h}" rx="10" fill="#ffffff"/>\n'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0 8 4 0 8z" fill="#52606d"/></marker></defs>\n'
    '<text x="20" y="26" font-weight="600" font-size="14">{title}</text>\n'
)
LEGEND = (
    '<rect x="546" y="15" width="14" height="14" rx="3" fill="#ffe9b8" stroke="#D55E00" stroke-width="2"/>'
    '<text x="567" y="26">you write this here</text>\n'
)

# name -> (title, what it shows, rows of (label, boxes, skips))
DRAWINGS = {
    "vit": (
        "A Vision Transformer",
        "The image is cut into patches, embedded, given a class token and positions. Each block adds "
        "attention to its input, then an MLP; both read normalised tokens.",
        [
            ("tokens", "image > *patchify > linear > *class token|and positions > blocks", []),
            ("one block", "norm > attention > *+ > norm > MLP > *+", [(0, 2), (3, 5)]),
            (
                "attention",
                "query, key,|value > *split heads > *scaled dot|product > *merge heads > linear",
                [],
            ),
        ],
    ),
    "cnn": (
        "Residual block and MBConv",
        "A residual block adds its input to what two convolutions made, then applies ReLU. MBConv "
        "widens with a 1×1 convolution, filters each channel alone, weighs the channels, narrows, and "
        "adds its input.",
        [
            ("residual block", "*convolution|and norm > ReLU > *convolution|and norm > *+ > *ReLU", [(0, 3)]),
            ("MBConv", "expand|1×1 > depthwise > *squeeze and|excite > project|1×1 > *+", [(0, 4)]),
        ],
    ),
    "clip": (
        "Two towers, one space",
        "An image tower and a text tower each give one vector of length 1. All pairs of a batch are "
        "compared; the loss wants each image nearest to its own text.",
        [
            ("image tower", "image > ViT > class token > projection > *normalise", []),
            ("text tower", "text > transformer > *pool at end|of sentence > projection > *normalise", []),
            ("both", "all pairs:|cosines > ÷ temperature > *InfoNCE loss", []),
        ],
    ),
    "llama": (
        "A LLaMA block with its cache",
        "A block adds attention and then SwiGLU to its input, both after RMSNorm. In attention, "
        "positions turn queries and keys; new keys and values extend the cache, which groups of heads "
        "share.",
        [
            ("one block", "*RMSNorm > attention > + > *RMSNorm > *SwiGLU > +", [(0, 2), (3, 5)]),
            ("query", "linear > *RoPE", []),
            ("key, value", "linear > *RoPE|(keys only) > *extend cache > *share heads", []),
            ("both", "query · key > *causal mask > softmax > · value > linear", []),
        ],
    ),
    "fusion": (
        "Five places to meet",
        "Late: two vectors meet before the head. Cross-attention: after every block, words look at "
        "the image; gated, behind a gate that begins closed. Injection: image tokens stand before the "
        "words; with a prefix, image and question all see each other.",
        [
            ("late", "words > all blocks > *mix with the|mean patch > head", []),
            ("cross-attention", "words > block > *words look|at patches > next block,|look again > head", []),
            ("gated", "words > block > *look · tanh|of the gate > next block,|look again > head", []),
            ("injection", "*patches,|then words > causal mask > all blocks > head", []),
            ("with a prefix", "*patches,|then words > *prefix mask > all blocks > head", []),
        ],
    ),
    "instruction": (
        "From a conversation to an answer",
        "A conversation becomes one text; only the answer's tokens are learned; texts of different "
        "length stand in one tensor. Stage 2 trains projector and language model, each at its own "
        "rate. Then the model writes its answer word by word.",
        [
            ("data", "conversation > *render chat > *label mask > *collate > loss on|answers", []),
            ("stage 2", "image > eye:|frozen > projector:|learns > language:|learns > *rates by|group", []),
            ("answer", "image and|question > model > *likeliest|next word > *until the|end token", []),
        ],
    ),
    "blip": (
        "One text model, three jobs",
        "The same text model reads alone for the contrast, reads beside the image to tell whether both "
        "belong together, and writes captions of the image. CapFilt lets its captions and those of the web "
        "pass a filter.",
        [
            ("ITC", "text > reads|alone > one vector > cosine with|the image > *soft contrast", []),
            ("ITM", "*hard|negatives > *pairs > reads beside|the image > first|token > belongs,|or not", []),
            ("LM", "caption > writes beside|the image > score of each|next word > *loss of|next words", []),
            ("slow copy", "model > *moving|average > its vectors > *queue > more|candidates", []),
            ("CapFilt", "web caption,|written one > ITM > *keep what|it believes > new training|pairs", []),
        ],
    ),
    "projector": (
        "Projector and stages",
        "Patch vectors are folded, then pass two layers with a GELU between them and become image "
        "tokens. Stage 1 trains the projector alone, stage 2 the projector and the language model.",
        [
            (
                "connector",
                "frozen eye > *pixel shuffle > *linear, GELU,|linear > image tokens > language|model",
                [],
            ),
            ("stage 1", "eye:|frozen > projector:|learns > language:|frozen > *loss on|caption words", []),
            ("stage 2", "eye:|frozen > projector:|learns > language:|learns > loss on|answer words", []),
        ],
    ),
    "flamingo": (
        "Flamingo",
        "A frozen eye's patches are resampled to a few latents for each image; each text's images stand "
        "side by side. Between the frozen blocks of the language model, words look at the last image "
        "before them and think about it, both behind gates that start closed.",
        [
            (
                "images",
                "image > eye:|frozen > *resample to|latents > *side by side > what may|be looked at",
                [],
            ),
            ("text", "*examples and|question > marks for|images > *media mask > who may look|at which", []),
            (
                "gated block",
                "norm > look|at latents > *+ tanh · > norm > think > *+ tanh ·",
                [(0, 2), (3, 5)],
            ),
            ("all blocks", "words > *gated block > block:|frozen > and so on > next word", []),
        ],
    ),
    "qformer": (
        "Q-Former: one block, three losses, two stages",
        "In a block, queries and words share self-attention; then queries look at the image, and each "
        "kind has its own MLP. Stage 1 trains contrast, matching and captioning, each with its mask. "
        "Stage 2 puts the queries before a frozen language model; MiniGPT-4 trains one linear layer.",
        [
            (
                "one block",
                "queries,|then words > self-attention|with a mask > *queries look|at the image > *two MLPs",
                [],
            ),
            (
                "contrast",
                "queries;|words > *each sees|its own > vectors of|both > *the best|query counts",
                [],
            ),
            ("matching", "queries|and words > *all see all > score of|each query > *the mean|counts", []),
            ("captioning", "queries,|then words > *words see queries,|earlier words > head > next word", []),
            ("stage 2", "frozen eye > Q-Former:|learns > linear:|learns > frozen|language", []),
            ("MiniGPT-4", "frozen eye > Q-Former:|frozen > linear:|learns > frozen|chat model", []),
        ],
    ),
    "lora": (
        "LoRA in the assembled model",
        "An eye, a projector and a pretrained language model are put together; the projector learns "
        "first and then rests. In the language model a frozen matrix gets a narrow way beside it, "
        "down to rank r and up again; the two results are added.",
        [
            (
                "model",
                "image > eye|(frozen) > projector|(then frozen) > language|with LoRA > *loss on|answers",
                [],
            ),
            ("frozen way", "tokens > frozen matrix > *+ LoRA", []),
            ("narrow way", "tokens > *down|to rank r > *up|from rank r > *· scale > to + LoRA", []),
        ],
    ),
}


def box(text: str, x: float, y: float, width: float) -> str:
    fill, edge = LIT if text.startswith("*") else CALM
    lines = text.removeprefix("*").split("|")
    first = y + HIGH / 2 + 4 - 7 * (len(lines) - 1)
    middle = f'x="{x + width / 2:.0f}" text-anchor="middle"'
    words = "".join(
        f'<text y="{first + 14 * n:.0f}" {middle}>{html.escape(line)}</text>' for n, line in enumerate(lines)
    )
    shape = f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{HIGH}" rx="8"'
    return f'{shape} fill="{fill}" stroke="{edge}" stroke-width="2"/>{words}\n'


def draw(title: str, desc: str, rows: list) -> str:
    """The SVG of one drawing, as wide as the course map."""
    body, y = "", 60
    for label, way, skips in rows:
        boxes = way.split(" > ")
        width = (WIDTH - LEFT - 20 - GAP * (len(boxes) - 1)) / max(len(boxes), 4)
        xs = [LEFT + n * (width + GAP) for n in range(len(boxes))]
        body += f'<text x="20" y="{y + HIGH / 2 + 4:.0f}" font-weight="600">{label}</text>\n'
        ways = [f"M{x - GAP:.0f} {y + HIGH / 2:.0f}h{GAP - 3}" for x in xs[1:]]
        for start, end in skips:
            middle = xs[end] + width / 2
            begin = xs[start] - GAP / 2
            ways.append(f"M{begin:.0f} {y + HIGH / 2:.0f}V{y - 11}H{middle:.0f}V{y - 2}")
            if start == 0:
                ways.append(f"M{begin:.0f} {y + HIGH / 2:.0f}h{GAP / 2 - 3:.0f}")
        lines = "".join(f'<path d="{way}" marker-end="url(#tip)"/>' for way in ways)
        body += f'<g stroke="#52606d" stroke-width="1.6" fill="none">{lines}</g>\n'
        body += "".join(box(text, x, y, width) for text, x in zip(boxes, xs, strict=True))
        y += HIGH + 26
    head = HEAD.format(w=WIDTH, h=y - 8, title=html.escape(title), desc=html.escape(desc))
    return head + LEGEND + body + "</svg>\n"


if __name__ == "__main__":
    for name, drawing in DRAWINGS.items():
        (FIGURES / f"{name}.svg").write_text(draw(*drawing), encoding="utf-8")
