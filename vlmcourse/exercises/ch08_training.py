"""Exercises of chapter 08, part two: a padded batch, learning rates by part, and an answer written from vectors."""

import torch
from torch import nn
from torch.nn import functional as F

from vlmcourse.data import chat
from vlmcourse.exercises.base import Exercise, Slip, Text
from vlmcourse.models import generation
from vlmcourse.models.attention import Cache
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.training import optimizers

CHAPTER = "08_instruction_tuning"
SEEDS = 3, 0  # of the models that write

# ----------------------------------------------------------------------------------------------- collate


def _padded(rows, pad, left, *, length=None, extra=0, real=True, mixed=False):
    """Rows side by side; ``mixed`` fills the mask on the other side than the ids."""
    length = (length or max)(map(len, rows)) + extra
    ids = torch.full((len(rows), length), pad)
    mask = torch.full((len(rows), length), not real)
    for number, row in enumerate(rows):
        row = row[:length]
        front, back = slice(length - len(row), None), slice(len(row))
        ids[number, front if left else back] = torch.tensor(row)
        mask[number, front if left ^ mixed else back] = real
    return ids, mask


def _mask_from_ids(rows, pad, left):
    ids, _ = _padded(rows, pad, left)
    return ids, ids != pad


Exercise(
    slot=chat.collate,
    chapter=CHAPTER,
    cases=lambda: [
        ([[5, 6, 7, 8, 9], [4, 0, 6], [7]], 0, False),
        ([[3, 9], [8, 7, 6, 5], [2, 4, 4]], 9, True),
    ],
    axes={"return": ("batch token", "batch token")},
    slips=[
        Slip(_mask_from_ids, Text(
            "the mask asks which ids differ from `pad`; a real token may have that number too. Count the row's length.",
            "mask を `pad` との比較で作っています。実際のトークンが同じ番号のこともあります。行の長さで決めます。")),
        Slip(lambda r, p, left: _padded(r, p, False), Text(
            "`left` is not used: with left=True the padding stands in front, and all rows end together.",
            "`left` が使われていません。left=True では padding が前に来て、全行の終わりがそろいます。")),
        Slip(lambda r, p, left: _padded(r, p, not left), Text(
            "the sides are swapped: with left=True the padding stands on the left.",
            "左右が逆です。left=True では padding が左に来ます。")),
        Slip(lambda r, p, left: _padded(r, p, left, length=min), Text(
            "long rows were cut to the shortest; nothing may be cut off, fill up to the longest.",
            "最短の行に合わせて切っています。何も切らず、最長の行に合わせて埋めます。")),
        Slip(lambda r, p, left: _padded(r, p, left, real=False), Text(
            "the mask is inverted: True stands for real tokens.", "mask が逆です。実際のトークンが True です。")),
        Slip(lambda r, p, left: _padded(r, 0, left), Text(
            "the rows are filled with 0; fill them with `pad`.", "0 で埋めています。`pad` で埋めてください。")),
        Slip(lambda r, p, left: _padded(r, p, left, mixed=True), Text(
            "ids and mask do not agree: the mask is filled on the other side than the ids.",
            "ids と mask が食い違っています。mask が反対側に埋められています。")),
        Slip(lambda r, p, left: _padded(r, p, left, extra=1), Text(
            "there is one column too many; the longest row needs no padding.",
            "列が 1 つ多いです。最長の行に padding は要りません。")),
        Slip(lambda r, p, left: tuple(part.long() for part in _padded(r, p, left)), Text(
            "the mask must hold True and False: dtype=torch.bool.",
            "mask は True / False にします：dtype=torch.bool。")),
        Slip(lambda r, p, left: _padded(r, p, left)[::-1], Text(
            "ids and mask are swapped: return (ids, mask).", "順が逆です。(ids, mask) を返してください。")),
    ],
    hints=[
        Text("How wide must the tensor be so that nothing is lost? Begin with one that is padding everywhere.",
             "何も失わないために、テンソルの幅はいくつ必要ですか。まず全体を padding にします。"),
        Text("`ids = torch.full((len(rows), longest), pad)`, then for each row "
             "`ids[n, :len(row)] = torch.tensor(row)`, or `ids[n, longest - len(row):]` with left=True. "
             "The mask gets True at the same places.",
             "`ids = torch.full((len(rows), longest), pad)`、各行で `ids[n, :len(row)] = torch.tensor(row)`、"
             "left=True なら `ids[n, longest - len(row):]`。mask も同じ場所を True にします。"),
    ],
)  # fmt: skip

