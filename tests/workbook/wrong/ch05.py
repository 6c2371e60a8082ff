"""Wrong answers to the exercises of chapter 05."""

import math

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong


@wrong("bpe.merge_pair", "`out.append(b + a)`: with")
def the_pair_reversed(tokens, pair):
    """The merged token is spelled second part first."""
    a, b = pair
    out, i = [], 0
    while i < len(tokens):
        if i + 1 < len(tokens) and tokens[i] == a and tokens[i + 1] == b:
            out.append(b + a)
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


@wrong("bpe.merge_pair", "a token is used twice")
def overlapping_pairs(tokens, pair):
    """A token that was merged can be merged once more with the next one."""
    out = []
    for i, token in enumerate(tokens):
        if i + 1 < len(tokens) and (token, tokens[i + 1]) == pair:
            out.append(token + tokens[i + 1])
        elif i == 0 or (tokens[i - 1], token) != pair:
            out.append(token)
    return out


@wrong("bpe.merge_pair", "differs only in spaces")
def joined_with_a_space(tokens, pair):
    """The two parts are joined with a space between them."""
    new, k = [], 0
    while k < len(tokens):
        if tuple(tokens[k : k + 2]) == tuple(pair):
            new.append(" ".join(pair))
            k = k + 2
        else:
            new.append(tokens[k])
            k = k + 1
    return new


@wrong("language.causal_mask", "a token must see itself too")
def not_itself(queries, keys):
    """The diagonal is left out: a token does not see itself."""
    full = torch.ones(queries, keys, dtype=torch.bool)
    return torch.tril(full, diagonal=keys - queries - 1)


@wrong("language.causal_mask", "right without a cache")
def triangle_in_the_upper_corner(queries, keys):
    """The triangle starts in the upper left corner; with a cache it must end in the lower right one."""
    mask = torch.zeros(queries, keys, dtype=torch.bool)
    for i in range(queries):
        for j in range(keys):
            mask[i, j] = j <= i
    return mask


@wrong("language.causal_mask", "the mask is upside down")
def upper_triangle(queries, keys):
    """True marks what is forbidden."""
    return torch.triu(torch.ones(queries, keys), diagonal=1 + keys - queries).bool()


@wrong("language.rms_norm", "epsilon stands outside the root")
def epsilon_outside_of_the_mean(tokens, scale, epsilon):
    """Epsilon is added to the root."""
    x = tokens.to(torch.float32)
    rms = x.pow(2).mean(-1, keepdim=True).sqrt() + epsilon
    return (x / rms * scale).type_as(tokens)


@wrong("language.rms_norm", "the mean is subtracted")
def layer_norm(tokens, scale, epsilon):
    """It subtracts the mean, as layer norm does."""
    x = tokens.float()
    mu = x.mean(-1, keepdim=True)
    var = ((x - mu) ** 2).mean(-1, keepdim=True)
    return ((x - mu) / (var + epsilon).sqrt() * scale).to(tokens.dtype)


@wrong("language.rms_norm", "`x.square().sum(-1, keepdim=True) / (n - 1)`: with")
def unbiased(tokens, scale, epsilon):
    """The sum of squares is divided by width - 1."""
    x = tokens.float()
    n = x.shape[-1]
    ms = x.square().sum(-1, keepdim=True) / (n - 1)
    return (scale * x / torch.sqrt(ms + epsilon)).to(tokens.dtype)


@wrong("language.rms_norm", "`x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-06)`: with")
def fixed_epsilon(tokens, scale, epsilon):
    """Epsilon is fixed at 1e-6."""
    x = tokens.float()
    x = x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-6)
    return (x * scale).to(tokens.dtype)


@wrong("language.rope", "it turns the wrong way round")
def turned_backwards(parts, angles):
    """It turns the wrong way round."""
    half = parts.size(-1) // 2
    a, b = parts[..., :half], parts[..., half:]
    c, s = torch.cos(angles).unsqueeze(1), torch.sin(angles).unsqueeze(1)
    return torch.cat((a * c + b * s, b * c - a * s), dim=-1).to(parts.dtype)


