"""Wrong answers to the exercises of chapter 02."""

import math

import torch
from torch.nn import functional as F

from tests.workbook.wrong import wrong


@wrong("vit.patchify", "`range(h - size, -1, -size)`: with")
def patches_from_the_bottom(images, size):
    """The rows of patches are read from the bottom up."""
    _b, _c, h, w = images.shape
    out = []
    for y in range(h - size, -1, -size):
        for x in range(0, w, size):
            tile = images[:, :, y : y + size, x : x + size]
            out.append(tile.permute(0, 2, 3, 1).flatten(1))
    return torch.stack(out, dim=1)


@wrong("vit.patchify", "inside a patch the channel comes first")
def unfold_with_channel_first(images, size):
    """F.unfold puts the channel first, the pixels must have it last."""
    return F.unfold(images, size, stride=size).transpose(1, 2)


@wrong("vit.patchify", "the axes are in another order")
def unfold_without_transpose(images, size):
    """Patch and pixel are exchanged: the transpose after unfold is missing."""
    b, c, _h, _w = images.shape
    cols = F.unfold(images, kernel_size=size, stride=size)
    cols = cols.reshape(b, c, size * size, -1).permute(0, 2, 1, 3).reshape(b, c * size * size, -1)
    return cols


@wrong("vit.patchify", "right for `images[:, :1]` in place of `images`")
def only_the_first_channel(images, size):
    """Only the first channel is cut."""
    b, _c, _h, _w = images.shape
    grey = images[:, :1]
    x = grey.unfold(2, size, size).unfold(3, size, size)
    return x.permute(0, 2, 3, 4, 5, 1).reshape(b, -1, size * size)


@wrong("vit.patchify", "`images.unfold(2, size, size).unfold(3, size, 1)`: with")
def windows_overlap(images, size):
    """The window moves by one pixel where it must move by size."""
    b, c, _h, _w = images.shape
    tiles = images.unfold(2, size, size).unfold(3, size, 1)
    tiles = tiles.permute(0, 2, 3, 4, 5, 1)
    return tiles.reshape(b, -1, size * size * c)


@wrong("vit.add_class_and_positions", "`class_token` is never read")
def class_token_without_batch_loop(patches, class_token, positions):
    """Every image takes its own first patch as the class token."""
    rows = []
    for picture in patches:
        seq = torch.cat([picture[:1], picture])
        rows.append(seq + positions)
    return torch.stack(rows)


@wrong("vit.add_class_and_positions", "the class token needs its position too")
def positions_on_patches_only(patches, class_token, positions):
    """The class token gets no position."""
    b = len(patches)
    cls = class_token.repeat(b, 1).unsqueeze(1)
    x = torch.cat((cls, patches), 1)
    x = x.clone()
    x[:, 1:] = x[:, 1:] + positions[1:]
    return x


@wrong("vit.add_class_and_positions", "`torch.cat([cls, patches], dim=1) * math.sqrt(d)`: with")
def positions_scaled(patches, class_token, positions):
    """The tokens are scaled by the root of the width before the positions come."""
    n, _t, d = patches.shape
    cls = class_token.view(1, 1, d).expand(n, 1, d)
    tokens = torch.cat([cls, patches], dim=1) * math.sqrt(d)
    return tokens + positions[None]


@wrong("vit.add_class_and_positions", "no gradient reaches class_token")
def class_token_detached(patches, class_token, positions):
    """The class token is copied with torch.tensor and does not learn."""
    cls = torch.tensor(class_token.tolist(), dtype=class_token.dtype)
    cls = cls[None, None].repeat(patches.size(0), 1, 1)
    return torch.cat([cls, patches], dim=1).add(positions)


@wrong("vit.add_class_and_positions", "`x[0, 0]`: with")
def only_first_image_gets_a_token(patches, class_token, positions):
    """The class token of all images but the first is zeros."""
    b, n, d = patches.shape
    x = patches.new_zeros(b, n + 1, d)
    x[:, 1:] = patches
    x[0, 0] = class_token
    return x + positions


