"""Wrong answers to the exercises of chapter 08."""

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong
from vlmcourse.models.attention import Cache


@wrong("chat.render_chat", "`f'<{role}> {text}'`: with")
def a_space_behind_the_role(turns, prompt=False):
    """A space stands behind each role."""
    s = ""
    for role, text in turns:
        s += f"<{role}> {text}"
        if role == "assistant":
            s += "<end>"
    if prompt:
        s += "<assistant>"
    return s


@wrong("chat.render_chat", "`who == 'user'`: with")
def end_behind_the_user(turns, prompt=False):
    """<end> stands behind the user's turns, not behind the assistant's."""
    parts = []
    for who, what in turns:
        parts.append("<" + who + ">")
        parts.append(what)
        if who == "user":
            parts.append("<end>")
    return "".join(parts) + ("<assistant>" if prompt else "")


@wrong("chat.render_chat", "`f'<{r}>{t.lower()}' + ('<end>' if r == 'assistant' else '')`: with")
def capitals_are_lost(turns, prompt=False):
    """The texts are made lower case."""
    out = "".join(f"<{r}>{t.lower()}" + ("<end>" if r == "assistant" else "") for r, t in turns)
    return out + ("<assistant>" if prompt else "")


@wrong("chat.render_chat", "`'<assistant>' + out if prompt else out`: with")
def stripped(turns, prompt=False):
    """<assistant> is put in front of the text instead of behind it."""
    out = ""
    for role, text in turns:
        out += "<" + role + ">" + text
        if role == "assistant":
            out += "<end>"
    return "<assistant>" + out if prompt else out


@wrong("chat.label_mask", "the end is left out: it has to be predicted")
def state_before_the_end(ids, start=3, end=4):
    """The end is left out: the state is switched off before it is written."""
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for b in range(ids.size(0)):
        on = False
        for t in range(ids.size(1)):
            if ids[b, t] == end:
                on = False
            mask[b, t] = on
            if ids[b, t] == start:
                on = True
    return mask


@wrong("chat.label_mask", "the start is learned too; it is given")
def start_is_learned(ids, start=3, end=4):
    """The start token is learned too."""
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for b, row in enumerate(ids):
        on = False
        for t, token in enumerate(row):
            if token == start:
                on = True
            mask[b, t] = on
            if token == end:
                on = False
    return mask


@wrong("chat.label_mask", "cummax(0)")
def one_mask_for_all_rows(ids, start=3, end=4):
    """The latest places are sought down the batch, not along the row."""
    t = torch.arange(ids.shape[1])
    a = torch.where(ids == start, t, -1).cummax(0)[0]
    b = torch.where(ids == end, t, -1).cummax(0)[0]
    inside = a > b
    out = torch.zeros_like(inside)
    out[:, 1:] = inside[:, :-1]
    return out


@wrong("chat.label_mask", None)
def rolled(ids, start=3, end=4):
    """roll brings the last place to the front, where an open answer reaches round."""
    t = torch.arange(ids.shape[1])
    a = torch.where(ids == start, t, -1).cummax(1)[0]
    b = torch.where(ids == end, t, -1).cummax(1)[0]
    return (a > b).roll(1, dims=1)


@wrong("chat.collate", "`len(rows[0])`: with `max(map(len, rows))`")
def cut_to_the_first(rows, pad=0, left=False):
    """The width is that of the first row."""
    n = len(rows[0])
    ids, mask = [], []
    for r in rows:
        r = list(r)[:n]
        gap = n - len(r)
        ids.append([pad] * gap + r if left else r + [pad] * gap)
        mask.append([False] * gap + [True] * len(r) if left else [True] * len(r) + [False] * gap)
    return torch.tensor(ids), torch.tensor(mask)


@wrong("chat.collate", "the sides are swapped")
def sides_exchanged(rows, pad=0, left=False):
    """left pads on the right."""
    n = max(len(r) for r in rows)
    ids, mask = [], []
    for r in rows:
        gap = n - len(r)
        ids.append(r + [pad] * gap if left else [pad] * gap + r)
        mask.append([True] * len(r) + [False] * gap if left else [False] * gap + [True] * len(r))
    return torch.tensor(ids), torch.tensor(mask)


@wrong("chat.collate", "the mask must hold True and False")
def mask_of_numbers(rows, pad=0, left=False):
    """The mask holds 1 and 0, not True and False."""
    n = max(len(r) for r in rows)
    ids = torch.tensor([[pad] * (n - len(r)) + r if left else r + [pad] * (n - len(r)) for r in rows])
    mask = torch.tensor([[0] * (n - len(r)) + [1] * len(r) if left else [1] * len(r) + [0] * (n - len(r))
                         for r in rows])  # fmt: skip
    return ids, mask


@wrong("chat.collate", "the mask is inverted")
def mask_marks_padding(rows, pad=0, left=False):
    """The mask is True at the padding."""
    n = max(map(len, rows))
    ids = torch.full((len(rows), n), pad)
    mask = torch.ones(len(rows), n, dtype=torch.bool)
    for i, r in enumerate(rows):
        if left:
            ids[i, n - len(r) :] = torch.tensor(r)
            mask[i, n - len(r) :] = False
        else:
            ids[i, : len(r)] = torch.tensor(r)
            mask[i, : len(r)] = False
    return ids, mask


@wrong("chat.collate", "is a list, expected a Tensor")
def lists_are_returned(rows, pad=0, left=False):
    """Lists are returned, not tensors."""
    n = max(map(len, rows))
    ids = [[pad] * (n - len(r)) + r if left else r + [pad] * (n - len(r)) for r in rows]
    return ids, [[x != pad for x in r] for r in ids]