@wrong("language.rope", "the minus is missing")
def rotate_half_without_minus(parts, angles):
    """The rotated half lacks its minus."""
    cos = torch.cat([angles, angles], -1).cos()[:, None]
    sin = torch.cat([angles, angles], -1).sin()[:, None]
    x1, x2 = parts.chunk(2, -1)
    rotated = torch.cat([x2, x1], -1)
    return (parts * cos + rotated * sin).to(parts.dtype)


@wrong("language.rope", "right for `angles[:1]` in place of `angles`")
def angles_of_the_first_text(parts, angles):
    """Every text is turned by the angles of the first one."""
    cos, sin = angles[0].cos(), angles[0].sin()
    x1, x2 = parts.chunk(2, -1)
    return torch.cat([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1).to(parts.dtype)


@wrong("language.swiglu", "`u * torch.sigmoid(u)`: with")
def silu_of_both(tokens, gate, up, down):
    """Both branches go through the silu."""
    g = gate(tokens)
    u = up(tokens)
    g = g * torch.sigmoid(g)
    u = u * torch.sigmoid(u)
    return down(g * u)


@wrong("language.swiglu", "`down(a + h)`: with")
def one_after_the_other(tokens, gate, up, down):
    """gate gets what it should, but its result is doubled by a residual inside."""
    h = up(tokens)
    a = F.silu(gate(tokens)) * h
    return down(a + h)


@wrong("language.swiglu", "`g / (1 + torch.exp(g))`: with")
def negative_sigmoid(tokens, gate, up, down):
    """The sigmoid of the gate has the wrong sign."""
    g = gate(tokens)
    act = g / (1 + torch.exp(g))
    return down(act * up(tokens))


@wrong("attention.share_heads", "the groups alternate 0")
def tiled(parts, heads):
    """The groups alternate instead of standing beside their copies."""
    b, g, t, d = parts.shape
    r = heads // g
    return parts[:, None].expand(b, r, g, t, d).reshape(b, heads, t, d)


@wrong("attention.share_heads", "right for `parts.mean(1)` in place of `parts`")
def mixed_heads(parts, heads):
    """It averages the groups, so that every head has the same keys."""
    mean = parts.mean(dim=1, keepdim=True)
    return mean.repeat(1, heads, 1, 1)


@wrong("attention.share_heads", "`range(heads // g - 1)`: with")
def one_copy_too_few(parts, heads):
    """One copy of each group is missing."""
    g = parts.size(1)
    copies = [parts[:, i : i + 1] for i in range(g) for _ in range(heads // g - 1)]
    return torch.cat(copies, dim=1)


@wrong("attention.extend_cache", None)
def values_are_new_only(old, key, value):
    """The old values are forgotten."""
    if old is not None:
        k_old, _v_old = old
        key = torch.cat((k_old, key), dim=-2)
    return key, value


@wrong("attention.extend_cache", "the new tokens stand before the old ones")
def prepended(old, key, value):
    """The new tokens stand in front of the old ones."""
    if old is None:
        return key, value
    past_k, past_v = old
    return torch.cat((key, past_k), -2), torch.cat((value, past_v), -2)


@wrong("attention.extend_cache", None)
def added_in_place(old, key, value):
    """The new keys are added to the old ones and not joined behind them."""
    if old is None:
        return key, value
    return old[0] + key, old[1] + value


@wrong("generation.top_p", "the token that crosses the line is missing")
def crossing_token_dropped(logits, temperature, top_p):
    """The token that crosses the line is dropped."""
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.size(-1)).to(logits.dtype)
    p = torch.softmax(logits / temperature, -1)
    s, idx = torch.sort(p, dim=-1, descending=True)
    keep = torch.cumsum(s, -1) < top_p
    s = torch.where(keep, s, torch.zeros_like(s))
    s = s / s.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter_(-1, idx, s)


@wrong("generation.top_p", "gather sorts once more; scatter puts every token back")
def gather_for_scatter(logits, temperature, top_p):
    """It gathers where it must scatter."""
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.size(-1)).to(logits.dtype)
    p = torch.softmax(logits / temperature, -1)
    if top_p == 1:
        return p
    s, idx = torch.sort(p, dim=-1, descending=True)
    before = torch.cumsum(s, -1) - s
    s = s.masked_fill(before >= top_p, 0)
    s = s / s.sum(-1, keepdim=True)
    return s.gather(-1, idx)


@wrong("generation.top_p", "the temperature is not used")
def temperature_after_softmax(logits, temperature, top_p):
    """The temperature divides the probabilities, not the logits."""
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.size(-1)).to(logits.dtype)
    p = logits.softmax(-1) / temperature
    p = p / p.sum(-1, keepdim=True)
    if top_p == 1:
        return p
    s, idx = torch.sort(p, dim=-1, descending=True)
    before = torch.cumsum(s, -1) - s
    s = s.masked_fill(before >= top_p, 0)
    return torch.zeros_like(p).scatter(-1, idx, s / s.sum(-1, keepdim=True))