@wrong("vit.interpolate_positions", "`torch.cat([grid[0].flatten(1).T, cls], dim=0)`: with")
def class_row_last(positions, old_grid, new_grid, antialias=False):
    """The class token's position is put behind the others."""
    h, w = old_grid
    cls, rest = positions[:1], positions[1:]
    grid = rest.T.reshape(1, -1, h, w)
    grid = F.interpolate(grid, size=tuple(new_grid), mode="bicubic", antialias=antialias)
    return torch.cat([grid[0].flatten(1).T, cls], dim=0)


@wrong("vit.interpolate_positions", "`(new_grid[1], new_grid[0])`: with")
def new_grid_turned(positions, old_grid, new_grid, antialias=False):
    """Rows and columns of the new grid are exchanged."""
    h, w = old_grid
    d = positions.size(1)
    img = positions[1:].view(h, w, d).permute(2, 0, 1).unsqueeze(0)
    img = F.interpolate(img, size=(new_grid[1], new_grid[0]), mode="bicubic", antialias=antialias)
    return torch.cat([positions[:1], img.squeeze(0).permute(1, 2, 0).reshape(-1, d)])


@wrong("vit.interpolate_positions", "`torch.cat((body[:1], body_new), dim=0)`: with")
def class_row_interpolated(positions, old_grid, new_grid, antialias=False):
    """The first row of the grid, not the class token, is kept in front."""
    h, w = old_grid
    body = positions[1:]
    img = body.reshape(h, w, -1).permute(2, 0, 1)[None]
    img = F.interpolate(img, size=new_grid, mode="bicubic", align_corners=False, antialias=antialias)
    body_new = img[0].permute(1, 2, 0).reshape(new_grid[0] * new_grid[1], -1)
    return torch.cat((body[:1], body_new), dim=0)


