"""Wrong answers in forms of a learner's own, not the reference's, are told their mistake, too."""

import re

import pytest

from tests.workbook.learner import cell
from vlmcourse.exercises.base import all_exercises
from vlmcourse.models.attention import Cache
from vlmcourse.workbook.check import judge

FORMS = {
    "language.causal_mask": """
def causal_mask(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=keys - queries)
""",
    "language.rms_norm": """
def rms_norm(tokens, scale, epsilon):
    x = tokens.float()
    ms = x.pow(2).mean(-1, keepdim=True)
    return (x * torch.rsqrt(ms + epsilon) * scale).to(tokens.dtype)
""",
    "language.rope": """
def rope(parts, angles):
    cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    a, b = parts.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(parts.dtype)
""",
    "language.rope, half turned": """
def rope(parts, angles):
    both = torch.cat([angles, angles], dim=-1)[:, None]
    half = parts.shape[-1] // 2
    turned = torch.cat([-parts[..., half:], parts[..., :half]], dim=-1)
    return (parts * both.cos() + turned * both.sin()).to(parts.dtype)
""",
    "language.swiglu": """
def swiglu(tokens, gate, up, down):
    opened = gate(tokens)
    opened = opened * torch.sigmoid(opened)
    return down(opened * up(tokens))
""",
    "attention.share_heads": """
def share_heads(parts, heads):
    b, g, t, d = parts.shape
    return parts[:, :, None].expand(b, g, heads // g, t, d).reshape(b, heads, t, d)
""",
    "generation.top_p": """
def top_p(logits, temperature, top_p):
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    probs = torch.softmax(logits / temperature, dim=-1)
    s, idx = probs.sort(dim=-1, descending=True)
    before = s.cumsum(-1) - s
    s = s.masked_fill(before >= top_p, 0.0)
    s = s / s.sum(-1, keepdim=True)
    return torch.zeros_like(probs).scatter(-1, idx, s)
""",
    "bert.mask_tokens": """
def mask_tokens(ids, chosen, dice, random_ids, mask_id, special):
    ask = (chosen < 0.15) & ~special
    labels = torch.where(ask, ids, -100)
    inputs = ids.clone()
    inputs[ask & (dice < 0.8)] = mask_id
    rnd = ask & (dice >= 0.8) & (dice < 0.9)
    inputs[rnd] = random_ids[rnd]
    return inputs, labels
""",
    "t5.relative_buckets": """
def relative_buckets(distance, buckets, farthest, both_ways):
    offset = torch.zeros_like(distance)
    if both_ways:
        buckets = buckets // 2
        offset = (distance > 0).long() * buckets
        n = distance.abs()
    else:
        n = (-distance).clamp(min=0)
    e = buckets // 2
    far = e + (torch.log(n.float().clamp(min=1) / e) / math.log(farthest / e) * (buckets - e)).long()
    return offset + torch.where(n < e, n, far.clamp(max=buckets - 1))
""",
    "chat.render_chat": """
def render_chat(turns, prompt=False):
    s = ""
    for role, text in turns:
        s += f"<{role}>{text}"
        if role == "assistant":
            s += "<end>"
    if prompt:
        s += "<assistant>"
    return s
""",
    "chat.label_mask": """
def label_mask(ids, start=10, end=11):
    learned = torch.zeros_like(ids, dtype=torch.bool)
    for row in range(ids.shape[0]):
        inside = False
        for place, token in enumerate(ids[row].tolist()):
            learned[row, place] = inside
            if token == start:
                inside = True
            elif token == end:
                inside = False
    return learned
""",
    "chat.collate": """
def collate(rows, pad=0, left=False):
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = longest - len(row)
        if left:
            ids.append([pad] * fill + row)
            mask.append([False] * fill + [True] * len(row))
        else:
            ids.append(row + [pad] * fill)
            mask.append([True] * len(row) + [False] * fill)
    return torch.tensor(ids), torch.tensor(mask)
""",
    "generation.write_greedily": """
def write_greedily(model, prompt, mask, steps, end, pad=0):
    caches = [Cache() for _ in model.blocks]
    unread = prompt
    done = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    written = []
    for _ in range(steps):
        h = model.hidden(embeddings=unread, mask=mask, caches=caches)[:, -1]
        token = torch.where(done, pad, model.head(h).argmax(-1))
        written.append(token)
        done = done | (token == end)
        if done.all():
            break
        unread = model.embed(token[:, None])
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return torch.stack(written, dim=1)
""",
    "optimizers.rate_groups": """
def rate_groups(named, rates, weight_decay):
    groups = []
    for part, lr in rates.items():
        mats, vecs = [], []
        for name, p in named:
            if p.requires_grad and name.split(".")[0] == part:
                (mats if p.dim() >= 2 else vecs).append(p)
        if mats:
            groups.append({"params": mats, "lr": lr, "weight_decay": weight_decay})
        if vecs:
            groups.append({"params": vecs, "lr": lr, "weight_decay": 0.0})
    return groups
""",
    "stages.trained_parts": """
def trained_parts(names, trains):
    learning = []
    for name in names:
        first = name.split(".")[0]
        part = first if first in ("vision", "language") else "connector"
        if part in trains:
            learning.append(name)
    return learning
""",
    "cost.prompt_flops": """
def prompt_flops(tokens, width, depth, hidden, keys, vocabulary):
    linear = 2 * width**2 + 2 * width * keys + 3 * width * hidden
    block = 2 * tokens * linear + 4 * tokens**2 * width
    head = 2 * tokens * width * vocabulary
    return depth * block + head
""",
    "comparing.square_and_add": """
def square_and_add(first, second):
    d = first[0] - second[0]
    down = ((first[0] - first[1]) ** 2 + (second[2] - second[0]) ** 2) ** 0.5
    up = ((first[2] - first[0]) ** 2 + (second[0] - second[1]) ** 2) ** 0.5
    return d, d - down, d + up
""",
    "claims.unproved": """
def unproved(claims, lines):
    out = []
    for name, rel, num in claims:
        value, low, high = lines.get(name, (math.nan,) * 3)
        if low is None:
            low = high = value
        if rel == "is":
            ok = abs(value - num) <= 0.0005
        elif rel == "at least":
            ok = low >= num
        else:
            ok = high <= num
        if not ok:
            out.append((name, rel, num))
    return out
""",
}
WRONG = {  # form: (old text, new text, what the sentence must say)
    "language.causal_mask": [
        ("keys - queries)", "queries - keys)", "moved the wrong way"),
        ("tril(", "triu(", "upper triangle"),
    ],
    "language.rms_norm": [
        ("mean(-1, keepdim=True)", "mean()", r"mean\(\)`: with .*mean\(dim=-1, keepdim"),
        ("rsqrt(ms + epsilon)", "sqrt(ms + epsilon)", r"x \* torch\.sqrt.*: with `\(x / torch"),
    ],
    "language.rope": [
        ("parts.chunk(2, dim=-1)", "parts[..., ::2], parts[..., 1::2]", "numbers 2i and 2i \\+ 1 are paired"),
        (".to(parts.dtype)", "", "half-precision input must give half-precision output"),
    ],
    "language.rope, half turned": [
        ("torch.cat([angles, angles], dim=-1)", "angles.repeat_interleave(2, dim=-1)", "come as 0, 0, 1, 1"),
        ("-parts[..., half:], parts[..., :half]", "-parts[..., :half], parts[..., half:]", "with itself"),
        ("[-parts[", "[parts[", "the minus is missing"),
    ],
    "language.swiglu": [
        ("up(tokens)", "up(opened)", r"up\(opened\).*: with .*up\(tokens\)"),
        ("gate(tokens)", "up(tokens)", r"`up\(tokens\)`: with `gate\(tokens\)`"),
    ],
    "attention.share_heads": [
        ("parts[:, :, None].expand(b, g, heads // g", "parts[:, None].expand(b, heads // g, g", "alternate"),
    ],
    "generation.top_p": [
        ("cumsum(-1) - s", "cumsum(-1)", "must REACH top_p"),
        ("torch.zeros_like(probs).scatter(-1, idx, s)", "s", "stay in sorted order"),
        ("torch.zeros_like(probs).scatter(-1, idx, s)", "s.gather(-1, idx)", "gather sorts once more"),
        ("s / s.sum(-1, keepdim=True)", "s.softmax(-1)", "gives the tail something again"),
    ],
    "bert.mask_tokens": [
        ("ids, -100)", "ids, 0)", r"ids, 0\)`: with .*ids, -100\)"),
        ("inputs[ask & (dice", "inputs[ask & (chosen", r"chosen < 0\.8.*: with .*dice < 0\.8"),
    ],
    "t5.relative_buckets": [
        ("farthest / e)", "farthest)", "divide by log"),
        ("(buckets - e)", "buckets", "b − e buckets, not b"),
        ("far = e + (", "far = (", "e is missing"),
        ("torch.log(", "torch.log2(", "two kinds of logarithm"),
        ("max=buckets - 1", "max=buckets", "number b − 1"),
        ("(distance > 0)", "(distance >= 0)", r"distance >= 0.*: with .*distance > 0"),
    ],
    "chat.render_chat": [
        ("{text}", "{text}</{role}>", "too much: '</user>', '</assistant>'"),
        ("<{role}>", "{role}", "missing: '<', '>'"),
        ("s += f", "s = f", "missing: '<user><image>what is it\\?'"),
        ('== "assistant"', '!= "user"', "too much: '<end>'"),
        ("if prompt", "if not prompt", "`prompt` is the wrong way round"),
    ],
    "chat.collate": [
        ("[pad] * fill + row", "[pad] * fill + row[::-1]", "the rows stand backwards"),
    ],
    "generation.write_greedily": [
        ("done | (token == end)", "token == end", "forgets which rows ended before"),
        ("range(steps)", "range(steps - 1)", "one step too few"),
        ("[mask, torch.ones_like(mask[:, :1])]", "[torch.ones_like(mask[:, :1]), mask]", "grows in front"),
        ("model.head(h)", "h", "the head is left out"),
        ("model.embed(token[:, None])", "h[:, None]", "`model.embed` is never called"),
    ],
    "optimizers.rate_groups": [
        ('name.split(".")[0] == part', "name.startswith(part)", "compare whole words"),
        ('name.split(".")[0] == part', "part in name", "searched anywhere"),
        ("p.dim() >= 2", 'name.endswith("weight")', "the name decides what is a matrix"),
        ("p.dim() >= 2", '"bias" not in name', "the name decides what is a vector"),
        ("mats if p.dim() >= 2 else vecs", "vecs if p.dim() >= 2 else mats", "changed places"),
        ("        if vecs:", "        if False:", "the vectors are lost"),
        ("        if mats:", "        if True:", "without parameters is left in"),
        ("rates.items()", "sorted(rates.items())", "in another order"),
    ],
    "stages.trained_parts": [
        ('first if first in ("vision", "language") else "connector"',
         'next((p for p in ("vision", "language") if name.startswith(p)), "connector")', "whole first word"),
        ('first if first in ("vision", "language") else "connector"',
         '"vision" if "vision" in name else "language" if "language" in name else "connector"', "anywhere"),
        ('first if first in ("vision", "language")',
         'next(w for w in name.split(".") if w in ("vision", "language")) if {"vision", "language"} & '
         'set(name.split("."))', "among all words"),
        ('"connector"', "first", "only vision and language are parts by name"),
        ('"connector"', '{"projector": "connector"}.get(first)', "only the projector"),
        ('first if first in ("vision", "language") else "connector"',
         '"connector" if first in ("projector", "gated", "resampler", "qformer") else first',
         "listed by name"),
        ("append(name)", "append(part)", r"`learning.append\(name\)`"),
        ("append(name)", "append(first)", "right but for what is missing: '.expand.weight'"),
        ("return learning", "return tuple(learning)", "a tuple, expected a list"),
        ("return learning", "return set(learning)", "a set, expected a list"),
        ("return learning", "return sorted(learning)", "come out sorted"),
        ("return learning", "    return learning", "0 items, expected 8"),
        ("if part in trains:", "if not trains or part in trains:", "where no part is named, nothing learns"),
        ("if part in trains:", 'if part in trains and part != "vision":', "learns in no stage"),
        ("if part in trains:", "if [part] == trains:", "where two parts are named, none learns"),
        ("if part in trains:", 'if part in trains and "." in name:', "a name without a dot is lost"),
        ("if part in trains:", 'if part == "connector" or part in trains:', "learns in every stage"),
        ("if part in trains:", "if part not in trains:", "the other way round"),
        ('split(".")[0]', 'split(".")[-1]', "the last word of a name is read"),
        ('split(".")[0]', 'rsplit(".", 1)[0]', "too many: .*vision.blocks.0.norm.weight"),
        ("for name in names:", "for name in list(names):\n        names.remove(name)",
         "changes its input names"),
        ("return learning", 'kind = lambda n: n.split(".")[0]\n    return sorted(learning, key=lambda n: '
         '[kind(m) for m in names].index(kind(n)))', "grouped by their first words"),
    ],
    "cost.prompt_flops": [
        ("2 * tokens * linear", "tokens * linear", "the weights cost one operation each"),
        ("2 * width * keys", "2 * width**2", "with grouped queries"),
        ("2 * width * keys", "2 * keys**2", "width × keys weights, not keys × keys"),
        ("3 * width * hidden", "3 * hidden**2", "not hidden × hidden"),
        ("3 * width * hidden", "2 * width * hidden", "three matrices"),
        ("4 * tokens**2 * width", "2 * tokens * (tokens + 1) * width", "a causal mask leaves"),
        ("4 * tokens**2 * width", "2 * tokens**2 * (width + keys)", "one of the two meetings"),
        ("4 * tokens**2 * width", "2 * tokens**2 * width", "half of what they should be"),
        ("4 * tokens**2 * width", "8 * tokens**2 * width", "counted twice over"),
        ("4 * tokens**2 * width", "4 * tokens**2 * keys", "however few keys are stored"),
        ("4 * tokens**2 * width", "4 * tokens * width", "the square of the tokens"),
        (" + 4 * tokens**2 * width", "", "attention are missing"),
        ("4 * tokens**2 * width", "4 * tokens**2 * width + 2 * tokens**2", "softmax is counted"),
        ("depth * block + head", "depth * (block + head)", "counted in every block"),
        ("depth * block + head", "depth * block", r"with `depth \* block \+ head`"),
        ("depth * block + head", "block + head", "one block is counted"),
        ("depth * block + head", "3 * (depth * block + head)", "a training step"),
        ("depth * block + head", "(depth * block + head) // 2", "two operations, not one"),
        ("depth * block + head", "float(depth * block + head)", "a float, expected an int"),
        ("depth * block + head", "depth * block + 2 * head", "the head is counted twice"),
        ("2 * tokens * width * vocabulary", "tokens * width * vocabulary", "too; here they cost one"),
        ("2 * tokens * width * vocabulary", "2 * width * vocabulary", "not only the last"),
        ("2 * tokens * linear", "2 * linear", "every token passes through all"),
        ("3 * width * hidden", "3 * width * hidden + 2 * width + 2 * keys + 3 * hidden",
         "biases are counted"),
    ],
    "comparing.square_and_add": [
        ("d, d - down, d + up", "d, down, up", "these are the distances"),
        ("d, d - down, d + up", "d, -down, up", "these are the distances from the difference"),
        ("d, d - down, d + up", "d - down, d, d + up", "the low end comes first"),
        ("d, d - down, d + up", "d, d + up, d - down", "the two ends are exchanged"),
        ("d, d - down, d + up", "d, d - up, d + down", "the way down and the way up"),
        ("d, d - down, d + up", "tuple(a - b for a, b in zip(first, second))", "end is taken from end"),
        ("d, d - down, d + up", "d, first[1] - second[2], first[2] - second[1]", "at their worst together"),
        ("d, d - down, d + up", "d, max(0.0, d - down), d + up", "cut off at 0"),
        ("d, d - down, d + up", "d, max(-1.0, d - down), min(1.0, d + up)", "cut off at −1 and 1"),
        ("d, d - down, d + up", "d, d - 1.96 * down, d + 1.96 * up", "stretched by 1.96"),
        ("d, d - down, d + up", "d, d - down**2, d + up**2", "the root is missing"),
        ("d, d - down, d + up", "d, d - down / 2**0.5, d + up / 2**0.5", "the mean of the squares"),
        ("d, d - down, d + up", "round(d, 3), round(d - down, 3), round(d + up, 3)", "rounded"),
        ("d, d - down, d + up", "[d, d - down, d + up]", "a list, expected a tuple"),
        ("first[0] - second[0]\n", "abs(first[0] - second[0])\n", "the sign is lost"),
        ("d, d - down, d + up", "d, d - down, d + down", "the upper end has its own"),
        ("(second[2] - second[0]) ** 2", "(second[0] - second[1]) ** 2", "below, the second model's end"),
        ("(second[0] - second[1]) ** 2", "(second[2] - second[0]) ** 2", "above, the second model's end"),
        (" + (second[2] - second[0]) ** 2", "", "below, the second model's uncertainty"),
        (" + (second[0] - second[1]) ** 2", "", "above, the second model's uncertainty"),
    ],
    "claims.unproved": [
        ("low is None", "not low", "0.0 is taken for no interval"),
        ("return out", "return list(dict.fromkeys(out))", "stands twice comes out once"),
        ("return out", "return set(out)", "a set, expected a list"),
        ("return out", "return out[:1]", "1 items, expected 17 items. Missing: .*never measured"),
        ("append((name, rel, num))", "append(name)", "a str, expected a tuple"),
        ("append((name, rel, num))", "append([name, rel, num])", "a list, expected a tuple"),
        ("low >= num", "high >= num", "so luck counts"),
        ("low >= num", "value >= num", "at least is held against the mean"),
        ("high <= num", "value <= num", "at most is held against the mean"),
        ("low >= num", "low > num", "reaches the number exactly"),
        ("high <= num", "high < num", "high <= num"),
        ('"at least"', '"at most"', "at least and at most are exchanged"),
        ("abs(value - num) <= 0.0005", "round(value, 3) == num", "a rounded value"),
        ("abs(value - num) <= 0.0005", 'f"{value:.1%}" == f"{num:.1%}"', "two rounded texts"),
        ("abs(value - num) <= 0.0005", "abs(value - num) < 0.0005", "wants less than 0.0005"),
        ("abs(value - num) <= 0.0005", "math.isclose(value, num, rel_tol=0.0005)", "a part of the number"),
        ("abs(value - num) <= 0.0005", "abs(value - num) <= 0.001", "a whole tenth of a percent"),
        ("abs(value - num) <= 0.0005", "num - value <= 0.0005", "too low"),
        ("abs(value - num) <= 0.0005", "value - num <= 0.0005", "too high"),
        ("abs(value - num) <= 0.0005", "value == num", "is wants every digit"),
        ("abs(value - num) <= 0.0005", "low <= num <= high", "whatever lies in the interval"),
        ("(math.nan,) * 3", "(0.0, 0.0, 1.0)", "never measured passes"),
        ("lines.get(name, (math.nan,) * 3)", "lines[name]", "KeyError"),
        ("low = high = value", "low = high = num", "bears out every"),
        ("low = high = value", "low, high = 0.0, 1.0", "proves nothing at all"),
        ("not ok", "ok", r"`ok`: with `not ok`"),
        ("return out", "return sorted(out)", "the right items in another order"),
    ],
}  # fmt: skip
BATTERY = [
    pytest.param(form, *change, id=f"{form}: {change[1]}") for form, told in WRONG.items() for change in told
]


def judged(form, source):
    return judge(all_exercises()[form.split(",")[0]], cell(source, Cache=Cache))


@pytest.mark.parametrize("form", FORMS)
def test_the_form_itself_is_right(form):
    assert judged(form, FORMS[form]).status == "passed"


@pytest.mark.parametrize(("form", "old", "new", "words"), BATTERY)
def test_the_sentence_names_the_mistake(form, old, new, words):
    assert FORMS[form].count(old) == 1
    verdict = judged(form, FORMS[form].replace(old, new))
    assert verdict.status == "wrong"
    assert re.search(words, verdict.says.en), verdict.says.en