@wrong("bert.mask_tokens", "`torch.where(special, torch.full_like(ids, -100), ids)`: with")
def labels_everywhere_but_special(ids, chosen, dice, random_ids, mask_id, special):
    """The labels stand at all tokens that are not special."""
    pick = (chosen < 0.15) & (special == 0)
    x = torch.where(pick & (dice < 0.8), torch.full_like(ids, mask_id), ids)
    x = torch.where(pick & (dice >= 0.8) & (dice < 0.9), random_ids, x)
    y = torch.where(special, torch.full_like(ids, -100), ids)
    return x, y


@wrong("bert.mask_tokens", None)
def masked_and_random_exchanged(ids, chosen, dice, random_ids, mask_id, special):
    """80 % become random and 10 % are masked."""
    pick = torch.logical_and(chosen < 0.15, torch.logical_not(special))
    y = ids.clone()
    y[~pick] = -100
    x = ids.clone()
    rnd = pick & (dice < 0.8)
    msk = pick & (dice >= 0.8) & (dice < 0.9)
    x[rnd] = random_ids[rnd]
    x[msk] = mask_id
    return x, y


@wrong("bert.mask_tokens", "changes its input ids in place")
def ids_overwritten(ids, chosen, dice, random_ids, mask_id, special):
    """It writes the masks into ids itself."""
    pick = (chosen < 0.15) & ~special
    y = torch.where(pick, ids, -100)
    ids[pick & (dice < 0.8)] = mask_id
    r = pick & (dice >= 0.8) & (dice < 0.9)
    ids[r] = random_ids[r]
    return ids, y


@wrong("t5.relative_buckets", "`torch.log10(n.clamp(min=1) / e) / math.log(farthest / e)`: with")
def far_distances_linear(distance, buckets, farthest, both_ways):
    """Base 10 above and natural logarithm below."""
    base = 0
    if both_ways:
        buckets = buckets // 2
        base = torch.where(distance > 0, buckets, 0)
        n = distance.abs()
    else:
        n = torch.clamp(-distance, min=0)
    e = buckets // 2
    big = e + (torch.log10(n.clamp(min=1) / e) / math.log(farthest / e) * (buckets - e)).long()
    big = big.clamp(max=buckets - 1)
    return base + torch.where(n < e, n, big)


@wrong("t5.relative_buckets", "`torch.round(torch.log(n.clamp(min=1) / e)")
def rounded(distance, buckets, farthest, both_ways):
    """It rounds to the nearest bucket; the fraction is cut off."""
    base = torch.zeros_like(distance)
    if both_ways:
        buckets = buckets // 2
        base = (distance > 0).long() * buckets
        n = distance.abs()
    else:
        n = torch.clamp(-distance, min=0)
    e = buckets // 2
    big = e + torch.round(torch.log(n.clamp(min=1) / e) / math.log(farthest / e) * (buckets - e)).long()
    return base + torch.where(n < e, n, big.clamp(max=buckets - 1))