@wrong("generation.write_greedily", "`done | (tok != end)`: with")
def ends_when_it_does_not(model, prompt, mask, steps, end, pad=0):
    """!= where == belongs: a row counts as ended when it has not ended."""
    caches = [Cache() for _ in model.blocks]
    x, done, out = prompt, torch.zeros(len(prompt), dtype=torch.bool), []
    while len(out) < steps:
        h = model.hidden(embeddings=x, mask=mask, caches=caches)
        tok = model.head(h[:, -1]).argmax(-1)
        tok = torch.where(done, pad, tok)
        out.append(tok)
        done = done | (tok != end)
        if done.all():
            break
        x = model.embed(tok.unsqueeze(1))
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=torch.bool)], 1)
    return torch.stack(out, 1)


@wrong("generation.write_greedily", "it takes one step too few")
def one_step_too_few(model, prompt, mask, steps, end, pad=0):
    """The loop makes one step too few."""
    caches = [Cache() for _ in model.blocks]
    x, done, out = prompt, torch.zeros(len(prompt), dtype=torch.bool), []
    for _ in range(1, steps):
        h = model.hidden(embeddings=x, mask=mask, caches=caches)
        tok = model.head(h[:, -1]).argmax(-1).masked_fill(done, pad)
        out.append(tok)
        done |= tok == end
        if done.all():
            break
        x = model.embed(tok[:, None])
        mask = F.pad(mask, (0, 1), value=True)
    return torch.stack(out, 1)


@wrong("generation.write_greedily", "the model read 18 tokens, but the prompt and one for each step are 14")
def prompt_is_read_again(model, prompt, mask, steps, end, pad=0):
    """The prompt is read again at every step although the cache keeps it."""
    caches = [Cache() for _ in model.blocks]
    x, done, out = prompt, torch.zeros(len(prompt), dtype=torch.bool), []
    for _ in range(steps):
        h = model.hidden(embeddings=x, mask=mask, caches=caches)
        tok = model.head(h[:, -1]).argmax(-1).masked_fill(done, pad)
        out.append(tok)
        done = done | (tok == end)
        if done.all():
            break
        x = torch.cat([x, model.embed(tok[:, None])], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), x.size(1))], 1)
    return torch.stack(out, 1)


@wrong("generation.write_greedily", "the head is left out")
def head_forgotten(model, prompt, mask, steps, end, pad=0):
    """The head is not called: argmax runs over the hidden vector."""
    caches = [Cache() for _ in model.blocks]
    x, done, out = prompt, torch.zeros(len(prompt), dtype=torch.bool), []
    for _ in range(steps):
        h = model.hidden(embeddings=x, mask=mask, caches=caches)[:, -1]
        tok = h.argmax(-1).masked_fill(done, pad)
        out.append(tok)
        done = done | (tok == end)
        if done.all():
            break
        x = model.embed(tok[:, None])
        mask = F.pad(mask, (0, 1), value=True)
    return torch.stack(out, 1)


@wrong("optimizers.rate_groups", "weight decay is the wrong way round")
def decay_for_vectors(named, rates, weight_decay):
    """Vectors get the weight decay and matrices none."""
    groups = []
    for part in rates:
        mine = [p for n, p in named if n.startswith(part + ".") and p.requires_grad]
        for big in (True, False):
            params = [p for p in mine if (p.dim() > 1) == big]
            if params:
                decay = 0.0 if big else weight_decay
                groups.append({"params": params, "lr": rates[part], "weight_decay": decay})
    return groups


@wrong("optimizers.rate_groups", "frozen parameters are among them")
def frozen_included(named, rates, weight_decay):
    """Frozen parameters are among them."""
    groups = []
    for part, lr in rates.items():
        mats = [p for n, p in named if n.split(".")[0] == part and p.dim() >= 2]
        vecs = [p for n, p in named if n.split(".")[0] == part and p.dim() < 2]
        if mats:
            groups.append(dict(params=mats, lr=lr, weight_decay=weight_decay))
        if vecs:
            groups.append(dict(params=vecs, lr=lr, weight_decay=0.0))
    return groups


@wrong("optimizers.rate_groups", "a part is told by how the name begins, so `vision` takes `vision_norm` too")
def prefix_without_dot(named, rates, weight_decay):
    """The prefix is compared without its dot, so vision takes vision_norm too."""
    out = []
    for part, lr in rates.items():
        ps = [p for n, p in named if n.startswith(part) and p.requires_grad]
        a = [p for p in ps if p.ndim > 1]
        b = [p for p in ps if p.ndim <= 1]
        if a:
            out.append({"params": a, "lr": lr, "weight_decay": weight_decay})
        if b:
            out.append({"params": b, "lr": lr, "weight_decay": 0.0})
    return out


@wrong("optimizers.rate_groups", "weight decay pulls at every parameter")
def one_decay_for_all(named, rates, weight_decay):
    """Vectors are decayed as well."""
    out = []
    for part, lr in rates.items():
        ps = [p for n, p in named if n.split(".")[0] == part and p.requires_grad]
        a = [p for p in ps if p.ndim > 1]
        b = [p for p in ps if p.ndim <= 1]
        if a:
            out.append({"params": a, "lr": lr, "weight_decay": weight_decay})
        if b:
            out.append({"params": b, "lr": lr, "weight_decay": weight_decay})
    return out