# ----------------------------------------------------------------------------------------- rates by part


def _parameter(*shape: int, learns: bool = True) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape), requires_grad=learns)


def _named_cases() -> list[tuple]:
    """Names that contain other parts' names; a frozen part; a kernel with four axes; a part without vectors."""
    first = [
        ("vision.patches.weight", _parameter(3, 2, 4, 5, learns=False)),
        ("vision.projector.bias", _parameter(3, learns=False)),
        ("projector.expand.weight", _parameter(4, 3)),
        ("projector.expand.bias", _parameter(4)),
        ("language.embedding.weight", _parameter(7, 2)),
        ("language.gate.weight", _parameter(5, 2)),
    ]
    second = [
        ("language.head.weight", _parameter(6, 5)),
        ("projector.bias", _parameter(5)),
        ("vision.patches.weight", _parameter(4, 3, 2, 2)),
        ("projector.scale", _parameter(3, learns=False)),
        ("language.vision_norm.scale", _parameter(6)),
    ]
    return [
        (first, {"language": 0.001, "projector": 0.01}, 0.1),
        (second, {"projector": 0.03, "vision": 0.002, "language": 0.001}, 0.05),
    ]


def _groups(named, rates, decay, *, frozen=False, part=None, flat=None, decays=None, rate=None, split=True, keep=False):
    """The right groups, or wrong ones: ``decays(flat)`` says which get weight decay."""
    part = part or (lambda name: name.split(".")[0])
    flat = flat or (lambda parameter: parameter.ndim < 2)
    decays = decays or (lambda is_flat: not is_flat)
    groups = {(each, vectors): {"params": [], "lr": rate(rates) if rate else rates[each],
                                "weight_decay": decay if decays(vectors) else 0.0}
              for each in rates for vectors in ((False, True) if split else (False,))}  # fmt: skip
    for name, parameter in named:
        if (parameter.requires_grad or frozen) and part(name) in rates:
            groups[part(name), split and flat(parameter)]["params"].append(parameter)
    return [group for group in groups.values() if group["params"] or keep]


def _anywhere(named, rates, decay):
    """The first part whose name occurs anywhere in the parameter's name."""
    return _groups(named, rates, decay, part=lambda name: next(part for part in (*rates, "vision") if part in name))


