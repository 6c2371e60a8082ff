"""Wrong answers to the exercises of chapters 03, 06, 07 and 17."""

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong


@wrong("cnn.conv2d", "`x.unfold(2, kh, stride).unfold(3, kw, 1)`: with")
def stride_only_downwards(images, weight, stride=1, padding=0, groups=1):
    """The stride is used for rows only; columns move by one."""
    b, _c, _h, _w = images.shape
    f, part, kh, kw = weight.shape
    x = F.pad(images, (padding,) * 4)
    win = x.unfold(2, kh, stride).unfold(3, kw, 1)
    win = win.reshape(b, groups, part, *win.shape[2:])
    k = weight.reshape(groups, f // groups, part, kh, kw)
    return torch.einsum("bgcyxij,gfcij->bgfyx", win, k).flatten(1, 2)


@wrong("cnn.conv2d", None)
def padding_on_two_sides(images, weight, stride=1, padding=0, groups=1):
    """The columns are not padded."""
    b, _c, _h, _w = images.shape
    f, part, kh, kw = weight.shape
    x = F.pad(images, (0, 0, padding, padding))
    win = x.unfold(2, kh, stride).unfold(3, kw, stride)
    win = win.reshape(b, groups, part, *win.shape[2:])
    k = weight.reshape(groups, f // groups, part, kh, kw)
    return torch.einsum("bgcyxij,gfcij->bgfyx", win, k).flatten(1, 2)


@wrong("cnn.residual_block", "`torch.clamp(body(images), min=0)`: with")
def relu_inside(images, body, shortcut):
    """The body's result goes through the ReLU a second time before the sum."""
    y = torch.clamp(body(images), min=0)
    return torch.clamp(y + shortcut(images), min=0)


@wrong("cnn.residual_block", "`body(images) + s`: with")
def shortcut_of_the_body(images, body, shortcut):
    """The sum is taken twice the shortcut."""
    s = shortcut(images)
    y = body(images) + s
    return F.relu(y + s)


@wrong("efficientnet.squeeze_excite", "`torch.sigmoid(expand(reduce(pooled)))`: with")
def layers_exchanged(features, reduce, expand):
    """The silu is taken of the features, not between the layers."""
    pooled = F.silu(F.adaptive_avg_pool2d(features, 1).flatten(1))
    g = torch.sigmoid(expand(reduce(pooled)))
    return features * g[..., None, None]


@wrong("efficientnet.squeeze_excite", "`features * (1 + g).unsqueeze(-1).unsqueeze(-1)`: with")
def gate_added_to_one(features, reduce, expand):
    """The gate is 1 + sigmoid."""
    z = features.flatten(2).mean(-1)
    g = torch.sigmoid(expand(F.silu(reduce(z))))
    return features * (1 + g).unsqueeze(-1).unsqueeze(-1)


@wrong("efficientnet.mbconv", "`not skip and x.shape == features.shape`: with")
def skip_inverted(features, expand, depthwise, excite, project, skip):
    """The input is added when skip is False."""
    x = expand(features)
    x = depthwise(x)
    x = excite(x)
    x = project(x)
    if not skip and x.shape == features.shape:
        x = x + features
    return x


@wrong("efficientnet.mbconv", "`project(excite(deep) * deep)`: with")
def wide_map_added(features, expand, depthwise, excite, project, skip):
    """The excited map is multiplied with the filtered one again."""
    wide = expand(features)
    deep = depthwise(wide)
    out = project(excite(deep) * deep)
    return out + features if skip else out


@wrong("reach.receptive_field", "a layer's own stride is counted")
def stride_counted_too_early(kernels, strides):
    """A layer's own stride is counted before its kernel."""
    r, jump, out = 1, 1, []
    for k, s in zip(kernels.tolist(), strides.tolist(), strict=True):
        jump *= s
        r += (k - 1) * jump
        out.append(r)
    return torch.tensor(out)


@wrong("reach.receptive_field", "`zip(kernels.tolist(), strides.tolist(), strict=True)`: with")
def whole_kernel(kernels, strides):
    """Each layer adds its whole kernel."""
    r, jump, out = 1, 1, []
    for k, s in zip(kernels.tolist(), strides.tolist(), strict=True):
        r += k * jump
        jump *= s
        out.append(r)
    return torch.tensor(out)


@wrong("reach.attention_distance", "what went to the class token counts as distance 0")
def not_rescaled(weights, grid, patch_size):
    """The rows are not scaled to 1 again after the class token is left out."""
    h, w = grid
    idx = torch.arange(h * w)
    pos = torch.stack([idx // w, idx % w], dim=1).float()
    dist = torch.cdist(pos, pos) * patch_size
    a = weights[..., 1:, 1:]
    return (a * dist).sum(-1).mean(-1)


@wrong("reach.attention_distance", "rows and columns of the grid are swapped")
def columns_by_height(weights, grid, patch_size):
    """The place of a patch is divided by the number of rows, not of columns."""
    h, w = grid
    idx = torch.arange(h * w)
    pos = torch.stack([idx // h, idx % h], dim=1).to(weights.dtype)
    dist = (pos[:, None] - pos[None]).pow(2).sum(-1).sqrt() * patch_size
    a = weights[..., 1:, 1:]
    a = a / a.sum(-1, keepdim=True)
    return torch.einsum("...qk,qk->...q", a, dist).mean(-1)


@wrong("fusion.late_fusion", "`mix(torch.cat((text, img, img * img), dim=2))`: with")
def image_twice(image, text, mix):
    """The third part is image times image."""
    _b, t, _d = text.shape
    img = image.unsqueeze(1).repeat(1, t, 1)
    return mix(torch.cat((text, img, img * img), dim=2))


@wrong("fusion.late_fusion", "`torch.cat([img * text, text, img], dim=-1)`: with")
def product_first(image, text, mix):
    """The product stands in front."""
    img = image[:, None, :].expand(-1, text.size(1), -1)
    stacked = torch.cat([img * text, text, img], dim=-1)
    return mix(stacked)


@wrong("fusion.cross_attend", "the image went through the norm of the words")
def context_asks(tokens, context, norm, attend):
    """Context and tokens are normed together; the context must stay as it is."""
    q, kv = norm(tokens), norm(context)
    seen = attend(q, kv)
    return tokens + seen


@wrong("fusion.cross_attend", "`torch.cat([context, q], dim=1)`: with")
def looks_at_both(tokens, context, norm, attend):
    """The tokens look at themselves as well as at the context."""
    q = norm(tokens)
    kv = torch.cat([context, q], dim=1)
    return tokens + attend(q, kv)


@wrong("fusion.gated_cross_attend", "`tokens + gate * seen`: with")
def tanh_of_the_seen(tokens, context, norm, attend, gate):
    """The tanh stands around what was seen, not around the gate."""
    seen = torch.tanh(attend(norm(tokens), context))
    return tokens + gate * seen


@wrong("fusion.gated_cross_attend", "no gradient reaches gate")
def gate_is_a_number(tokens, context, norm, attend, gate):
    """The gate is read with .item() and does not learn."""
    g = torch.tanh(torch.tensor(gate.item()))
    return tokens + g.to(tokens.dtype) * attend(norm(tokens), context)


@wrong("fusion.inject", "every text begins again with image 0")
def same_image_for_all(embeddings, features, places):
    """Every text gets the first features again."""
    out = embeddings.clone()
    for b in range(len(out)):
        n = int(places[b].sum())
        out[b, places[b]] = features.flatten(0, 1)[:n].to(out.dtype)
    return out


@wrong("fusion.inject", "changes its input embeddings in place")
def in_place_injection(embeddings, features, places):
    """The given embeddings are overwritten."""
    embeddings[places] = features.reshape(-1, features.size(-1)).to(embeddings.dtype)
    return embeddings


@wrong("language.prefix_mask", "every token sees the whole prefix")
def anyone_sees_the_prefix(prefix):
    """Every query sees the prefix, also those before it."""
    b, n = prefix.shape
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    return causal[None] | prefix.unsqueeze(1).expand(b, n, n)


@wrong("language.prefix_mask", "`prefix[:, i] & prefix[:, j] & (j <= i)`: with")
def joined_by_and(prefix):
    """The two rules are joined by and."""
    b, n = prefix.shape
    out = torch.zeros(b, n, n, dtype=torch.bool)
    for i in range(n):
        for j in range(n):
            out[:, i, j] = (prefix[:, i] & prefix[:, j]) & (j <= i)
    return out


@wrong("projector.pixel_shuffle", "inside a square you go down first")
def squares_in_columns(features, factor, grid=None):
    """Inside a square the columns come before the rows."""
    n, p, d = features.shape
    h, w = grid or (int(p**0.5), int(p**0.5))
    x = features.view(n, h // factor, factor, w // factor, factor, d)
    x = torch.einsum("nyaxbd->nyxbad", x)
    return x.reshape(n, p // factor**2, d * factor**2)


@wrong("projector.pixel_shuffle", "rows and columns changed places")
def grid_ignored(features, factor, grid=None):
    """The grid is taken in the other order: (columns, rows)."""
    _n, p, _d = features.shape
    w, h = grid if grid is not None else (int(p**0.5), int(p**0.5))
    rows = []
    for y in range(0, h, factor):
        for x in range(0, w, factor):
            picks = [features[:, (y + i) * w + x + j] for i in range(factor) for j in range(factor)]
            rows.append(torch.cat(picks, dim=-1))
    return torch.stack(rows, dim=1)


@wrong("projector.project", "`F.gelu(h)`: with")
def gelu_twice(features, expand, contract):
    """The GELU is taken twice."""
    h = expand(features)
    h = F.gelu(h)
    h = F.gelu(h)
    return contract(h)


@wrong("projector.project", "`contract(h + F.gelu(h))`: with")
def residual_in_the_projector(features, expand, contract):
    """The hidden vector is added to its GELU."""
    h = expand(features)
    return contract(h + F.gelu(h))


@wrong("stages.alignment_loss", "each token is scored with the scores at its own place")
def not_shifted(logits, ids, given, mask):
    """Each token is scored with the scores at its own place."""
    n, _t, v = logits.shape
    labels = ids.clone()
    for i in range(n):
        labels[i, : given[i]] = -100
    labels[~mask] = -100
    return F.cross_entropy(logits.reshape(-1, v), labels.reshape(-1), ignore_index=-100)


@wrong("stages.alignment_loss", "padding is learned too")
def padding_counts(logits, ids, given, mask):
    """Padding is learned too."""
    n, _t, v = logits.shape
    labels = ids.clone()
    for i in range(n):
        labels[i, : given[i]] = -100
    return F.cross_entropy(logits[:, :-1].reshape(-1, v), labels[:, 1:].reshape(-1))


@wrong("stages.alignment_loss", "the caption's first token is missing")
def first_word_missing(logits, ids, given, mask):
    """The caption's first token is not learned: off by one."""
    n, t, _v = logits.shape
    pos = torch.arange(t).expand(n, t)
    keep = mask & (pos > given.unsqueeze(1))
    logp = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    keep = keep[:, 1:]
    return -(logp * keep).sum() / keep.sum()


@wrong("projector.spectrum", "`(s, h.exp())`: with")
def entropy_base_two(weight):
    """The entropy is in bits, the power has the base e."""
    _u, s, _v = torch.linalg.svd(weight.detach(), full_matrices=False)
    p = s / s.sum()
    p = p[p > 0]
    h = -(p * p.log2()).sum()
    return s, h.exp()


@wrong("stages.trained_names", "the projector is frozen in stage 2")
def language_only(names, stage):
    """In stage 2 the projector is left out."""
    keep = []
    for name in names:
        part = name.split(".")[0]
        if stage == 1 and part == "projector":
            keep.append(name)
        if stage == 2 and part == "language":
            keep.append(name)
    return keep


@wrong("keys.fuse", "a weight of theirs belongs to no name and is dropped in silence")
def extra_keys_pass(state, names):
    """A weight that belongs to no name is not noticed."""
    out = {}
    for mine, theirs in names.items():
        for key in theirs:
            if key not in state:
                raise KeyError(key)
        out[mine] = torch.cat([state[key] for key in theirs], dim=0)
    return out


@wrong("lora.lora_forward", "`frozen(tokens) + scale * delta + delta`: with")
def up_and_down_exchanged(tokens, frozen, down, up, scale):
    """The frozen result goes through the detour too: the tokens are added."""
    delta = tokens @ down.T @ up.T
    return frozen(tokens) + scale * delta + delta


@wrong("lora.lora_merge", "the scale counts twice")
def scaled_twice(weight, down, up, scale):
    """Both matrices are scaled, so the scale counts twice."""
    change = (up * scale) @ (down * scale)
    return weight + change


@wrong("lora.lora_numbers", "`out + rank * width`: with")
def one_rank_forgotten(layers, rank):
    """The rank multiplies only the width."""
    n = 0
    for out, width in layers:
        n += out + rank * width
    return n


@wrong("answers.answer_loss", "shifted the wrong way")
def labels_shifted_only(hidden, labels, head):
    """The labels are shifted the wrong way: position t is asked for the token at t - 1."""
    h, y = hidden[:, 1:], labels[:, :-1]
    keep = y != -100
    return F.cross_entropy(head(h[keep]), y[keep])


@wrong("keys.unfuse", "cut into equal thirds")
def equal_parts(state, names, rows):
    """The matrix is cut into equal parts."""
    out = {}
    for ours, theirs in names.items():
        n = state[ours].shape[0] // len(theirs)
        for i, key in enumerate(theirs):
            out[key] = state[ours][i * n : (i + 1) * n]
    return out