@wrong("attention.split_heads", "`torch.stack(out, dim=1).transpose(2, 3)`: with")
def heads_before_the_cut(tokens, heads):
    """The axes are in the order (batch, head, part, token)."""
    _b, _t, d = tokens.shape
    out = [tokens[..., i * (d // heads) : (i + 1) * (d // heads)] for i in range(heads)]
    return torch.stack(out, dim=1).transpose(2, 3)


@wrong("attention.split_heads", "`torch.stack(pieces[::-1], dim=1)`: with")
def heads_reversed(tokens, heads):
    """The heads stand in reverse order."""
    pieces = tokens.chunk(heads, dim=-1)
    return torch.stack(pieces[::-1], dim=1)


@wrong("attention.split_heads", "holds what belongs to head 0 at every head")
def every_head_the_same(tokens, heads):
    """Each head gets the first part of the width."""
    part = tokens.shape[-1] // heads
    return torch.stack([tokens[:, :, :part] for _ in range(heads)], dim=1)


@wrong("attention.split_heads", "`torch.stack(tokens.chunk(heads, -1), dim=-1)`: with")
def head_axis_behind(tokens, heads):
    """The head axis is put last."""
    return torch.stack(tokens.chunk(heads, -1), dim=-1)


@wrong("attention.merge_heads", "head and part are in the wrong order")
def merged_part_by_part(parts):
    """The numbers of the heads are interleaved: part comes before head."""
    b, h, t, p = parts.shape
    return torch.einsum("bhtp->btph", parts).reshape(b, t, h * p)


@wrong("attention.merge_heads", "`torch.cat([parts[:, i] for i in range(h - 1, -1, -1)], dim=-1)`: with")
def merged_backwards(parts):
    """The last head comes first."""
    _b, h, _t, _p = parts.shape
    return torch.cat([parts[:, i] for i in range(h - 1, -1, -1)], dim=-1)


@wrong("attention.merge_heads", "`torch.cat(list(parts.unbind(1)), dim=1)`: with")
def merged_along_tokens(parts):
    """The heads are joined along the tokens, not along the width."""
    return torch.cat(list(parts.unbind(1)), dim=1)


@wrong("attention.scaled_dot_product", "`key.size(2)`: with")
def root_of_the_tokens(query, key, value, mask=None, bias=None):
    """The scores are divided by the root of the number of keys, not of the width."""
    _b, _h, _n, _d = query.shape
    m = key.size(2)
    att = torch.einsum("bhqd,bhkd->bhqk", query, key) / m**0.5
    if bias is not None:
        att = att + bias
    if mask is not None:
        att = att.masked_fill(mask.logical_not(), float("-inf"))
    att = F.softmax(att, dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", att, value), att


@wrong("attention.scaled_dot_product", None)
def bias_after_softmax(query, key, value, mask=None, bias=None):
    """The bias is added to the weights, after the softmax."""
    d = query.size(-1)
    logits = torch.matmul(query, key.mT) * d**-0.5
    if mask is not None:
        logits = torch.where(mask, logits, torch.full_like(logits, float("-inf")))
    probs = torch.softmax(logits, -1)
    if bias is not None:
        probs = probs + bias
    return torch.matmul(probs, value), probs


@wrong("attention.scaled_dot_product", "the bias is divided by √part too; only the scores are")
def bias_scaled_too(query, key, value, mask=None, bias=None):
    """The bias is divided by the root of the width together with the scores."""
    scores = query @ key.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    scores = scores / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    w = F.softmax(scores, dim=-1)
    return w @ value, w


@wrong("attention.scaled_dot_product", "masked scores are set to 0")
def mask_multiplied(query, key, value, mask=None, bias=None):
    """The scores are multiplied by the mask, so what is hidden has score 0, not minus infinity."""
    q = query * query.shape[-1] ** -0.5
    s = q.matmul(key.transpose(2, 3))
    if bias is not None:
        s = s + bias
    if mask is not None:
        s = s * mask.to(s.dtype)
    p = s.softmax(3)
    return p.matmul(value), p


@wrong("attention.scaled_dot_product", "`(scores.softmax(-1) @ value, scores)`: with")
def scores_returned(query, key, value, mask=None, bias=None):
    """The second output is the scores, not the weights."""
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]))
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(mask == 0, -torch.inf)
    return scores.softmax(-1) @ value, scores


@wrong("attention.pre_norm_block", "`mlp(norm_before_mlp(x))`: with")
def mlp_without_residual(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    """The second residual connection is missing."""
    h = norm_before_attention(tokens)
    h = attend(h)
    x = tokens + h
    return mlp(norm_before_mlp(x))


@wrong("attention.pre_norm_block", "in the order norm_before_mlp, attend, norm_before_attention, mlp")
def norms_exchanged(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    """The two norms are exchanged."""
    x = tokens
    for norm, step in ((norm_before_mlp, attend), (norm_before_attention, mlp)):
        x = x + step(norm(x))
    return x


@wrong("attention.pre_norm_block", "`x + skip`: with")
def residual_from_the_first_tokens(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    """The first tokens are added a second time at the end."""
    skip = tokens
    x = skip + attend(norm_before_attention(tokens))
    x = x + mlp(norm_before_mlp(x))
    return x + skip


@wrong("attention.pre_norm_block", "`tokens + a`: with")
def norm_of_the_attended(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    """The norm stands behind the attention, not before it."""
    a = norm_before_attention(attend(tokens))
    y = tokens + a
    return y + mlp(norm_before_mlp(y))


@wrong("attention.rollout", "the layers are multiplied in the wrong order")
def layers_multiplied_the_wrong_way(weights):
    """The product runs in the wrong order: a later layer must stand on the left."""
    n = weights.shape[-1]
    acc = torch.eye(n)
    for w in weights:
        a = (w.mean(0) + torch.eye(n)) / 2
        acc = acc @ a
    return acc


@wrong("attention.rollout", "this takes the largest head")
def heads_by_maximum(weights):
    """The heads are joined by their maximum, not by their mean."""
    eye = torch.eye(weights.size(-1))
    result = eye
    for layer in weights:
        result = (0.5 * layer.max(dim=0).values + 0.5 * eye) @ result
    return result


@wrong("attention.rollout", "rows sum to 2 per layer")
def residual_not_halved(weights):
    """The identity is added, but the sum is not halved."""
    avg = weights.mean(1)
    avg = avg + torch.eye(avg.size(-1))
    out = avg[0]
    for i in range(1, len(avg)):
        out = avg[i] @ out
    return out


@wrong("attention.rollout", "`range(1, a.size(0) - 1)`: with")
def last_layer_left_out(weights):
    """The last layer is left out."""
    a = 0.5 * weights.mean(1) + 0.5 * torch.eye(weights.size(-1))
    r = a[0]
    for i in range(1, a.size(0) - 1):
        r = a[i] @ r
    return r