Exercise(
    slot=optimizers.rate_groups,
    chapter=CHAPTER,
    cases=_named_cases,
    axes={"return": "group"},
    slips=[
        Slip(lambda n, r, d: _groups(n, r, d, frozen=True), Text(
            "frozen parameters are among them; take those with requires_grad only.",
            "凍結されたパラメータが入っています。requires_grad が True のものだけにします。")),
        Slip(lambda n, r, d: _groups(n, r, d, decays=lambda flat: True), Text(
            "weight decay pulls at every parameter; biases and norms, with one axis, get 0.",
            "すべてに weight decay がかかっています。軸が 1 つの bias や norm は 0 にします。")),
        Slip(lambda n, r, d: _groups(n, r, d, decays=lambda flat: flat), Text(
            "weight decay is the wrong way round: matrices get it, vectors get 0.",
            "weight decay が逆です。行列にかけ、ベクトルは 0 にします。")),
        Slip(lambda n, r, d: _groups(n, r, d, decays=lambda flat: False), Text(
            "no group has weight decay; that of the matrices does.",
            "どの組にも weight decay がありません。行列の組には付けます。")),
        Slip(lambda n, r, d: _groups(n, r, d, split=False), Text(
            "matrices and vectors share a group, so biases are decayed too; make two groups for each part.",
            "行列とベクトルが同じ組なので、bias にも weight decay がかかります。部分ごとに 2 組に分けます。")),
        Slip(lambda n, r, d: _groups(n, r, d, rate=lambda rates: max(rates.values())), Text(
            "all groups have the same rate; each part has its own: rates[part].",
            "すべて同じ学習率です。部分ごとに rates[part] を使います。")),
        Slip(lambda n, r, d: _groups(n, r, d, flat=lambda p: p.ndim != 2), Text(
            "the patch kernel has four axes and counts as a matrix: two axes or more.",
            "パッチのカーネルは軸が 4 つで、行列に数えます。軸が 2 つ以上なら行列です。")),
        Slip(_anywhere, Text(
            "the part's name was searched anywhere in the parameter's name; it is the first word, before a dot.",
            "部分の名前を、パラメータ名のどこかで探しています。最初のピリオドより前の語で決めます。")),
        Slip(lambda n, r, d: _groups(n, r, d, keep=True), Text(
            "a group without parameters is left in; leave it out.",
            "パラメータのない組が残っています。除いてください。")),
        Slip(lambda n, r, d: _groups(n, dict(reversed(r.items())), d), Text(
            "the groups are right but in another order: parts as in `rates`, matrices before vectors.",
            "組は正しいですが順が違います。`rates` の順に、行列、ベクトルと並べます。")),
    ],
    hints=[
        Text("Go through the parts, and for each through the parameters. Which two questions decide the group of one "
             "that learns?",
             "部分ごとにパラメータを見ていきます。学習するものがどの組に入るかは、どの 2 つの問いで決まりますか。"),
        Text('For each part: `own = [p for name, p in named if name.split(".")[0] == part and p.requires_grad]`. Those '
             "with `p.ndim >= 2` are the first group, with weight decay; the others the second, with 0.0.",
             '部分ごとに `own = [p for name, p in named if name.split(".")[0] == part and p.requires_grad]`。'
             "`p.ndim >= 2` が weight decay ありの第 1 組、残りが 0.0 の第 2 組です。"),
    ],
)  # fmt: skip

# ------------------------------------------------------------------------------ an answer, token by token


def _write(model, prompt, mask, steps, end, pad, *, place=-1, stop=torch.all, blind=False, forget=False, closed=True,
           shown=True, hidden=False, empty=False, dim=1):  # fmt: skip
    """Greedy writing with one thing wrong, see the slips."""
    caches = [Cache() for _ in model.blocks]
    ended = torch.zeros(len(prompt), dtype=torch.bool)
    unread, written = prompt, []
    for _ in range(steps):
        look = {} if forget else {"caches": caches}
        seen = None if blind or forget else mask
        token = model.head(model.hidden(embeddings=unread, mask=seen, **look)[:, place]).argmax(-1)
        now = ended | (token == end)
        token = token.masked_fill(ended if shown else now, pad) if closed else token
        written.append(token)
        ended = now
        if stop(ended):
            break
        unread = torch.zeros_like(unread[:, :1]) if empty else model.embed(token[:, None])
        mask = F.pad(mask, (0, 1), value=not hidden)
    return torch.stack(written, dim=dim)


def _writing_case(seed: int, batch: int, token: int, width: int, steps: int, endless: int) -> tuple:
    """A small random LLaMA; rows are padded on the left and end after different numbers of tokens.

    Args:
        endless: how many rows never end.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Llama(LlamaConfig(13, width, depth=2, heads=2, groups=1))
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.0 if parameter.dim() == 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    prompt = torch.randn(batch, token, width, generator=generator)
    mask = torch.arange(token) >= torch.arange(batch)[:, None]
    free = _write(model, prompt, mask, steps, -1, 0)
    for end in range(1, 13):
        found = free == end
        first = torch.where(found.any(1), found.int().argmax(1), steps)
        apart = len(first.unique()) == batch and first.min() > 0
        if apart and (first == steps).sum() == endless and (endless or first.max() < steps - 2):
            return model, prompt, mask, steps, end, 0
    raise LookupError(f"no token ends the texts of seed {seed} as wanted")


Exercise(
    slot=generation.write_greedily,
    chapter=CHAPTER,
    cases=lambda: [_writing_case(SEEDS[0], 3, 5, 12, 9, 0), _writing_case(SEEDS[1], 2, 7, 8, 9, 1)],
    axes={"prompt": "batch token width", "mask": "batch token", "return": "batch written"},
    slips=[
        Slip(lambda *a: _write(*a, place=0), Text(
            "the next token is read from the first place; it follows the last one: [:, -1].",
            "次のトークンを最初の位置から読んでいます。最後の位置 [:, -1] の続きです。")),
        Slip(lambda *a: _write(*a, closed=False), Text(
            "rows that have ended go on writing while others are not done; give them `pad`.",
            "終わった行が、他の行を待つ間も書き続けています。`pad` を入れます。")),
        Slip(lambda *a: _write(*a, shown=False), Text(
            "the end token itself is replaced by `pad`; it is written, and `pad` comes after it.",
            "end のトークン自体が `pad` になっています。end は書き、`pad` はその後からです。")),
        Slip(lambda *a: _write(*a, stop=torch.any), Text(
            "writing stops when the first row has ended; go on until all have.",
            "最初の行が終わると止まっています。全行が終わるまで続けます。")),
        Slip(lambda *a: _write(*a, stop=lambda ended: False), Text(
            "it writes all `steps` even when every row has ended; stop then.",
            "全行が終わっても `steps` 回書いています。そこで止めます。")),
        Slip(lambda *a: _write(*a, blind=True), Text(
            "the mask is not handed to the model, so padding is read and takes up positions.",
            "mask をモデルに渡していません。padding まで読み、位置もずれます。")),
        Slip(lambda *a: _write(*a, hidden=True), Text(
            "what was written is marked as padding: the mask grows by True for every new token.",
            "書いたトークンが padding 扱いです。mask は新しいトークンごとに True を 1 つ足します。")),
        Slip(lambda *a: _write(*a, forget=True), Text(
            "each step forgets what came before: hand the same `caches` to the model every time.",
            "毎回それまでを忘れています。同じ `caches` を毎回渡します。")),
        Slip(lambda *a: _write(*a, empty=True), Text(
            "the model does not read what it wrote: the next input is the embedding of the new token.",
            "モデルが自分の書いたものを読んでいません。次の入力は新しいトークンの埋め込みです。")),
        Slip(lambda *a: _write(*a, dim=0), Text(
            "rows are steps: stack the tokens along dim=1.", "行がステップになっています。dim=1 で積みます。")),
    ],
    hints=[
        Text("The prompt is read once. What does the model read at the second step, and who remembers the rest?",
             "プロンプトを読むのは一度だけです。2 回目にモデルが読むのは何で、残りは誰が覚えていますか。"),
        Text("In the loop: `model.head(model.hidden(embeddings=unread, mask=mask, caches=caches)[:, -1]).argmax(-1)`, "
             "`masked_fill(ended, pad)`, then `unread = model.embed(token[:, None])` and "
             "`mask = F.pad(mask, (0, 1), value=True)`.",
             "ループの中で `model.head(model.hidden(embeddings=unread, mask=mask, caches=caches)[:, -1]).argmax(-1)`、"
             "`masked_fill(ended, pad)`、そして `unread = model.embed(token[:, None])` と "
             "`mask = F.pad(mask, (0, 1), value=True)`。"),
    ],
)  # fmt: skip
