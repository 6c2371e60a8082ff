"""Right answers of another form than the reference, as learners write them: each of them must pass.

Every exercise has at least two. Where one is refused, the checker is at fault.
"""

import functools
import json
import math
import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from fractions import Fraction

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vlmcourse.data import coordinates
from vlmcourse.data.records import Record, image_first
from vlmcourse.data.text import ASSISTANT, END
from vlmcourse.evaluation import vqa
from vlmcourse.exercises.base import all_exercises
from vlmcourse.models import clip, language, native, tiles
from vlmcourse.workbook.check import judge
from vlmcourse.world.grammar import SENTENCE

RIGHT: list[tuple[str, Callable]] = []
SECONDS = 10  # of CPU time that a check may take


def right(name: str) -> Callable[[Callable], Callable]:
    """Note a right answer to the exercise of this name."""

    def noted(answer: Callable) -> Callable:
        RIGHT.append((name, answer))
        return answer

    return noted


# chapter 00: start here


@right("pixels.normalise")
def pixels_moved_then_centred(images):
    floats = images.movedim(-1, 1).to(torch.float32)
    return (floats - 127.5) / 127.5


@right("pixels.normalise")
def pixels_by_einsum(images):
    return torch.einsum("bhwc->bchw", images.float()) * (2 / 255) - 1


@right("pixels.normalise")
def pixels_channel_by_channel(images):
    channels = [images[..., channel].float() / 255 for channel in range(images.shape[-1])]
    return 2 * torch.stack(channels, dim=1) - 1


# chapter 01: the problem


@right("gap.feature_statistics")
def statistics_by_table_of_cosines(features):
    unit = features / features.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    different = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    std, mean = torch.std_mean(features, dim=0)
    return features.square().sum(-1).sqrt().mean(), mean, std, cosines[different].mean()


@right("gap.feature_statistics")
def statistics_by_loops(features):
    count = len(features)
    cosines = []
    for i in range(count):
        for j in range(i):
            cosines.append(F.cosine_similarity(features[i], features[j], dim=0))
    mean = sum(features) / count
    variance = sum((row - mean) ** 2 for row in features) / (count - 1)
    norm = sum(torch.linalg.vector_norm(row) for row in features) / count
    return norm, mean, variance.sqrt(), sum(cosines) / len(cosines)


@right("naive.join")
def join_into_one_empty_tensor(image, text, mask):
    batch, patch, width = image.shape
    both = image.new_empty(batch, patch + text.shape[1], width)
    both[:, :patch], both[:, patch:] = image, text
    seen = mask.new_zeros(batch, patch + text.shape[1])
    seen[:, :patch] = True
    seen[:, patch:] |= mask
    return both, seen


@right("naive.join")
def join_by_padding_the_mask(image, text, mask):
    return torch.hstack([image, text]), F.pad(mask, (image.shape[1], 0), value=True)


@right("looks.answer_prior")
def prior_kind_by_kind(asked, answers, kinds):
    best = answers.bincount().argmax().repeat(kinds)
    for kind in range(kinds):
        own = answers[asked == kind]
        if len(own):
            best[kind] = own.bincount().argmax()
    return best


@right("looks.answer_prior")
def prior_by_one_hot_tables(asked, answers, kinds):
    counts = F.one_hot(asked, kinds).T @ F.one_hot(answers)
    never = ~counts.any(dim=1, keepdim=True)
    return (counts + never * counts.sum(dim=0)).argmax(dim=1)


@right("looks.answer_prior")
def prior_by_counters(asked, answers, kinds):
    def favourite(values):
        return min(Counter(values).items(), key=lambda item: (-item[1], item[0]))[0]

    said = {}
    for kind, answer in zip(asked.tolist(), answers.tolist(), strict=True):
        said.setdefault(kind, []).append(answer)
    overall = favourite(answers.tolist())
    numbers = [favourite(said[k]) if k in said else overall for k in range(kinds)]
    return torch.tensor(numbers, device=answers.device)


@right("looks.twin_accuracy")
def twins_by_counting(guesses, answers):
    hits = (guesses == answers).sum(dim=1)
    return hits.sum() / guesses.numel(), (hits == 2).sum() / len(guesses)


@right("looks.twin_accuracy")
def twins_column_by_column(guesses, answers):
    first, second = (guesses == answers).unbind(dim=1)
    both = (first & second).float().mean()
    return (first.float().mean() + second.float().mean()) / 2, both


# chapter 02: ViT


@right("vit.patchify")
def patchify_by_slices(images, size):
    patches = []
    for top in range(0, images.shape[2], size):
        for left in range(0, images.shape[3], size):
            square = images[:, :, top : top + size, left : left + size]
            patches.append(square.permute(0, 2, 3, 1).flatten(1))
    return torch.stack(patches, dim=1)


@right("vit.patchify")
def patchify_by_unfold(images, size):
    squares = images.unfold(2, size, size).unfold(3, size, size)
    return squares.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


@right("vit.patchify")
def patchify_by_columns_of_unfold(images, size):
    windows = F.unfold(images, size, stride=size).transpose(1, 2)
    return windows.unflatten(2, (images.shape[1], size * size)).transpose(2, 3).flatten(2)


@right("vit.add_class_and_positions")
def tokens_added_to_repeated_positions(patches, class_token, positions):
    tokens = positions.repeat(len(patches), 1, 1)
    tokens[:, 0] += class_token
    tokens[:, 1:] += patches
    return tokens


@right("vit.add_class_and_positions")
def tokens_position_by_position(patches, class_token, positions):
    first = (class_token + positions[0]).repeat(len(patches), 1, 1)
    return torch.cat((first, patches + positions[1:]), 1)


@right("vit.interpolate_positions")
def positions_by_a_matrix(positions, old_grid, new_grid, antialias=False):
    rows, columns = old_grid
    corners = torch.eye(rows * columns, dtype=positions.dtype, device=positions.device)
    pictures = corners.reshape(-1, 1, rows, columns)
    resized = F.interpolate(pictures, new_grid, mode="bicubic", antialias=antialias)
    return torch.cat([positions[:1], resized.flatten(1).T @ positions[1:]])


@right("vit.interpolate_positions")
def positions_channel_by_channel(positions, old_grid, new_grid, antialias=False):
    channels = []
    for channel in positions[1:].T:
        picture = channel.view(1, 1, *old_grid)
        channels.append(F.interpolate(picture, new_grid, None, "bicubic", False, None, antialias).view(-1))
    return torch.vstack([positions[0], torch.stack(channels, dim=1)])


@right("attention.split_heads")
def heads_by_chunks(tokens, heads):
    return torch.stack(tokens.chunk(heads, dim=-1), dim=1)


@right("attention.split_heads")
def heads_by_unflatten(tokens, heads):
    return tokens.unflatten(-1, (heads, -1)).movedim(2, 1)


@right("attention.split_heads")
def heads_copied_one_by_one(tokens, heads):
    part = tokens.size(2) // heads
    out = tokens.new_zeros(tokens.size(0), heads, tokens.size(1), part)
    for h in range(heads):
        out[:, h] = tokens[..., h * part : (h + 1) * part]
    return out


@right("attention.merge_heads")
def heads_joined_by_cat(parts):
    return torch.cat(parts.unbind(dim=1), dim=-1)


@right("attention.merge_heads")
def heads_joined_by_einsum(parts):
    return torch.einsum("bhtp->bthp", parts).flatten(2)


@right("attention.scaled_dot_product")
def attention_by_einsum_and_where(query, key, value, mask=None, bias=None):
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / query.size(-1) ** 0.5
    scores = scores if bias is None else scores + bias
    scores = scores if mask is None else torch.where(mask, scores, float("-inf"))
    weights = F.softmax(scores, dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value), weights


@right("attention.scaled_dot_product")
def attention_with_a_softmax_of_its_own(query, key, value, mask=None, bias=None):
    scores = query.matmul(key.mT) * query.shape[-1] ** -0.5
    if bias is not None:
        scores += bias
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), torch.finfo(scores.dtype).min)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    weights = exponentials / exponentials.sum(-1, keepdim=True)
    return weights @ value, weights


@right("attention.scaled_dot_product")
def attention_with_an_additive_mask(query, key, value, mask=None, bias=None):
    batch, head, queries, part = query.shape
    added = torch.zeros(queries, key.shape[2], dtype=query.dtype, device=query.device)
    if mask is not None:
        added = added.masked_fill(mask == False, -1e9)  # noqa: E712 as beginners write it
    if bias is not None:
        added = added + bias
    added = added.expand(batch, head, -1, -1)
    outputs, weights = torch.empty_like(query), torch.empty_like(added)
    for b in range(batch):
        for h in range(head):
            own = (query[b, h] @ key[b, h].T / math.sqrt(part) + added[b, h]).softmax(1)
            weights[b, h], outputs[b, h] = own, own @ value[b, h]
    return outputs, weights


@right("attention.pre_norm_block")
def block_by_a_helper(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    def step(stream, norm, layer):
        return torch.add(layer(norm(stream)), stream)

    return step(step(tokens, norm_before_attention, attend), norm_before_mlp, mlp)


@right("attention.pre_norm_block")
def block_in_place_on_a_copy(x, ln1, attn, ln2, ffn):
    stream = x.clone()
    for norm, layer in ((ln1, attn), (ln2, ffn)):
        stream += layer(norm(stream.clone()))
    return stream


@right("attention.rollout")
def rollout_by_reduce(weights):
    identity = torch.eye(weights.size(-1)).to(weights)
    layers = [(heads.sum(0) / len(heads) + identity) / 2 for heads in weights]
    return functools.reduce(lambda before, layer: layer @ before, layers)


@right("attention.rollout")
def rollout_from_the_last_layer(weights):
    mixed = weights.mean(1).clone()
    mixed.diagonal(dim1=-2, dim2=-1).add_(1)
    mixed /= mixed.sum(-1, keepdim=True)
    total = torch.eye(mixed.shape[-1], device=mixed.device, dtype=mixed.dtype)
    for n in reversed(range(len(mixed))):
        total = torch.einsum("qm,mk->qk", total, mixed[n])
    return total


# chapter 03: CNN against ViT


@right("cnn.conv2d")
def convolution_offset_by_offset(images, weight, stride=1, padding=0, groups=1):
    filters, part, row, column = weight.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    height = (padded.shape[2] - row) // stride + 1
    width = (padded.shape[3] - column) // stride + 1
    seen = padded.unflatten(1, (groups, part))
    weight = weight.unflatten(0, (groups, filters // groups))
    total = 0
    for r in range(row):
        for c in range(column):
            rows, columns = slice(r, r + stride * height, stride), slice(c, c + stride * width, stride)
            total = total + torch.einsum("bgphw,gfp->bgfhw", seen[..., rows, columns], weight[..., r, c])
    return total.flatten(1, 2)


@right("cnn.conv2d")
def convolution_place_by_place(images, weight, stride=1, padding=0, groups=1):
    filters, part, row, column = weight.shape
    padded = F.pad(images, [padding] * 4)
    lines = []
    for top in range(0, padded.shape[2] - row + 1, stride):
        line = []
        for left in range(0, padded.shape[3] - column + 1, stride):
            window = padded[:, :, top : top + row, left : left + column]
            own = [part * (f // (filters // groups)) for f in range(filters)]
            sums = [(window[:, n : n + part] * weight[f]).sum((1, 2, 3)) for f, n in enumerate(own)]
            line.append(torch.stack(sums, dim=1))
        lines.append(torch.stack(line, dim=-1))
    return torch.stack(lines, dim=-2)


@right("cnn.conv2d")
def convolution_by_unfold_and_groups(images, weight, stride=1, padding=0, groups=1):
    padded = nn.ZeroPad2d(padding)(images)
    windows = padded.unfold(2, weight.shape[2], stride).unfold(3, weight.shape[3], stride)
    results = []
    for own, filters in zip(windows.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        results.append(torch.tensordot(own, filters, dims=([1, 4, 5], [1, 2, 3])).movedim(-1, 1))
    return torch.cat(results, dim=1)


@right("cnn.residual_block")
def residual_by_clamp(images, body, shortcut):
    return torch.clamp(shortcut(images) + body(images), min=0)


@right("cnn.residual_block")
def residual_in_place(x, f, skip):
    y = f(x)
    y = y + skip(x)
    return F.relu_(y)


@right("efficientnet.squeeze_excite")
def excited_by_einsum(features, reduce, expand):
    squeezed = reduce(F.adaptive_avg_pool2d(features, 1).flatten(1))
    gate = torch.sigmoid(expand(squeezed * torch.sigmoid(squeezed)))
    return torch.einsum("bchw,bc->bchw", features, gate)


@right("efficientnet.squeeze_excite")
def excited_picture_by_picture(features, reduce, expand):
    results = []
    for feature in features:
        means = feature.flatten(1).sum(1) / feature[0].numel()
        gate = 1 / (1 + torch.exp(-expand(nn.SiLU()(reduce(means[None])))))
        results.append(gate[0, :, None, None] * feature)
    return torch.stack(results)


@right("efficientnet.mbconv")
def mbconv_as_a_loop(features, expand, depthwise, excite, project, skip):
    changed = features
    for step in (expand, depthwise, excite, project):
        changed = step(changed)
    if skip:
        changed = torch.add(changed, features)
    return changed


@right("efficientnet.mbconv")
def mbconv_with_an_early_end(x, expand, depthwise, excite, project, skip):
    wide = depthwise(expand(x))
    narrow = project(excite(wide))
    if not skip:
        return narrow
    narrow += x
    return narrow


@right("reach.receptive_field")
def field_by_a_walk(kernels, strides):
    field, step, fields = 1, 1, []
    for kernel, stride in zip(kernels, strides, strict=True):
        field = field + (kernel - 1) * step
        fields.append(field)
        step = step * stride
    return torch.stack(fields)


@right("reach.receptive_field")
def field_by_sums_of_products(kernels, strides):
    fields = torch.ones_like(kernels)
    for layer in range(len(kernels)):
        for before in range(layer + 1):
            fields[layer] += (kernels[before] - 1) * strides[:before].prod()
    return fields


@right("reach.receptive_field")
def field_by_shifted_products(kernels, strides):
    step = torch.cat([strides.new_ones(1), strides[:-1].cumprod(0)])
    return torch.cumsum((kernels - 1) * step, 0) + 1


@right("reach.attention_distance")
def distance_by_cdist(weights, grid, patch_size):
    numbers = torch.arange(grid[0] * grid[1], device=weights.device)
    place = torch.stack([numbers // grid[1], numbers % grid[1]], dim=1).to(weights.dtype) * patch_size
    far = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
    looks = weights[..., 1:, 1:]
    return ((looks * far).sum(dim=-1) / looks.sum(dim=-1)).mean(dim=-1)


@right("reach.attention_distance")
def distance_query_by_query(weights, grid, patch_size):
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    total = 0
    for query, here in enumerate(places, start=1):
        way = sum(weights[..., query, key] * math.dist(here, there)
                  for key, there in enumerate(places, start=1))  # fmt: skip
        total = total + way / (1 - weights[..., query, 0])
    return patch_size * total / len(places)


# chapter 04: CLIP


@right("clip.pool_at_eos")
def pooled_by_gather(hidden, ids, eos):
    place = (ids == eos).float().argmax(dim=1)
    return hidden.gather(1, place[:, None, None].expand(-1, 1, hidden.shape[2])).squeeze(1)


@right("clip.pool_at_eos")
def pooled_text_by_text(hidden, ids, eos):
    return torch.stack([text[row.tolist().index(eos)] for text, row in zip(hidden, ids, strict=True)])


@right("clip.pool_at_eos")
def pooled_by_a_mask(hidden, ids, eos):
    found = ids == eos
    first = found & (found.cumsum(1) == 1)
    return torch.einsum("bt,btw->bw", first.to(hidden.dtype), hidden)


@right("clip.normalise")
def unit_by_torch(features):
    return F.normalize(features, p=2, dim=-1)


@right("clip.normalise")
def unit_by_rsqrt(features):
    return torch.rsqrt(torch.einsum("...w,...w->...", features, features))[..., None] * features


@right("clip.zero_shot_classifier")
def classes_one_by_one(prompts):
    return torch.stack([clip.normalise(clip.normalise(own).mean(0)) for own in prompts])


@right("clip.zero_shot_classifier")
def classes_by_sums(prompts):
    sums = (prompts / prompts.norm(dim=2, keepdim=True)).sum(dim=1)
    return sums / sums.norm(dim=1, keepdim=True)


@right("clip.info_nce")
def info_nce_by_log_softmax(image, text, scale):
    logits = scale * (image @ text.t())
    rows, columns = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    return -(rows.diagonal().mean() + columns.diagonal().mean()) / 2


@right("clip.info_nce")
def info_nce_by_logsumexp(image, text, scale):
    logits = torch.einsum("iw,tw->it", scale * image, text)
    both = logits.logsumexp(0) + logits.logsumexp(1)
    return (both / 2 - logits.diag()).mean()


@right("clip.info_nce")
def info_nce_as_one_long_batch(image, text, scale):
    table = image @ text.T * scale
    labels = torch.arange(len(image), device=image.device).repeat(2)
    return F.cross_entropy(torch.cat([table, table.T]), labels)


@right("clip.siglip_loss")
def siglip_by_binary_cross_entropy(image, text, scale, bias):
    logits = image @ text.T * scale + bias
    target = torch.eye(len(image), device=image.device, dtype=image.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(image)


@right("clip.siglip_loss")
def siglip_by_softplus(image, text, scale, bias):
    logits = bias + scale * torch.matmul(image, text.mT)
    return (F.softplus(logits).sum() - logits.trace()) / image.shape[0]


@right("clip.siglip_loss")
def siglip_meeting_by_meeting(image, text, scale, bias):
    total = 0
    for i in range(len(image)):
        for t in range(len(text)):
            logit = scale * (image[i] @ text[t]) + bias
            total = total - F.logsigmoid(logit if i == t else -logit)
    return total / len(image)


@right("retrieval.recall_at_k")
def recall_query_by_query(similarity, right, k):
    hits = 0
    for row, good in zip(similarity, right, strict=True):
        order = row.argsort(descending=True)
        hits += bool(good[order[:k]].any())
    return hits / len(similarity)


@right("retrieval.recall_at_k")
def recall_by_threshold(similarity, right, k):
    line = similarity.sort(dim=1).values[:, -k, None]
    found = ((similarity >= line) & right).any(1)
    return float(found.sum() / found.numel())


@right("gap.modality_gap")
def gap_by_torch(image, text):
    middles = [F.normalize(cloud, dim=1).mean(0) for cloud in (image, text)]
    return middles[0] - middles[1], torch.dist(*middles)


@right("gap.modality_gap")
def gap_by_sums(image, text):
    def middle(cloud):
        lengths = cloud.square().sum(1, keepdim=True).sqrt()
        return torch.einsum("nw->w", cloud / lengths) / len(cloud)

    vector = middle(image) - middle(text)
    return vector, (vector @ vector).sqrt()


# chapter 05: language models


@right("bpe.merge_pair")
def merged_with_a_memory(tokens, pair):
    result, skip = [], False
    for k, token in enumerate(tokens):
        if skip:
            skip = False
            continue
        skip = k + 1 < len(tokens) and (token, tokens[k + 1]) == pair
        result.append(pair[0] + pair[1] if skip else token)
    return result


@right("bpe.merge_pair")
def merged_from_a_queue(tokens, pair):
    waiting, done = deque(tokens), []
    while waiting:
        token = waiting.popleft()
        if token == pair[0] and waiting and waiting[0] == pair[1]:
            token += waiting.popleft()
        done.append(token)
    return done


@right("bpe.merge_pair")
def merged_in_a_copy(tokens, pair):
    tokens, k = list(tokens), 0
    while k < len(tokens) - 1:
        if tokens[k] == pair[0] and tokens[k + 1] == pair[1]:
            tokens[k : k + 2] = ["".join(pair)]
        k += 1
    return tokens


@right("language.causal_mask")
def causal_by_tril(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=keys - queries)


@right("language.causal_mask")
def causal_by_loops(queries, keys):
    past = keys - queries
    return torch.tensor([[key <= past + query for key in range(keys)] for query in range(queries)])


@right("language.rms_norm")
def rms_by_torch(tokens, scale, epsilon):
    normed = F.rms_norm(tokens.float(), (tokens.shape[-1],), scale.float(), epsilon)
    return normed.to(tokens.dtype)


@right("language.rms_norm")
def rms_by_division(tokens, scale, epsilon):
    x = tokens.to(torch.float32)
    root = torch.sqrt(torch.mean(x**2, dim=-1, keepdim=True) + epsilon)
    return (x / root * scale).type_as(tokens)


@right("language.rms_norm")
def rms_in_double(tokens, scale, epsilon):
    x = tokens.double()
    mean = x.norm(dim=-1, keepdim=True) ** 2 / x.shape[-1]
    return (scale * x * (mean + epsilon) ** -0.5).to(dtype=tokens.dtype)


@right("language.rope")
def rope_by_rotating_the_halves(parts, angles):
    both = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    first, second = parts[..., : parts.shape[-1] // 2], parts[..., parts.shape[-1] // 2 :]
    turned = torch.cat([-second, first], dim=-1)
    return (parts * both.cos() + turned * both.sin()).to(parts.dtype)


@right("language.rope")
def rope_by_complex_numbers(parts, angles):
    half = parts.shape[-1] // 2
    points = torch.complex(parts[..., :half].float(), parts[..., half:].float())
    turned = points * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat([turned.real, turned.imag], dim=-1).to(parts.dtype)


@right("language.rope")
def rope_pair_by_pair(parts, angles):
    half = angles.shape[-1]
    result = torch.empty_like(parts)
    for i in range(half):
        a, b, angle = parts[..., i], parts[..., half + i], angles[:, None, :, i]
        result[..., i] = a * torch.cos(angle) - b * torch.sin(angle)
        result[..., half + i] = a * torch.sin(angle) + b * torch.cos(angle)
    return result


@right("language.swiglu")
def swiglu_written_out(tokens, gate, up, down):
    gated = gate(tokens)
    return down(up(tokens) * gated / (1 + torch.exp(-gated)))


@right("language.swiglu")
def swiglu_by_a_module(x, w1, w3, w2):
    hidden = nn.SiLU()(w1(x))
    hidden *= w3(x)
    return w2(hidden)


@right("attention.share_heads")
def shared_by_expand(parts, heads):
    batch, group, token, part = parts.shape
    copies = parts[:, :, None].expand(batch, group, heads // group, token, part)
    return copies.reshape(batch, heads, token, part)


@right("attention.share_heads")
def shared_by_index(parts, heads):
    times = heads // parts.shape[1]
    return parts[:, torch.arange(heads, device=parts.device) // times]


@right("attention.share_heads")
def shared_head_by_head(parts, heads):
    times = heads // parts.size(1)
    return torch.stack([parts[:, head // times] for head in range(heads)], dim=1)


@right("attention.extend_cache")
def cache_by_one_rule(old, key, value):
    if not old:
        return (key, value)
    return tuple(torch.cat(pair, dim=-2) for pair in zip(old, (key, value), strict=True))


@right("attention.extend_cache")
def cache_of_empty_tensors(old, key, value):
    if old is None:
        old = key[:, :, :0], value[:, :, :0]
    past_key, past_value = old
    keys = torch.cat((past_key, key), 2)
    values = torch.cat((past_value, value), 2)
    return keys, values


@right("generation.top_p")
def nucleus_row_by_row(logits, temperature, top_p):
    result = torch.zeros_like(logits)
    for row, scores in enumerate(logits):
        if temperature == 0:
            result[row, scores.argmax()] = 1
            continue
        chances = F.softmax(scores / temperature, dim=0)
        total = 0.0
        for place in chances.argsort(descending=True):
            result[row, place] = chances[place]
            total = total + chances[place]
            if top_p < 1 and total >= top_p:
                break
        result[row] = result[row] / result[row].sum()
    return result


@right("generation.top_p")
def nucleus_by_a_shifted_mask(logits, temperature, top_p):
    if temperature == 0.0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    chances = torch.softmax(logits / temperature, dim=-1)
    if top_p >= 1:
        return chances
    ordered, order = torch.sort(chances, dim=-1, descending=True)
    drop = ordered.cumsum(-1) >= top_p
    drop = torch.cat([torch.zeros_like(drop[:, :1]), drop[:, :-1]], dim=-1)
    chances = chances.masked_fill(drop.gather(1, order.argsort(dim=-1)), 0)
    return chances / chances.sum(-1, keepdim=True)


@right("bert.mask_tokens")
def masked_by_assignment(ids, chosen, dice, random_ids, mask_id, special):
    inputs, labels = ids.clone(), torch.full_like(ids, -100)
    asked = (chosen < 0.15) & torch.logical_not(special)
    labels[asked] = ids[asked]
    inputs[asked & (dice < 0.8)] = mask_id
    swap = asked & (dice >= 0.8) & (dice < 0.9)
    inputs[swap] = random_ids[swap]
    return inputs, labels


@right("bert.mask_tokens")
def masked_by_nested_where(ids, chosen, dice, random_ids, mask_id, special):
    picked = torch.where(special, False, chosen < 0.15)
    hidden = torch.where(dice < 0.8, mask_id, torch.where(dice < 0.9, random_ids, ids))
    return torch.where(picked, hidden, ids), torch.where(picked, ids, -100)


@right("t5.relative_buckets")
def buckets_number_by_number(distance, buckets, farthest, both_ways):
    def bucket(d):
        size, first = buckets, 0
        if both_ways:
            size = buckets // 2
            first = size if d > 0 else 0
        n = abs(d) if both_ways else max(-d, 0)
        exact = size // 2
        if n < exact:
            return first + n
        wide = exact + int(math.log(n / exact) / math.log(farthest / exact) * (size - exact))
        return first + min(wide, size - 1)

    rows = [[bucket(d) for d in row] for row in distance.tolist()]
    return torch.tensor(rows).to(distance)


@right("t5.relative_buckets")
def buckets_as_the_authors_code(relative_position, num_buckets, max_distance, bidirectional):
    ret, n = 0, -relative_position
    if bidirectional:
        num_buckets //= 2
        ret += (n < 0).to(torch.long) * num_buckets
        n = torch.abs(n)
    else:
        n = torch.max(n, torch.zeros_like(n))
    max_exact = num_buckets // 2
    large = torch.log(n.float() / max_exact) / math.log(max_distance / max_exact)
    large = max_exact + (large * (num_buckets - max_exact)).to(torch.long)
    large = torch.min(large, torch.full_like(large, num_buckets - 1))
    return ret + torch.where(n < max_exact, n, large)


# chapter 06: fusion


@right("fusion.late_fusion")
def late_by_repeat(image, text, mix):
    copies = image.unsqueeze(1).repeat(1, text.shape[1], 1)
    return mix(torch.cat((text, copies, torch.einsum("btw,bw->btw", text, image)), dim=2))


@right("fusion.late_fusion")
def late_token_by_token(image, text, mix):
    tokens = []
    for token in text.unbind(1):
        tokens.append(mix(torch.hstack([token, image, token * image])))
    return torch.stack(tokens, dim=1)


@right("fusion.cross_attend")
def crossed_in_place_on_a_copy(tokens, context, norm, attend):
    stream = tokens.clone()
    stream += attend(norm(tokens), context)
    return stream


@right("fusion.cross_attend")
def crossed_step_by_step(x, image, layer_norm, attention):
    queries = layer_norm(x)
    seen = attention(queries, image)
    return torch.add(seen, x)


@right("fusion.gated_cross_attend")
def gated_by_addcmul(tokens, context, norm, attend, gate):
    return torch.addcmul(tokens, torch.tanh(gate), attend(norm(tokens), context))


@right("fusion.gated_cross_attend")
def gated_by_a_sigmoid(tokens, context, norm, attend, gate):
    opened = 2 * torch.sigmoid(2 * gate) - 1
    seen = attend(norm(tokens), context)
    return opened * seen + tokens


@right("fusion.inject")
def injected_by_assignment(embeddings, features, places):
    result = embeddings.clone()
    result[places] = features.flatten(0, 1).to(result.dtype)
    return result


@right("fusion.inject")
def injected_by_counting_places(embeddings, features, places):
    flat = features.reshape(-1, features.shape[-1]).type_as(embeddings)
    number = places.flatten().cumsum(0).view_as(places) - 1
    return torch.where(places.unsqueeze(-1), flat[number.clamp(min=0)], embeddings)


@right("fusion.inject")
def injected_token_by_token(embeddings, features, places):
    waiting = iter(features.flatten(0, 1).to(embeddings.dtype))
    rows = []
    for text, own in zip(embeddings, places.tolist(), strict=True):
        rows.append(
            torch.stack([next(waiting) if here else token for token, here in zip(text, own, strict=True)])
        )
    return torch.stack(rows)


@right("language.prefix_mask")
def prefix_by_tril(prefix):
    inside = prefix.unsqueeze(2).logical_and(prefix.unsqueeze(1))
    token = prefix.shape[1]
    return inside | torch.ones(token, token, dtype=torch.bool, device=prefix.device).tril()


@right("language.prefix_mask")
def prefix_by_assignment(prefix):
    token = prefix.size(1)
    mask = language.causal_mask(token, token).to(prefix.device).repeat(len(prefix), 1, 1)
    mask[torch.einsum("bq,bk->bqk", prefix.int(), prefix.int()) == 1] = True
    return mask


@right("language.prefix_mask")
def prefix_by_loops(prefix):
    rows = prefix.tolist()
    token = range(len(rows[0]))
    masks = [[[k <= q or (row[q] and row[k]) for k in token] for q in token] for row in rows]
    return torch.tensor(masks, device=prefix.device)


# chapter 07: projection and alignment


@right("projector.pixel_shuffle")
def shuffled_by_strides(features, factor, grid=None):
    rows, columns = grid if grid is not None else (int(features.shape[1] ** 0.5),) * 2
    picture = features.unflatten(1, (rows, columns))
    parts = [picture[:, r::factor, c::factor] for r in range(factor) for c in range(factor)]
    return torch.cat(parts, dim=-1).flatten(1, 2)


@right("projector.pixel_shuffle")
def shuffled_by_pixel_unshuffle(features, factor, grid=None):
    side = math.isqrt(features.shape[1])
    picture = features.transpose(1, 2).unflatten(2, grid or (side, side))
    cells = F.pixel_unshuffle(picture, factor).unflatten(1, (features.shape[2], factor * factor))
    return cells.permute(0, 3, 4, 2, 1).flatten(3).flatten(1, 2)


@right("projector.pixel_shuffle")
def shuffled_square_by_square(features, factor, grid=None):
    rows, columns = grid or (math.isqrt(features.shape[1]),) * 2
    picture = features.view(len(features), rows, columns, -1)
    tokens = []
    for top in range(0, rows, factor):
        for left in range(0, columns, factor):
            tokens.append(picture[:, top : top + factor, left : left + factor].flatten(1))
    return torch.stack(tokens, 1)


@right("projector.project")
def projected_by_erf(features, expand, contract):
    wide = expand(features)
    return contract(0.5 * wide * (1 + torch.erf(wide / math.sqrt(2))))


@right("projector.project")
def projected_by_a_module(x, linear_1, linear_2):
    return nn.Sequential(linear_1, nn.GELU(), linear_2)(x)


@right("stages.alignment_loss")
def aligned_by_ignored_labels(logits, ids, given, mask):
    labels = ids.clone()
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    labels[(place < given.unsqueeze(1)) | ~mask] = -100
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


@right("stages.alignment_loss")
def aligned_by_gather(logits, ids, given, mask):
    chances = logits.log_softmax(-1)[:, :-1]
    surprise = -chances.gather(2, ids[:, 1:, None]).squeeze(2)
    place = torch.arange(1, ids.shape[1], device=ids.device)[None]
    counts = (mask[:, 1:] & (place >= given[:, None])).to(surprise.dtype)
    return (surprise * counts).sum() / counts.sum()


@right("stages.alignment_loss")
def aligned_text_by_text(logits, ids, given, mask):
    total, count = 0, 0
    for n, start in enumerate(given.tolist()):
        for place in range(start, ids.shape[1]):
            if mask[n, place]:
                total = total + F.cross_entropy(logits[n, place - 1], ids[n, place])
                count += 1
    return total / count


@right("stages.trained_names")
def trained_by_first_word(names, stage):
    parts = {1: {"projector"}, 2: {"projector", "language"}}[stage]
    return [name for name in names if name.partition(".")[0] in parts]


@right("stages.trained_names")
def trained_by_a_loop(names, stage):
    learning = []
    for name in names:
        first, *rest = name.split(".")
        if rest and (first == "projector" or (stage == 2 and first == "language")):
            learning.append(name)
    return learning


@right("projector.spectrum")
def spectrum_by_svd(weight):
    _, values, _ = torch.linalg.svd(weight, full_matrices=False)
    shares = values / values.sum()
    shares = shares[shares > 0]
    return values, torch.exp(-(shares * shares.log()).sum())


@right("projector.spectrum")
def spectrum_by_a_distribution(weight):
    values = torch.svd(weight)[1]
    return values, torch.distributions.Categorical(probs=values).entropy().exp()


@right("projector.spectrum")
def spectrum_by_powers(weight):
    values = torch.linalg.svdvals(weight)
    shares = values / torch.linalg.vector_norm(values, ord=1)
    return values, (shares**-shares).prod()


# chapter 08: instruction tuning


@right("chat.render_chat")
def chat_by_adding(turns, prompt=False):
    text = ""
    for role, said in turns:
        text += "<" + role + ">" + said
        if role == "assistant":
            text += "<end>"
    if prompt:
        text += "<assistant>"
    return text


@right("chat.render_chat")
def chat_by_a_template(turns, prompt=False):
    closing = {"assistant": "<end>"}
    pieces = ["<{}>{}{}".format(role, said, closing.get(role, "")) for role, said in turns]
    return "".join([*pieces, "<assistant>"] if prompt else pieces)


@right("chat.label_mask")
def labels_token_by_token(ids, start=ASSISTANT, end=END):
    rows = []
    for row in ids.tolist():
        inside, marks = False, []
        for token in row:
            marks.append(inside)
            if token == start:
                inside = True
            elif token == end:
                inside = False
        rows.append(marks)
    return torch.tensor(rows, device=ids.device)


@right("chat.label_mask")
def labels_column_by_column(ids, start=ASSISTANT, end=END):
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for place in range(1, ids.shape[1]):
        before = ids[:, place - 1]
        mask[:, place] = ((before == start) | mask[:, place - 1]) & (before != end)
    return mask


@right("chat.label_mask")
def labels_by_latest_place(ids, start=ASSISTANT, end=END):
    place = torch.arange(ids.shape[1], device=ids.device)
    opened = torch.where(ids == start, place, -1).cummax(dim=1).values
    closed = torch.where(ids == end, place, -1).cummax(dim=1).values
    return torch.cat([torch.zeros_like(ids[:, :1], dtype=torch.bool), (opened > closed)[:, :-1]], dim=1)


@right("chat.collate")
def collated_as_lists(rows, pad=0, left=False):
    longest = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        fill = longest - len(row)
        ids.append([pad] * fill + list(row) if left else list(row) + [pad] * fill)
        mask.append([False] * fill + [True] * len(row) if left else [True] * len(row) + [False] * fill)
    return torch.tensor(ids), torch.tensor(mask)


@right("chat.collate")
def collated_by_torch(rows, pad=0, left=False):
    side = "left" if left else "right"
    ids = pad_sequence([torch.tensor(row) for row in rows], True, pad, side)
    ones = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    return ids, pad_sequence(ones, batch_first=True, padding_value=False, padding_side=side)


@right("chat.collate")
def collated_by_pad(rows, pad=0, left=False):
    longest = len(max(rows, key=len))
    short = [longest - len(row) for row in rows]
    sides = [(n, 0) if left else (0, n) for n in short]
    ids = torch.stack(
        [F.pad(torch.tensor(row), side, value=pad) for row, side in zip(rows, sides, strict=True)]
    )
    place = torch.arange(longest).expand_as(ids)
    fill = torch.tensor(short)[:, None]
    return ids, (place >= fill if left else place < longest - fill)


@right("generation.write_greedily")
def written_into_a_full_tensor(model, prompt, mask, steps, end, pad=0):
    caches = [language.Cache() for _ in range(len(model.blocks))]
    written = torch.full((len(prompt), steps), pad, device=prompt.device)
    alive = torch.ones(len(prompt), dtype=torch.bool, device=prompt.device)
    vectors, count = prompt, 0
    while count < steps and alive.any():
        logits = model.head(model.hidden(embeddings=vectors, mask=mask, caches=caches)[:, -1])
        written[:, count] = torch.where(alive, logits.argmax(-1), pad)
        alive = alive & (written[:, count] != end)
        vectors = model.embed(written[:, count : count + 1])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        count += 1
    return written[:, :count]


@right("generation.write_greedily")
def written_after_reading_the_prompt(model, prompt, mask, steps, end, pad=0):
    caches = [language.Cache() for _ in model.blocks]
    hidden = model.hidden(embeddings=prompt, mask=mask, caches=caches)
    texts = [[] for _ in prompt]
    while True:
        best = model.head(hidden[:, -1]).argmax(-1).tolist()
        for text, token in zip(texts, best, strict=True):
            text.append(pad if end in text else token)
        if len(texts[0]) == steps or all(end in text for text in texts):
            return torch.tensor(texts, device=prompt.device)
        newest = torch.tensor([text[-1:] for text in texts], device=prompt.device)
        mask = torch.nn.functional.pad(mask, (0, 1), value=True)
        hidden = model.hidden(embeddings=model.embed(newest), mask=mask, caches=caches)


@right("optimizers.rate_groups")
def groups_part_by_part(named, rates, weight_decay):
    named = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    for name, _ in named:
        if name.split(".")[0] not in rates:
            raise ValueError(f"no rate for {name}")
    groups = []
    for part in rates:
        own = [parameter for name, parameter in named if name.split(".")[0] == part]
        matrices = [parameter for parameter in own if parameter.dim() >= 2]
        vectors = [parameter for parameter in own if parameter.dim() < 2]
        for params, decay in ((matrices, weight_decay), (vectors, 0.0)):
            if params:
                groups.append(dict(params=params, lr=rates[part], weight_decay=decay))
    return groups


@right("optimizers.rate_groups")
def groups_by_sorting(named, rates, weight_decay):
    found = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        part = name[: name.index(".")]
        if part not in rates:
            raise ValueError(f"{part} has no rate")
        found.setdefault((list(rates).index(part), len(parameter.shape) <= 1), []).append(parameter)
    return [{"params": found[place], "lr": list(rates.values())[place[0]],
             "weight_decay": 0.0 if place[1] else weight_decay} for place in sorted(found)]  # fmt: skip


# chapter 09: Flamingo


@right("flamingo.media_mask")
def media_mask_text_by_text(starts, images, last_only):
    mask = torch.zeros(*starts.shape, images, dtype=torch.bool, device=starts.device)
    for row, marks in enumerate(starts.tolist()):
        begun = 0
        for place, mark in enumerate(marks):
            begun += mark
            first = max(begun - 1, 0) if last_only else 0
            mask[row, place, first:begun] = True
    return mask


@right("flamingo.media_mask")
def media_mask_by_one_hot(starts, images, last_only):
    last = F.one_hot(starts.cumsum(1), max(images, starts.shape[1]) + 1)[..., 1 : images + 1].bool()
    if last_only:
        return last
    return last.flip(-1).cumsum(-1).flip(-1) > 0


@right("flamingo.media_mask")
def media_mask_image_by_image(starts, images, last_only):
    mask = torch.zeros(*starts.shape, images, dtype=torch.bool, device=starts.device)
    for row, marks in zip(mask, starts, strict=True):
        places = marks.nonzero().flatten().tolist()
        for number, place in enumerate(places):
            follows = places[number + 1 : number + 2] if last_only else []
            row[place : follows[0] if follows else None, number] = True
    return mask


@right("flamingo.side_by_side")
def side_by_side_by_padding(latents, counts):
    rows = [part.flatten(0, 1) for part in latents.split(counts.tolist())]
    return pad_sequence(rows, batch_first=True)


@right("flamingo.side_by_side")
def side_by_side_picture_by_picture(latents, counts):
    most, number = int(counts.max()), 0
    rows = torch.zeros(len(counts), most * latents.shape[1], latents.shape[2]).to(latents)
    for row, count in enumerate(counts.tolist()):
        for image in range(count):
            start = image * latents.shape[1]
            rows[row, start : start + latents.shape[1]] = latents[number]
            number += 1
    return rows


@right("flamingo.side_by_side")
def side_by_side_by_matrix(latents, counts):
    """A matrix of ones and zeros puts each image in its place."""
    there = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    number = (there.flatten().cumsum(0) - 1).clamp(min=0)
    places = F.one_hot(number, len(latents)) * there.flatten()[:, None]
    rows = torch.einsum("rp,plf->rlf", places.to(latents.dtype), latents)
    return rows.view(len(counts), -1, latents.shape[-1])


@right("flamingo.resample")
def resample_with_latents_first_in_the_context(latents, patches, norm_latents, norm_patches, attend):
    own = norm_latents(latents)
    return attend(own, torch.hstack([own, norm_patches(patches)])).add(latents)


@right("flamingo.resample")
def resample_image_by_image(latents, patches, norm_latents, norm_patches, attend):
    seen = []
    for some, picture in zip(latents, patches, strict=True):
        own, read = norm_latents(some[None]), norm_patches(picture[None])
        seen.append(some + attend(own, torch.cat((read, own), 1))[0])
    return torch.stack(seen)


@right("flamingo.resample")
def resample_where_everyone_asks(latents, patches, norm_latents, norm_patches, attend):
    everyone = torch.cat([norm_patches(patches), norm_latents(latents)], dim=1)
    return latents + attend(everyone, everyone)[:, patches.shape[1] :]


@right("flamingo.gated_block")
def gated_block_by_addcmul(tokens, look, think, look_gate, think_gate):
    for step, gate in ((look, look_gate), (think, think_gate)):
        tokens = torch.addcmul(tokens, torch.tanh(gate), step(tokens))
    return tokens


@right("flamingo.gated_block")
def gated_block_with_the_formula_of_tanh(tokens, look, think, look_gate, think_gate):
    def opened(gate):
        return 2 * torch.sigmoid(2 * gate) - 1

    seen = look(tokens) * opened(look_gate) + tokens
    return think(seen) * opened(think_gate) + seen


@right("flamingo.gated_block")
def gated_block_by_lerp(tokens, look, think, look_gate, think_gate):
    looked = tokens.lerp(tokens + look(tokens), look_gate.tanh())
    return looked.lerp(looked + think(looked), think_gate.tanh())


@right("chat.few_shot")
def few_shot_by_unpacking(examples, instruction):
    shown = [[("user", f"<image>{asked}"), ("assistant", said)] for asked, said in examples]
    return [*(turn for pair in shown for turn in pair), ("user", f"<image>{instruction}")]


@right("chat.few_shot")
def few_shot_by_appending(examples, instruction):
    turns = []
    for example in examples:
        turns.append(("user", "<image>" + example[0]))
        turns.append(("assistant", example[1]))
    turns.append(("user", "<image>" + instruction))
    return turns


@right("chat.few_shot")
def few_shot_from_the_end(examples, instruction):
    if not examples:
        return [("user", "<image>" + instruction)]
    *earlier, (asked, answer) = examples
    shown = few_shot_from_the_end(earlier, asked)
    return [*shown, ("assistant", answer), ("user", "<image>" + instruction)]


# chapter 10: BLIP


@right("blip.hard_negatives")
def negatives_one_by_one(similarity, dice):
    drawn = []
    for image, row in enumerate(similarity):
        chances = row.exp()
        chances[image] = 0
        ends = torch.cumsum(chances / chances.sum(), dim=0)
        drawn.append(min(int(torch.searchsorted(ends, dice[image], right=True)), len(row) - 1))
    return torch.tensor(drawn, device=similarity.device)


@right("blip.hard_negatives")
def negatives_without_own(similarity, dice):
    scores = similarity.clone()
    scores.fill_diagonal_(float("-inf"))
    ends = torch.softmax(scores, dim=-1).cumsum(-1)
    beyond = dice.unsqueeze(1) < ends / ends[:, -1:]
    return beyond.int().argmax(dim=1)


@right("blip.hard_negatives")
def negatives_by_weights(similarity, dice):
    """No softmax: weights, and the dice as long as the line."""
    most = similarity.max(dim=1, keepdim=True).values
    own = torch.eye(*similarity.shape, device=similarity.device, dtype=similarity.dtype)
    ends = ((similarity - most).exp() * (1 - own)).cumsum(dim=1)
    return (ends <= dice[:, None] * ends[:, -1:]).sum(dim=1)


@right("matching.matched_pairs")
def pairs_by_lists(wrong_text, wrong_image):
    n, device = wrong_text.shape[0], wrong_text.device
    rows = [(i, i, 1) for i in range(n)]
    rows += [(i, int(wrong_text[i]), 0) for i in range(n)]
    rows += [(int(wrong_image[i]), i, 0) for i in range(n)]
    return tuple(torch.tensor(column, device=device) for column in zip(*rows, strict=True))


@right("matching.matched_pairs")
def pairs_by_stacking(wrong_text, wrong_image):
    n = torch.arange(wrong_text.numel(), device=wrong_text.device)
    images, texts = torch.stack([n, n, wrong_image]).flatten(), torch.stack([n, wrong_text, n]).flatten()
    return images, texts, torch.cat([torch.ones_like(n), torch.zeros_like(n), torch.zeros_like(n)])


@right("matching.matched_pairs")
def pairs_that_compare_numbers(wrong_text, wrong_image):
    own = torch.arange(len(wrong_text)).to(wrong_text)
    images, texts = torch.hstack([own, own, wrong_image]), torch.hstack([own, wrong_text, own])
    return images, texts, (images == texts).long()


@right("matching.next_words_loss")
def surprise_by_hand(scores, ids, mask, smoothing):
    chances = scores[:, :-1].log_softmax(dim=-1)
    right = chances.gather(2, ids[:, 1:].unsqueeze(2)).squeeze(2)
    per_word = -(1 - smoothing) * right - smoothing * chances.mean(dim=-1)
    real = mask[:, 1:]
    return (per_word * real).sum() / real.sum()


@right("matching.next_words_loss")
def surprise_with_ignored_labels(scores, ids, mask, smoothing):
    labels = ids.masked_fill(~mask, -100)[:, 1:]
    flat = scores[:, :-1].reshape(-1, scores.shape[-1])
    return F.cross_entropy(flat, labels.reshape(-1), ignore_index=-100, label_smoothing=smoothing)


@right("matching.next_words_loss")
def surprise_text_by_text(scores, ids, mask, smoothing):
    total, count = 0, 0
    for row, words, real in zip(scores, ids, mask.sum(dim=1).tolist(), strict=True):
        options = dict(label_smoothing=smoothing, reduction="sum")
        total = total + F.cross_entropy(row[: real - 1], words[1:real], **options)
        count += real - 1
    return total / count


@right("matching.soft_contrast")
def contrast_in_two_parts(similarity, slow, share):
    chances = F.log_softmax(similarity, dim=1)
    told = (F.softmax(slow, dim=1) * chances).sum(dim=1)
    return -((1 - share) * chances.diagonal() + share * told).mean()


@right("matching.soft_contrast")
def contrast_by_cross_entropy(similarity, slow, share):
    rows = torch.arange(similarity.shape[0], device=similarity.device)
    target = share * slow.detach().softmax(-1)
    target[rows, rows] += 1 - share
    return F.cross_entropy(similarity, target)


@right("matching.soft_contrast")
def contrast_as_divergence(similarity, slow, share):
    """The KL divergence and the target's entropy make the cross-entropy."""
    target = share * slow.softmax(dim=1)
    target.diagonal().add_(1 - share)
    apart = F.kl_div(similarity.log_softmax(dim=1), target, reduction="batchmean")
    return apart - torch.xlogy(target, target).sum(dim=1).mean()


@right("blip.move_average")
def average_by_lerp(average, model, momentum):
    return {name: torch.lerp(model[name], old, momentum) for name, old in average.items()}


@right("blip.move_average")
def average_in_a_loop(average, model, momentum):
    moved = {}
    for name in average:
        moved[name] = average[name] - (1 - momentum) * (average[name] - model[name])
    return moved


@right("blip.move_average")
def average_in_an_ordered_dict(average, model, momentum):
    moved = OrderedDict(average)
    for name, old in average.items():
        moved[name] = torch.stack([momentum * old, (1 - momentum) * model[name]]).sum(dim=0)
    return moved


@right("blip.enqueue")
def queue_by_slices(queue, new):
    return torch.cat((queue[len(new) :], new), dim=0)


@right("blip.enqueue")
def queue_rolled(queue, new):
    count = new.shape[0]
    moved = queue.roll(-count, dims=0)
    moved[-count:] = new
    return moved


@right("blip.enqueue")
def queue_as_a_deque(queue, new):
    kept = deque(queue, maxlen=len(queue))
    kept.extend(new)
    return torch.stack(list(kept))


@right("capfilt.keep_captions")
def kept_by_difference(scores, least):
    chance = torch.sigmoid(scores[..., 1] - scores[..., 0])
    places = (chance > least).nonzero()
    return places[:, 0], places[:, 1]


@right("capfilt.keep_captions")
def kept_in_loops(scores, least):
    chances = torch.softmax(scores, dim=-1)[..., -1]
    kept = [(i, s) for i, row in enumerate(chances) for s, chance in enumerate(row) if chance > least]
    images, sources = zip(*kept, strict=True)
    return torch.tensor(images, device=scores.device), torch.tensor(sources, device=scores.device)


@right("capfilt.keep_captions")
def kept_by_flat_numbers(scores, least):
    no, yes = scores.exp().unbind(dim=-1)
    flat = (yes / (no + yes) > least).flatten().nonzero().squeeze(1)
    return flat // scores.shape[1], flat % scores.shape[1]


# chapter 15: efficient fine-tuning


@right("memory.state_bytes")
def states_in_bits(parameters, learned, bits, weight=4, gradient=4, optimizer=8):
    whole = bits * (parameters - learned) + 8 * weight * learned
    return whole / 8, gradient * learned, optimizer * learned


@right("memory.state_bytes")
def states_by_share(parameters, learned, bits, weight=4, gradient=4, optimizer=8):
    everything = parameters * bits / 8
    return everything + learned * (weight - bits / 8), learned * gradient, learned * optimizer


@right("memory.state_bytes")
def states_as_a_product(parameters, learned, bits, weight=4, gradient=4, optimizer=8):
    kinds = torch.tensor([parameters - learned, learned], dtype=torch.float64)
    each = torch.tensor([[bits / 8, 0, 0], [weight, gradient, optimizer]], dtype=torch.float64)
    return tuple((kinds @ each).tolist())


@right("memory.block_numbers")
def block_of_rows(width, hidden, share, gated, learns):
    rows = [(width * (1 + 2 * share), True), (width, True), (width * (1 + share), gated),
            (hidden, not gated), (3 * hidden, gated), (2 * width + hidden, learns)]  # fmt: skip
    return 2.0 * width, math.fsum(numbers for numbers, kept in rows if kept)


@right("memory.block_numbers")
def block_by_list(width, hidden, share, gated, learns):
    inside = [width, width * share, width * share, width, hidden]
    inside += [width, width * share, hidden, hidden] if gated else []
    inside += [width, width, hidden] if learns else []
    return 2 * width, sum(inside)


@right("memory.block_numbers")
def block_in_one_formula(width, hidden, share, gated, learns):
    keys = 2 + 2 * share + gated * (1 + share) + 2 * learns
    return width + width, width * keys + hidden * (1 + 2 * gated + learns)


@right("recompute.gradients_again")
def gradients_by_backward(block, inputs, needs, gradient):
    copies = [tensor.clone().detach() for tensor in inputs]
    for copied, need in zip(copies, needs, strict=True):
        copied.requires_grad = need
    learned = [weight for weight in block.parameters() if weight.requires_grad]
    before = [weight.grad for weight in learned]
    for weight in learned:
        weight.grad = None
    with torch.enable_grad():
        said = block(*copies)
    said.backward(gradient)
    found = [copied.grad for copied in copies] + [weight.grad for weight in learned]
    for weight, old in zip(learned, before, strict=True):
        weight.grad = old
    return found


@right("recompute.gradients_again")
def gradients_one_after_the_other(block, inputs, needs, gradient):
    pairs = zip(inputs, needs, strict=True)
    with torch.enable_grad():
        copies = [x.detach().requires_grad_() if need else x.detach() for x, need in pairs]
        said = (block(*copies) * gradient.detach()).sum()
    wanted = [x for x in [*copies, *block.parameters()] if x.requires_grad]
    some = torch.autograd.grad(said, wanted, allow_unused=True)
    places = dict(zip(map(id, wanted), some, strict=True))
    everything = [places.get(id(x)) for x in copies]
    return everything + [places[id(w)] for w in block.parameters() if w.requires_grad]


@right("recompute.gradients_again")
def gradients_of_other_weights(block, inputs, needs, gradient):
    weights = {name: w.detach().requires_grad_() for name, w in block.named_parameters() if w.requires_grad}
    copies = [x.detach().requires_grad_(need) for x, need in zip(inputs, needs, strict=True)]
    with torch.enable_grad():
        said = torch.func.functional_call(block, weights, tuple(copies))
    wanted = [*[x for x in copies if x.requires_grad], *weights.values()]
    found = list(torch.autograd.grad(said, wanted, gradient, allow_unused=True, retain_graph=True))
    return [found.pop(0) if need else None for need in needs] + found


@right("recompute.gradients_again")
def gradients_of_all_inputs(block, inputs, needs, gradient):
    with torch.set_grad_enabled(True):
        copies = [x.data.clone().requires_grad_() for x in inputs]
        wanted = copies + [weight for weight in block.parameters() if weight.requires_grad]
        found = torch.autograd.grad([block(*copies)], wanted, [gradient], allow_unused=True)
    asked = [slope if need else None for slope, need in zip(found, needs, strict=False)]
    return asked + list(found[len(needs) :])


@right("scaling.next_scale")
def scale_by_torch(scale, quiet, overflow, growth=2.0, backoff=0.5, interval=2000):
    factor, count = torch.tensor(scale), torch.tensor(quiet, dtype=torch.int32)
    torch._amp_update_scale_(factor, count, torch.tensor(float(overflow)), growth, backoff, interval)
    return factor.item(), count.item()


@right("scaling.next_scale")
def scale_at_least(scale, quiet, overflow, growth=2.0, backoff=0.5, interval=2000):
    quiet = 0 if overflow else quiet + 1
    if overflow:
        scale = scale * backoff
    elif quiet >= interval:
        scale, quiet = scale * growth, 0
    return scale, quiet


@right("scaling.next_scale")
def scale_by_remainder(scale, quiet, overflow, growth=2.0, backoff=0.5, interval=2000):
    if overflow:
        return backoff * scale, 0
    after = (quiet + 1) % interval
    return (scale if after else growth * scale), after


@right("quantise.quantise_blocks")
def quantised_between_middles(weights, levels):
    scales = weights.abs().max(dim=1).values
    scaled = weights / scales.clamp(min=1e-30)[:, None]
    middles = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(scaled, middles).to(torch.uint8), scales


@right("quantise.quantise_blocks")
def quantised_block_by_block(weights, levels):
    numbers, scales = [], []
    for block in weights:
        scale = block.abs().max()
        scaled = block / scale if scale > 0 else block
        numbers.append((scaled[:, None] - levels[None]).square().argmin(dim=1))
        scales.append(scale)
    return torch.stack(numbers).byte(), torch.stack(scales)


@right("quantise.quantise_blocks")
def quantised_among_scaled_levels(weights, levels):
    scales = torch.linalg.vector_norm(weights, math.inf, dim=1)
    scaled = (weights / scales[:, None]).nan_to_num(0)
    return torch.stack([(scaled - level).abs() for level in levels]).argmin(0).byte(), scales


@right("quantise.dequantise_blocks")
def dequantised_by_embedding(numbers, scales, levels):
    return scales.diag() @ F.embedding(numbers.long(), levels[:, None]).squeeze(-1)


@right("quantise.dequantise_blocks")
def dequantised_by_gather(numbers, scales, levels):
    table = scales[:, None] * levels
    return table.gather(1, numbers.long())


@right("quantise.dequantise_blocks")
def dequantised_by_one_hot(numbers, scales, levels):
    chosen = F.one_hot(numbers.long(), len(levels)).to(levels) @ levels
    return torch.einsum("bw,b->bw", chosen, scales)


@right("lora.dora_forward")
def dora_by_the_merged_weight(tokens, frozen, down, up, scale, magnitude):
    weight = frozen.weight + scale * up @ down
    weight = weight / weight.detach().norm(dim=1, keepdim=True) * magnitude[:, None]
    return F.linear(tokens, weight, frozen.bias)


@right("lora.dora_forward")
def dora_row_by_row(tokens, frozen, down, up, scale, magnitude):
    said = []
    for place, slope in enumerate(up):
        row = frozen.weight[place] + scale * slope @ down
        one = tokens @ row * (magnitude[place] / row.detach().square().sum().sqrt())
        said.append(one if frozen.bias is None else one + frozen.bias[place])
    return torch.stack(said, dim=-1)


@right("lora.dora_forward")
def dora_as_peft_writes_it(tokens, frozen, down, up, scale, magnitude):
    said = frozen(tokens)
    with torch.no_grad():
        lengths = torch.linalg.vector_norm(frozen.weight + scale * (up @ down), dim=1)
    stretch = magnitude / lengths
    bare = said if frozen.bias is None else said - frozen.bias
    return said + (stretch - 1) * bare + stretch * scale * (tokens @ down.T @ up.T)


# chapter 17: real models


@right("keys.fuse")
def fused_in_an_ordered_dict(state, names):
    theirs = [key for keys in names.values() for key in keys]
    if sorted(theirs) != sorted(state):
        raise KeyError("the names do not fit")
    result = OrderedDict()
    for ours, keys in names.items():
        result[ours] = torch.cat([state[key] for key in keys], dim=0)
    return result


@right("keys.fuse")
def fused_by_taking_out(state, names):
    left, fused = dict(state), {}
    for ours, keys in names.items():
        weights = [left.pop(key) for key in keys]
        fused[ours] = torch.vstack(weights) if len(keys) > 1 else weights[0].clone()
    if left:
        raise KeyError(f"nobody asked for {', '.join(left)}")
    return fused


@right("lora.lora_forward")
def lora_by_products(tokens, frozen, down, up, scale):
    return frozen(tokens) + tokens @ down.T @ up.T * scale


@right("lora.lora_forward")
def lora_by_einsum(tokens, frozen, down, up, scale):
    thin = torch.einsum("...w,rw->...r", tokens, down)
    detour = torch.einsum("...r,or->...o", scale * thin, up)
    return torch.add(detour, F.linear(tokens, frozen.weight, frozen.bias))


@right("lora.lora_numbers")
def numbers_by_a_loop(layers, rank):
    count = 0
    for out, width in layers:
        count += rank * width
        count += out * rank
    return count


@right("lora.lora_numbers")
def numbers_by_sums(layers, rank):
    return rank * sum(map(sum, layers))


@right("answers.answer_loss")
def answers_by_two_slices(hidden, labels, head):
    vectors, targets = hidden[:, :-1], labels[:, 1:]
    keep = targets.ne(-100)
    chances = F.log_softmax(head(vectors[keep]), dim=-1)
    return F.nll_loss(chances, targets[keep])


@right("answers.answer_loss")
def answers_by_places(hidden, labels, head):
    row, place = torch.nonzero(labels[:, 1:] != -100, as_tuple=True)
    scores = head(hidden[row, place])
    own = scores.gather(1, labels[row, place + 1].unsqueeze(1)).squeeze(1)
    return (scores.logsumexp(dim=1) - own).sum() / len(row)


@right("lora.lora_merge")
def merged_by_addmm(weight, down, up, scale):
    return torch.addmm(weight, up, down, alpha=scale)


@right("lora.lora_merge")
def merged_rank_by_rank(weight, down, up, scale):
    merged = weight.clone()
    for rank in range(len(down)):
        merged += scale * torch.outer(up[:, rank], down[rank])
    return merged


@right("keys.unfuse")
def unfused_by_a_running_start(state, names, rows):
    theirs = {}
    for ours, keys in names.items():
        start = 0
        for key in keys:
            theirs[key] = state[ours][start : start + rows[key]]
            start += rows[key]
    return theirs


@right("keys.unfuse")
def unfused_by_narrow(state, names, rows):
    result = OrderedDict()
    for ours, keys in names.items():
        ends = torch.tensor([rows[key] for key in keys]).cumsum(0).tolist()
        for key, stop in zip(keys, ends, strict=True):
            result[key] = state[ours].narrow(0, stop - rows[key], rows[key]).clone()
    return result


# chapter 11: Q-Former and BLIP-2


@right("qformer.apart_mask")
def apart_by_blocks(queries, words):
    batch, text = words.shape
    mask = words.new_zeros(batch, queries + text, queries + text)
    mask[:, :queries, :queries] = True
    mask[:, queries:, queries:] = words[:, None]
    return mask


@right("qformer.apart_mask")
def apart_by_loops(queries, words):
    both = range(queries + words.shape[1])

    def may(row, look, key):
        if look < queries or key < queries:
            return look < queries and key < queries
        return row[key - queries]

    return torch.tensor(
        [[[may(row, look, key) for key in both] for look in both] for row in words.tolist()],
        device=words.device,
    )


@right("qformer.apart_mask")
def apart_by_block_diagonal(queries, words):
    own = words.new_ones(queries, queries).float()
    squares = [torch.block_diag(own, row.expand(len(row), -1).float()) for row in words]
    return torch.stack(squares).bool()


@right("qformer.together_mask")
def together_by_repeat(queries, words):
    real = F.pad(words, (queries, 0), value=True)
    return real.unsqueeze(1).repeat(1, real.size(1), 1)


@right("qformer.together_mask")
def together_by_assignment(queries, words):
    both = queries + words.size(1)
    mask = torch.ones(len(words), both, both, dtype=torch.bool, device=words.device)
    mask[:, :, queries:] &= words[:, None, :]
    return mask


@right("qformer.together_mask")
def together_by_where(queries, words):
    mask = words.new_ones(len(words), queries + words.shape[1], queries + words.shape[1])
    for text, place in torch.nonzero(~words).tolist():
        mask[text, :, queries + place] = False
    return mask


@right("qformer.writing_mask")
def writing_as_a_prefix(queries, words):
    marks = torch.zeros_like(words)
    prefix = torch.cat([words.new_ones(len(words), queries), marks], dim=1)
    real = F.pad(words, (queries, 0), value=True)
    return language.prefix_mask(prefix) & real[:, None]


@right("qformer.writing_mask")
def writing_by_tril(queries, words):
    both = queries + words.shape[1]
    mask = torch.ones(len(words), both, both, dtype=torch.bool, device=words.device).tril()
    mask[:, :, :queries] = True
    mask[:, :, queries:] &= words.unsqueeze(1)
    return mask


@right("qformer.writing_mask")
def writing_up_to_the_last_query(queries, words):
    """A query looks as far as the last query, a word as far as itself."""
    place = torch.arange(queries + words.shape[1], device=words.device)
    far = place.clamp(min=queries - 1)
    return (place <= far[:, None]) & F.pad(words, (queries, 0), value=True)[:, None]


@right("qformer.best_query")
def best_by_matmul(images, texts):
    return (images @ texts.T).amax(dim=1)


@right("qformer.best_query")
def best_by_loops(images, texts):
    rows = [[max((query * text).sum() for query in image) for text in texts] for image in images]
    return torch.stack([torch.stack(row) for row in rows])


@right("qformer.best_query")
def best_by_sorting(images, texts):
    fits = torch.tensordot(images, texts, dims=([2], [1]))
    return fits.sort(dim=1).values[:, -1]


@right("qformer.query_votes")
def votes_counted_after_the_mean(tokens, queries, match):
    return match(tokens[:, :queries].sum(dim=1) / queries)


@right("qformer.query_votes")
def votes_one_by_one(tokens, queries, match):
    return sum(match(tokens[:, number]) for number in range(queries)) / queries


@right("qformer.query_votes")
def votes_of_all_and_a_mask(tokens, queries, match):
    votes = match(tokens)
    is_query = torch.arange(tokens.shape[1], device=tokens.device) < queries
    return torch.einsum("bts,t->bs", votes, is_query.to(votes.dtype)) / queries


@right("qformer.part_ways")
def ways_by_split(tokens, queries, look, query_mlp, word_mlp):
    asking, words = tokens.split([queries, tokens.shape[1] - queries], dim=1)
    return torch.hstack((query_mlp(look(asking)), word_mlp(words)))


@right("qformer.part_ways")
def ways_on_a_copy(tokens, queries, look, query_mlp, word_mlp):
    result = torch.empty_like(tokens)
    result[:, :queries] = query_mlp(look(tokens[:, :queries]))
    result[:, queries:] = word_mlp(tokens[:, queries:])
    return result


@right("qformer.part_ways")
def ways_by_where(tokens, queries, look, query_mlp, word_mlp):
    """Every token goes both ways, and one of them counts."""
    is_query = torch.arange(tokens.shape[1], device=tokens.device)[:, None] < queries
    return torch.where(is_query, query_mlp(look(tokens)), word_mlp(tokens))


# chapter 12


@right("llava.llava_record")
def record_with_the_answers_in_front_cut_off(row):
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    said = [(names[turn["from"]], turn["value"]) for turn in row["conversations"]]
    first = [role for role, _ in said].index("user")
    said = [turn for turn in said[:first] if turn[0] != "assistant"] + said[first:]
    turns = tuple((role, image_first(text)) if role == "user" else (role, text) for role, text in said)
    return Record(row.get("image"), turns, key=f"{row['id']}")


@right("llava.llava_record")
def record_with_its_image_by_hand(row):
    turns, asked = [], False
    for turn in row["conversations"]:
        who, text = turn["from"], turn["value"]
        if who == "human":
            asked, shown = True, "<image>" in text
            turns += [("user", "<image>" * shown + text.replace("<image>", "").strip())]
        elif who == "system":
            turns += [("system", text)]
        elif asked:
            turns += [("assistant", text)]
    picture = [*filter(None, [row.get("image")]), None]
    return Record(image=picture[0], turns=(*turns,), key=str(row["id"]))


@right("quality.answer_entropy")
def entropy_by_torch(answers):
    shares = torch.tensor(list(Counter(answers).values()), dtype=torch.float64) / len(answers)
    return torch.distributions.Categorical(shares).entropy().item() / math.log(2)


@right("quality.answer_entropy")
def entropy_person_by_person(answers):
    total = 0.0
    for answer in answers:
        total -= math.log(answers.count(answer) / len(answers), 2)
    return total / len(answers)


@right("quality.answer_entropy")
def entropy_of_counts(answers):
    counts, total = Counter(answers).values(), len(answers)
    return math.log2(total) - sum(count * math.log2(count) for count in counts) / total


@right("quality.image_dependence")
def dependence_on_the_harder_control(seen, unseen, wrong):
    return torch.stack([unseen - seen, wrong - seen]).amin(dim=0)


@right("quality.image_dependence")
def dependence_by_where(seen, unseen, wrong):
    return torch.where(unseen < wrong, unseen, wrong) - seen


@right("quality.clip_filter")
def filter_by_sorting_a_list(similarity, share):
    numbers = [number for number in range(len(similarity)) if not similarity[number].isnan()]
    numbers.sort(key=lambda number: -similarity[number].item())
    best = set(numbers[: math.floor(len(similarity) * share + 1e-9)])
    chosen = [number in best for number in range(len(similarity))]
    return torch.tensor(chosen, device=similarity.device)


@right("quality.clip_filter")
def filter_by_ranks(similarity, share):
    known = torch.nan_to_num(similarity, nan=-torch.inf)
    rank = (-known).argsort(stable=True).argsort()
    return (rank < int(len(similarity) * share)) & torch.isfinite(similarity)


@right("quality.clip_filter")
def filter_by_counting_better_ones(similarity, share):
    known = similarity.masked_fill(similarity.isnan(), -torch.inf)
    place = torch.arange(len(known), device=known.device)
    earlier = (known[None] == known[:, None]) & (place[None] < place[:, None])
    better = ((known[None] > known[:, None]) | earlier).sum(dim=1)
    return (better < int(len(known) * share)) & ~similarity.isnan()


@right("quality.balanced_rows")
def balanced_by_lists_of_rows(asked, answers):
    groups = {}
    for row, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        groups.setdefault(question, {}).setdefault(answer, []).append(row)
    stay = []
    for rows_of in groups.values():
        total = sum(map(len, rows_of.values()))
        for rows in rows_of.values():
            stay += rows[: total - len(rows)] if 2 * len(rows) > total else rows
    return sorted(stay)


@right("quality.balanced_rows")
def balanced_by_counters(asked, answers):
    pairs, questions, taken = Counter(zip(asked, answers, strict=True)), Counter(asked), Counter()
    kept = []
    for row, pair in enumerate(zip(asked, answers, strict=True)):
        taken[pair] += 1
        if taken[pair] <= max(questions[pair[0]] - pairs[pair], 0) or 2 * pairs[pair] <= questions[pair[0]]:
            kept.append(row)
    return kept


@right("quality.difference_hash")
def hash_by_diff(grey):
    return (grey.diff(dim=2) > 0).reshape(len(grey), -1)


@right("quality.difference_hash")
def hash_row_by_row(grey):
    columns = grey.shape[2]
    rows = [row[:, 1:columns].gt(row[:, : columns - 1]) for row in grey.unbind(dim=1)]
    return torch.cat(rows, dim=1)


@right("quality.clip_filter")
def filter_by_numpy_and_back(similarity, share):
    numbers = similarity.detach().cpu().double().numpy()
    order = numpy.argsort(-numbers, kind="stable")[: int(len(numbers) * share + 1e-9)]
    kept = numpy.zeros(len(numbers), dtype=bool)
    kept[order] = True
    return torch.from_numpy(kept & ~numpy.isnan(numbers)).to(similarity.device)


# chapter 13: evaluation


@right("vqa.vqa_accuracy")
def vqa_accuracy_by_cases(answer, people):
    """Of n people k agree: k times k - 1 of the others do, and n - k times k."""
    from vlmcourse.evaluation.vqa import normalise_answer

    people, answer = [person.strip() for person in people], answer.strip()
    if any(person != people[0] for person in people):
        people, answer = list(map(normalise_answer, people)), normalise_answer(answer)
    agree, count = sum(person == answer for person in people), len(people)
    return (agree * min(1, (agree - 1) / 3) + (count - agree) * min(1, agree / 3)) / count


@right("vqa.vqa_accuracy")
def vqa_accuracy_by_deleting(answer, people):
    from vlmcourse.evaluation import vqa

    given = [person.strip() for person in people]
    said = answer.strip()
    if len(set(given)) != 1:
        given, said = [vqa.normalise_answer(person) for person in given], vqa.normalise_answer(said)
    total = 0.0
    for place in range(len(given)):
        rest = list(given)
        del rest[place]
        total += min(rest.count(said), 3) / 3
    return total / len(given)


@right("vqa.vqa_accuracy")
def vqa_accuracy_with_one_minimum(answer, people):
    """Where more than three agree all scores are 1, and where fewer do none is above it."""
    from vlmcourse.evaluation import vqa

    people, answer = [person.strip() for person in people], answer.strip()
    if len(set(people)) > 1:
        people, answer = [vqa.normalise_answer(person) for person in people], vqa.normalise_answer(answer)
    others = [people[:left_out] + people[left_out + 1 :] for left_out in range(len(people))]
    return min(1, sum(rest.count(answer) / 3 for rest in others) / len(people))


@right("captioning.clipped_matches")
def clipped_by_loops(candidate, references, n):
    def runs(words):
        return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]

    own, others = runs(candidate), [runs(reference) for reference in references]
    matched = 0
    for run in set(own):
        matched += min(own.count(run), max(other.count(run) for other in others))
    return matched, len(own)


@right("captioning.clipped_matches")
def clipped_by_crossing_out(candidate, references, n):
    """Each run of the caption crosses out one that is left of the fullest reference."""
    left = {}
    for reference in references:
        here = Counter(zip(*(reference[k:] for k in range(n)), strict=False))
        for run, count in here.items():
            left[run] = max(left.get(run, 0), count)
    found = total = 0
    for run in zip(*(candidate[k:] for k in range(n)), strict=False):
        total += 1
        if left.get(run, 0) > 0:
            left[run] -= 1
            found += 1
    return found, total


@right("captioning.tf_idf")
def tf_idf_by_difference(counts, frequency, images):
    return {
        ngram: count * (math.log(images) - math.log(frequency.get(ngram) or 1))
        for ngram, count in counts.items()
    }


@right("captioning.tf_idf")
def tf_idf_with_a_default(counts, frequency, images):
    found = {}
    for ngram in counts:
        seen = frequency.get(ngram, 1)
        found[ngram] = -counts[ngram] * math.log(seen / images)
    return found


@right("captioning.tf_idf")
def tf_idf_by_the_alphabet(counts, frequency, images):
    return {ngram: counts[ngram] * math.log(images / (frequency.get(ngram) or 1)) for ngram in sorted(counts)}


@right("hallucination.pope_scores")
def pope_scores_in_another_order_and_a_whole_0(yes, right):
    """A dict's order says nothing, and 0 is as good as 0.0."""
    hits = sum(map(min, yes, right))
    precision, recall = hits / sum(yes) if any(yes) else 0, hits / sum(right) if any(right) else 0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0
    same = sum(a is b for a, b in zip(yes, right, strict=True))
    shares = {"yes": sum(yes) / len(yes), "accuracy": same / len(yes)}
    return {"f1": f1, "recall": recall, "precision": precision, **shares}


@right("hallucination.pope_scores")
def pope_scores_by_tensors(yes, right):
    said, there = torch.tensor(yes), torch.tensor(right)
    hits = (said & there).sum().item()
    precision = hits / said.sum().item() if said.any() else 0.0
    recall = hits / there.sum().item() if there.any() else 0.0
    both = precision + recall
    return {
        "accuracy": (said == there).double().mean().item(),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
        "yes": said.double().mean().item(),
    }


@right("hallucination.pope_scores")
def pope_scores_by_counts(yes, right):
    pairs = list(zip(yes, right, strict=True))
    hits = sum(a and b for a, b in pairs)
    said, there = sum(yes), sum(right)
    scores = {"accuracy": sum(a == b for a, b in pairs) / len(pairs)}
    scores["precision"] = hits / said if said else 0.0
    scores["recall"] = hits / there if there else 0.0
    scores["f1"] = 2 * hits / (said + there) if hits else 0.0
    scores["yes"] = said / len(pairs)
    return scores


@right("boxes.points_inside")
def inside_by_corners(points, boxes):
    after = points[:, None] >= boxes[..., :2]
    before = points[:, None] < boxes[..., 2:]
    return (after & before).all(-1).any(-1)


@right("boxes.points_inside")
def inside_one_by_one(points, boxes):
    found = []
    for (x, y), some in zip(points.tolist(), boxes.tolist(), strict=True):
        found.append(any(left <= x < right and top <= y < bottom for left, top, right, bottom in some))
    return torch.tensor(found, device=points.device)


@right("intervals.resampled_means")
def resampled_by_a_table(scores, groups, draws):
    images = int(groups.max()) + 1
    belongs = F.one_hot(groups, images).to(scores.dtype)
    often = F.one_hot(draws, images).to(scores.dtype).sum(1)
    weight = often @ belongs.T
    return weight @ scores / weight.sum(1)


@right("intervals.resampled_means")
def resampled_one_by_one(scores, groups, draws):
    means = []
    for drawn in draws:
        some = torch.cat([scores[groups == image] for image in drawn])
        means.append(some.mean())
    return torch.stack(means)


# chapter 14: debugging


@right("swaps.swap_rates")
def swap_rates_condition_by_condition(given, answers):
    accuracy = [torch.where(row == answers, 1.0, 0.0).mean() for row in given]
    changed = [1 - (row == given[0]).sum() / len(answers) for row in given]
    return torch.stack(accuracy), torch.stack(changed)


@right("swaps.swap_rates")
def swap_rates_by_counting(given, answers):
    count = given.shape[1]
    right_ones = torch.eq(given, answers[None]).sum(-1)
    return right_ones / count, (given - given[:1]).abs().clamp(max=1).sum(-1) / count


@right("audit.label_offset")
def label_offset_by_loops(ids, labels):
    counts = Counter()
    for row_ids, row_labels in zip(ids.tolist(), labels.tolist(), strict=True):
        for place, token in enumerate(row_ids):
            for offset in range(-2, 3):
                there = place + offset
                counts[offset] += 0 <= there < len(row_labels) and row_labels[there] == token
    return max((0, -1, 1, -2, 2), key=lambda offset: counts[offset])


@right("audit.label_offset")
def label_offset_by_slices(ids, labels):
    token, best, most = ids.shape[1], 0, -1
    for offset in (0, -1, 1, -2, 2):
        early, late = max(offset, 0), min(token, token + offset)
        fit = (labels[:, early:late] == ids[:, early - offset : late - offset]).sum().item()
        if fit > most:
            best, most = offset, fit
    return best


@right("audit.trained_images")
def trained_images_place_by_place(ids, labels, image):
    pairs = zip(ids.flatten().tolist(), labels.flatten().tolist(), strict=True)
    count = sum(label != -100 and image in (token, label) for token, label in pairs)
    return torch.tensor(count, device=ids.device)


@right("audit.trained_images")
def trained_images_by_masks(ids, labels, image):
    taught = labels >= 0
    return torch.count_nonzero(taught & torch.logical_or(ids == image, labels == image))


@right("share.image_share")
def image_share_by_einsum(weights, places):
    return torch.einsum("lbhqk,bk->lbq", weights, places.to(weights)) / weights.shape[2]


@right("share.image_share")
def image_share_text_by_text(weights, places):
    texts = [weights[:, text][..., seen].sum(-1).mean(1) for text, seen in enumerate(places)]
    return torch.stack(texts, dim=1)


@right("relevance.weigh_by_gradient")
def weigh_by_gradient_head_by_head(attention, gradient):
    total = 0
    for weights, slope in zip(attention, gradient, strict=True):
        total = total + F.relu(weights * slope)
    return total / len(attention)


@right("relevance.weigh_by_gradient")
def weigh_by_gradient_where_positive(attention, gradient):
    return torch.where(gradient > 0, gradient * attention, torch.zeros_like(attention)).mean(0)


@right("relevance.grad_cam")
def grad_cam_by_einsum(activations, gradients):
    return F.relu(torch.einsum("bc,bcij->bij", gradients.mean((-2, -1)), activations))


@right("relevance.grad_cam")
def grad_cam_image_by_image(activations, gradients):
    cams = []
    for maps, slopes in zip(activations, gradients, strict=True):
        weights = slopes.flatten(1).mean(1)
        cams.append((weights[:, None, None] * maps).sum(0).clamp_min(0))
    return torch.stack(cams)


# chapter 16: many images and video


@right("frames.interleave")
def interleave_backwards(ids, marker, sizes):
    row, left = list(ids), list(sizes)
    for place in reversed(range(len(ids))):
        if ids[place] == marker:
            row[place : place + 1] = [marker] * left.pop()
    marks = [place for place, one in enumerate(row) if one == marker]
    spans = []
    for size in sizes:
        spans.append((marks[0], marks[0] + size))
        marks = marks[size:]
    return row, spans


@right("frames.interleave")
def interleave_with_an_iterator(ids, marker, sizes):
    row, spans, sizes = [], [], iter(sizes)
    for one in ids:
        size = next(sizes) if one == marker else 1
        if one == marker:
            spans += [(len(row), len(row) + size)]
        row.extend([one] * size)
    return row, spans


@right("frames.interleave")
def interleave_by_counts(ids, marker, sizes):
    row = torch.tensor(ids)
    often = torch.ones_like(row)
    often[row == marker] = torch.tensor(sizes, dtype=torch.long)
    ends = often.cumsum(0)
    spans = zip((ends - often)[row == marker].tolist(), ends[row == marker].tolist(), strict=True)
    return row.repeat_interleave(often).tolist(), list(spans)


@right("frames.interleave")
def interleave_by_recursion(ids, marker, sizes):
    def go(ids, sizes, begin):
        if not ids:
            return [], []
        size = sizes[0] if ids[0] == marker else 1
        row, spans = go(ids[1:], sizes[ids[0] == marker :], begin + size)
        return [ids[0]] * size + row, [(begin, begin + size)] * (ids[0] == marker) + spans

    return go(list(ids), list(sizes), 0)


@right("frames.sample_frames")
def sample_frames_in_floats(count, budget):
    if count <= budget:
        return torch.arange(count)
    return ((torch.arange(budget) + 0.5) * count / budget).long()


@right("frames.sample_frames")
def sample_frames_by_numpy(count, budget):
    edges = numpy.linspace(0, count, min(budget, count) + 1)
    return torch.from_numpy(numpy.floor((edges[:-1] + edges[1:]) / 2).astype(numpy.int64))


@right("frames.sample_frames")
def sample_frames_by_a_list(count, budget):
    budget = min(count, budget)
    return torch.tensor([(count * (2 * k + 1)) // (2 * budget) for k in range(budget)])


@right("frames.sample_frames")
def sample_frames_between_edges(count, budget):
    edges = torch.arange(min(count, budget) + 1, dtype=torch.float64) * count / min(count, budget)
    return edges.unfold(0, 2, 1).mean(dim=1).floor().to(torch.int64)


@right("frames.sample_frames")
def sample_frames_by_steps(count, budget, *, device=None):
    budget = min(count, budget)
    halves = torch.arange(count, 2 * budget * count, 2 * count, device=device)
    return torch.div(halves, 2 * budget, rounding_mode="floor")


@right("frames.pool_frame")
def pool_frame_by_torch(tokens, side, grid=None):
    rows, columns = grid or (math.isqrt(tokens.shape[1]),) * 2
    pictures = tokens.transpose(1, 2).unflatten(2, (rows, columns))
    return F.avg_pool2d(pictures, side).flatten(2).transpose(1, 2)


@right("frames.pool_frame")
def pool_frame_square_by_square(tokens, side, grid=None):
    rows, columns = grid if grid else [round(tokens.shape[1] ** 0.5)] * 2
    pictures = tokens.view(len(tokens), rows, columns, -1)
    means = []
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            means.append(pictures[:, top : top + side, left : left + side].mean(dim=(1, 2)))
    return torch.stack(means, dim=1)


@right("frames.pool_frame")
def pool_frame_in_two_steps(tokens, side, grid=None):
    rows, columns = grid or (math.isqrt(tokens.shape[1]),) * 2
    wide = tokens.unflatten(1, (rows // side, side, columns)).mean(2)
    return wide.unflatten(2, (columns // side, side)).mean(3).flatten(1, 2)


@right("frames.pool_frame")
def pool_frame_by_a_matrix(tokens, side, grid=None):
    rows, columns = grid or (math.isqrt(tokens.shape[1]),) * 2
    patch = torch.arange(rows * columns, device=tokens.device)
    square = patch // columns // side * (columns // side) + patch % columns // side
    members = F.one_hot(square).to(tokens.dtype)
    return members.T @ tokens / side**2


@right("frames.pool_frame")
def pool_frame_by_windows(tokens, side, grid=None):
    rows, columns = grid or (math.isqrt(tokens.shape[1]),) * 2
    windows = tokens.unflatten(1, (rows, columns)).unfold(1, side, side).unfold(2, side, side)
    return torch.einsum("frcwst->frcw", windows).flatten(1, 2) / (side * side)


@right("frames.pool_frame")
def pool_frame_by_strides(tokens, side, grid=None):
    rows, columns = grid or (math.isqrt(tokens.shape[1]),) * 2
    pictures = tokens.reshape(len(tokens), rows, columns, -1)
    shifted = [pictures[:, down::side, right::side] for down in range(side) for right in range(side)]
    return torch.stack(shifted).mean(dim=0).flatten(1, 2)


@right("mrope.mrope_positions")
def mrope_positions_token_by_token(length, spans, grids):
    at, place, found = 0, 0, []
    begins = dict(zip([begin for begin, _ in spans], grids, strict=True))
    while place < length:
        if place not in begins:
            found.append((at, at, at))
            at, place = at + 1, place + 1
            continue
        frames, rows, columns = begins[place]
        for t in range(frames):
            for h in range(rows):
                found += [(at + t, at + h, at + w) for w in range(columns)]
        at, place = at + max(begins[place]), place + frames * rows * columns
    return torch.tensor(found).T


@right("mrope.mrope_positions")
def mrope_positions_filled_in(length, spans, grids):
    out, start, behind = torch.empty(3, length, dtype=torch.long), 0, 0
    for (begin, end), (t, h, w) in zip(spans, grids, strict=True):
        out[:, behind:begin] = torch.arange(begin - behind) + start
        start += begin - behind
        number = torch.arange(t * h * w)
        out[0, begin:end] = start + number // (h * w)
        out[1, begin:end] = start + number // w % h
        out[2, begin:end] = start + number % w
        start, behind = start + max(t, h, w), end
    out[:, behind:] = torch.arange(length - behind) + start
    return out


@right("mrope.mrope_positions")
def mrope_positions_by_running_sums(length, spans, grids):
    taken, inside = torch.ones(length, dtype=torch.long), torch.zeros(3, length, dtype=torch.long)
    for (begin, end), grid in zip(spans, grids, strict=True):
        taken[begin:end], taken[end - 1] = 0, max(grid)
        inside[:, begin:end] = torch.cartesian_prod(*map(torch.arange, grid)).T
    return taken.cumsum(0) - taken + inside


@right("mrope.mrope_positions")
def mrope_positions_by_numpy(length, spans, grids):
    out, at, place = numpy.zeros((3, length), dtype=numpy.int64), 0, 0
    for (begin, end), grid in zip(spans, grids, strict=True):
        out[:, place:begin] = at + numpy.arange(begin - place)
        at += begin - place
        out[:, begin:end] = at + numpy.indices(grid).reshape(3, -1)
        at, place = at + max(grid), end
    out[:, place:] = at + numpy.arange(length - place)
    return torch.from_numpy(out)


@right("mrope.pair_axes")
def pair_axes_from_lists(sections, interleaved):
    if not interleaved:
        return torch.tensor([0] * sections[0] + [1] * sections[1] + [2] * sections[2])
    half = sum(sections)
    axes = [0] * half
    for pair in range(half):
        third, axis = divmod(pair, 3)
        if third < sections[axis]:
            axes[pair] = axis
    return torch.tensor(axes)


@right("mrope.pair_axes")
def pair_axes_by_conditions(sections, interleaved):
    time, row, _ = sections
    pairs = torch.arange(sum(sections))
    if not interleaved:
        return (pairs >= time).long() + (pairs >= time + row).long()
    counts = torch.tensor(sections)[pairs % 3]
    return torch.where(pairs // 3 < counts, pairs % 3, 0)


@right("mrope.pair_axes")
def pair_axes_by_borders(sections, interleaved):
    pairs, sections = torch.arange(sum(sections)), torch.tensor(sections)
    if not interleaved:
        return torch.bucketize(pairs, sections.cumsum(0)[:-1], right=True)
    return pairs % 3 * (pairs < 3 * sections[pairs % 3])


@right("mrope.pair_axes")
def pair_axes_in_place(sections, interleaved):
    axes = torch.LongTensor(sum(sections)).zero_()
    if interleaved:
        axes[1::3][: sections[1]] = 1
        axes[2::3][: sections[2]] = 2
        return axes
    axes[sections[0] :] += 1
    axes[sections[0] + sections[1] :] += 1
    return axes


@right("locations.box_to_locations")
def locations_box_by_box(boxes, bins):
    cells = []
    for left, top, right_edge, bottom in boxes.tolist():
        first = math.floor(top * bins) * bins + math.floor(left * bins)
        last = (math.ceil(bottom * bins) - 1) * bins + math.ceil(right_edge * bins) - 1
        cells.append([first, last])
    return torch.tensor(cells, device=boxes.device)


@right("locations.box_to_locations")
def locations_by_a_product(boxes, bins):
    scaled = boxes * bins
    corners = torch.cat([torch.floor(scaled[:, :2]), torch.ceil(scaled[:, 2:]) - 1], 1).view(-1, 2, 2).long()
    return corners[..., 0] + corners[..., 1] * bins


@right("locations.box_to_locations")
def locations_by_lines(boxes, bins):
    cells = (boxes * bins).floor()
    cells[:, 2:] -= (boxes[:, 2:] * bins == cells[:, 2:]).to(cells.dtype)
    return (cells[:, [1, 3]].long() * bins + cells[:, [0, 2]].long()).contiguous()


@right("locations.box_to_locations")
def locations_by_einsum(boxes, bins):
    corners = torch.stack([boxes[:, :2] * bins, 1 - bins * boxes[:, 2:]], dim=1).floor().long().abs()
    return torch.einsum("bcx,x->bc", corners, torch.tensor([1, bins], device=boxes.device))


@right("locations.locations_to_boxes")
def boxes_cell_by_cell(locations, bins):
    boxes = []
    for first, last in locations.tolist():
        (top, left), (bottom, end) = divmod(first, bins), divmod(last, bins)
        near, far = (0, 1) if top == bottom or left == end else (0.5, 0.5)
        boxes.append([(left + near) / bins, (top + near) / bins, (end + far) / bins, (bottom + far) / bins])
    return torch.tensor(boxes, device=locations.device)


@right("locations.locations_to_boxes")
def boxes_from_both_ways(locations, bins):
    x, y = locations.remainder(bins), locations.div(bins, rounding_mode="floor")
    edges = torch.stack([x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1], dim=1) / bins
    inset = torch.tensor([0.5, 0.5, -0.5, -0.5], device=locations.device) / bins
    thick = (x[:, 0] != x[:, 1]) & (y[:, 0] != y[:, 1])
    return edges + inset * thick[:, None]


@right("locations.locations_to_boxes")
def boxes_by_area(locations, bins):
    rows, columns = torch.unravel_index(locations, (bins, bins))
    middles = torch.stack([columns, rows], dim=-1) + 0.5
    flat = (middles[:, 1] - middles[:, 0]).prod(dim=-1, keepdim=True) == 0
    return torch.cat([middles[:, 0] - flat / 2, middles[:, 1] + flat / 2], dim=1) / bins


@right("locations.locations_to_boxes")
def boxes_by_differences(locations, bins):
    boxes = torch.stack([locations % bins, locations // bins], dim=-1).flatten(1) + 0.5
    apart = locations[:, 1] - locations[:, 0]  # below bins only within a row
    boxes[(apart < bins) | (apart % bins == 0)] += boxes.new_tensor([-0.5, -0.5, 0.5, 0.5])
    return boxes / bins


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=lambda value: getattr(value, "__name__", value))
def test_a_right_answer_of_another_form_passes(name, answer):
    began = time.process_time()
    verdict = judge(all_exercises()[name], answer)
    assert verdict.says.en == ""
    assert verdict.status == "passed"
    assert time.process_time() - began < SECONDS


def test_every_exercise_has_two_right_answers_of_other_forms():
    counts = Counter(name for name, _ in RIGHT)
    assert {name: counts[name] for name in all_exercises() if counts[name] < 2} == {}
    assert counts.keys() <= all_exercises().keys()


# chapter 18: the capstone


@right("stages.trained_parts")
def parts_by_a_loop(names, trains):
    learning = []
    for name in names:
        head, _, _ = name.partition(".")
        if head not in ("vision", "language"):
            head = "connector"
        if head in trains:
            learning.append(name)
    return learning


@right("stages.trained_parts")
def parts_by_a_table(names, trains):
    table = dict(vision="vision", language="language")
    return list(filter(lambda name: table.get(name.split(".", 1)[0], "connector") in trains, names))


@right("cost.prompt_flops")
def flops_matrix_by_matrix(tokens, width, depth, hidden, keys, vocabulary):
    matrices = [(width, width), (width, keys), (width, keys), (width, width)] + [(width, hidden)] * 3
    block = sum(2 * tokens * rows * columns for rows, columns in matrices)
    block += 2 * (2 * tokens * tokens * width)
    return depth * block + 2 * tokens * width * vocabulary


@right("cost.prompt_flops")
def flops_token_by_token(tokens, width, depth, hidden, keys, vocabulary):
    each = depth * (4 * width**2 + 4 * width * keys + 6 * width * hidden + 4 * tokens * width)
    return tokens * (each + 2 * width * vocabulary)


@right("comparing.square_and_add")
def difference_by_roots(first, second):
    difference = first[0] - second[0]
    down = ((first[0] - first[1]) ** 2 + (second[2] - second[0]) ** 2) ** 0.5
    up = ((first[2] - first[0]) ** 2 + (second[0] - second[1]) ** 2) ** 0.5
    return difference, difference - down, difference + up


@right("comparing.square_and_add")
def difference_by_numpy(first, second):
    a, b = numpy.array(first), numpy.array(second)[[0, 2, 1]]
    away = numpy.sqrt((a - a[0]) ** 2 + (b - b[0]) ** 2)
    return float(a[0] - b[0]), float(a[0] - b[0] - away[1]), float(a[0] - b[0] + away[2])


@right("claims.unproved")
def unproved_by_functions(claims, lines):
    def holds(name, relation, number):
        if name not in lines:
            return False
        value, low, high = lines[name]
        if relation == "is":
            return number - 0.0005 <= value <= number + 0.0005
        if relation == "at least":
            return (value if low is None else low) >= number
        return (value if high is None else high) <= number

    return [claim for claim in claims if not holds(*claim)]


@right("claims.unproved")
def unproved_by_match(claims, lines):
    wrong = []
    for claim in claims:
        name, relation, number = claim
        value, low, high = lines.get(name, (float("nan"),) * 3)
        low, high = (low, high) if low is not None else (value, value)
        match relation:
            case "is":
                held = abs(number - value) <= 0.0005
            case "at least":
                held = number <= low
            case _:
                held = number >= high
        if not held:
            wrong.append(claim)
    return wrong


@right("stages.trained_parts")
def parts_by_arrays(names, trains):
    first = numpy.array([name.split(".")[0] for name in names])
    part = numpy.where(numpy.isin(first, ["vision", "language"]), first, "connector")
    return [name for name, learns in zip(names, numpy.isin(part, list(trains)), strict=True) if learns]


@right("stages.trained_parts")
def parts_one_after_the_other(names, trains):
    if not names:
        return []
    first, *rest = names
    match first.split("."):
        case ["vision" | "language" as part, *_]:
            pass
        case _:
            part = "connector"
    return ([first] if part in trains else []) + parts_one_after_the_other(rest, trains)


@right("stages.trained_parts")
def parts_by_beginnings(names, trains):
    def learns(name):
        for part in ("vision", "language"):
            if name.startswith(part + "."):
                return part in trains
        return "connector" in trains

    return list(dict.fromkeys(name for name in names if learns(name)))  # no two parameters share a name


@right("cost.prompt_flops")
def flops_in_numpy_integers(tokens, width, depth, hidden, keys, vocabulary):
    columns = numpy.array([width, width, keys, keys, hidden, hidden, hidden], dtype=numpy.int64)
    block = tokens * width * columns.sum() + 2 * tokens * tokens * width
    return 2 * (depth * block + tokens * width * vocabulary)


@right("cost.prompt_flops")
def flops_counted_on_empty_matrices(tokens, width, depth, hidden, keys, vocabulary):
    from torch.utils.flop_counter import FlopCounterMode

    row = torch.zeros(tokens, width, device="meta")
    with FlopCounterMode(display=False) as counter:
        for _ in range(depth):
            for columns in (width, width, keys, keys, hidden, hidden, hidden):
                row @ torch.zeros(width, columns, device="meta")
            row @ row.T @ row
        row @ torch.zeros(width, vocabulary, device="meta")
    return counter.get_total_flops()


@right("cost.prompt_flops")
def flops_in_floats(tokens, width, depth, hidden, keys, vocabulary):
    once = depth * width * (2.0 * width + 2 * keys + 3 * hidden + 2 * tokens) + width * vocabulary
    return int(2 * tokens * once)


@right("comparing.square_and_add")
def difference_by_complex_numbers(first, second):
    (mean, low, high), (other, other_low, other_high) = first, second
    difference = mean - other
    return (
        difference,
        difference - abs(complex(mean - low, other_high - other)),
        difference + abs(complex(high - mean, other - other_low)),
    )


@right("comparing.square_and_add")
def difference_with_the_second_turned_round(first, second):
    ours, theirs = first, (-second[0], -second[2], -second[1])
    mean = ours[0] + theirs[0]
    ends = [math.dist((ours[0], theirs[0]), (ours[end], theirs[end])) for end in (1, 2)]
    return mean, mean - ends[0], mean + ends[1]


@right("comparing.square_and_add")
def difference_in_float32(first, second):
    ours, theirs = torch.tensor(first), torch.tensor(second)[[0, 2, 1]]
    away = torch.hypot(ours - ours[0], theirs - theirs[0])
    difference = (ours - theirs)[0]
    return difference.item(), (difference - away[1]).item(), (difference + away[2]).item()


@right("claims.unproved")
def unproved_by_spans(claims, lines):
    wrong = []
    for claim in claims:
        name, relation, number = claim
        if name in lines:
            value, low, high = (lines[name][0] if end is None else end for end in lines[name])
            spans = {"is": (value - 0.0005, value + 0.0005), "at least": (-math.inf, low)}
            begin, end = spans.get(relation, (high, math.inf))
            if begin <= number <= end:
                continue
        wrong.append(claim)
    return wrong


@right("claims.unproved")
def unproved_with_isclose(claims, lines):
    def fine(claim):
        try:
            value, low, high = lines[claim[0]]
        except KeyError:
            return False
        low, high = (value, value) if low is None else (low, high)
        near = math.isclose(value, claim[2], rel_tol=0, abs_tol=0.0005)
        return dict(
            zip(("is", "at least", "at most"), (near, claim[2] <= low, claim[2] >= high), strict=True)
        )[claim[1]]

    return [claim for claim in claims if not fine(claim)]


@right("claims.unproved")
def unproved_by_number(claims, lines):
    bad = []
    for place in range(len(claims)):
        name, relation, number = claims[place]
        value, low, high = lines.get(name, (None, None, None))
        if value is None:
            bad += [claims[place]]
            continue
        low, high = value if low is None else low, value if high is None else high
        if relation == "is" and not -0.0005 <= value - number <= 0.0005:
            bad += [claims[place]]
        if relation == "at least" and low < number:
            bad += [claims[place]]
        if relation == "at most" and high > number:
            bad += [claims[place]]
    return bad


# chapter 19: resolution and coordinates


@right("tiles.choose_grid")
def grid_by_a_key(height, width, grids, side):
    def worth(grid):
        frame_height, frame_width = grid[0] * side, grid[1] * side
        scale = min(frame_height / height, frame_width / width)
        shown = min(int(height * scale) * int(width * scale), height * width)
        return shown, shown - frame_height * frame_width

    return max(grids, key=worth)


@right("tiles.choose_grid")
def grid_of_the_smallest_loss(height, width, grids, side):
    losses = []
    for place, (rows, columns) in enumerate(grids):
        shrink = max(height / (rows * side), width / (columns * side), 1)  # never larger than it is
        shown = math.floor(height / shrink) * math.floor(width / shrink)
        losses.append((-shown, rows * columns, place))
    return grids[min(losses)[2]]


@right("tiles.choose_grid")
def grid_in_whole_numbers(height, width, grids, side):
    best = None
    for grid in grids:
        tall, wide = grid[0] * side, grid[1] * side
        if tall * width < wide * height:  # the height decides
            wide = width * tall // height
        else:
            tall = height * wide // width
        shown = min(tall * wide, height * width)
        key = (shown, -grid[0] * grid[1])
        if best is None or key > best[0]:
            best = key, grid
    return best[1]


@right("tiles.choose_grid")
def grid_by_sorting(height, width, grids, side):
    def effective(rows, columns):
        scale = min(columns * side / width, rows * side / height)
        return min(height * width, int(height * scale) * int(width * scale))

    by_tiles = sorted(grids, key=math.prod)
    return sorted(by_tiles, key=lambda grid: effective(*grid), reverse=True)[0]


@right("tiles.choose_grid")
def grid_by_tensors(height, width, grids, side):
    frames = torch.tensor(grids, dtype=torch.float64) * side
    size = torch.tensor([height, width], dtype=torch.float64)
    scale = (frames / size).amin(dim=1, keepdim=True)
    shown = (scale * size + 1e-9).floor().prod(dim=1).clamp(max=height * width)
    worth = shown - frames.prod(dim=1) / 1e9
    return tuple(grids[int(worth.argmax())])


@right("tiles.choose_grid")
def grid_by_filters(height, width, grids, side):
    shown = []
    for rows, columns in grids:
        scale = min(rows * side / height, columns * side / width)
        shown.append(min(int(height * scale) * int(width * scale), height * width))
    best = [grid for grid, pixels in zip(grids, shown, strict=True) if pixels == max(shown)]
    fewest = min(rows * columns for rows, columns in best)
    return next(grid for grid in best if grid[0] * grid[1] == fewest)


@right("tiles.lay_tiles")
def row_line_by_line(tokens, grid, separator, size=None):
    if tuple(grid) == (1, 1):
        return tokens[0]
    rows, columns = grid
    side = int(tokens.shape[1] ** 0.5)
    down, right_ = (0, 0) if size is None else tiles.empty_lines(size, (rows * side, columns * side))
    row = list(tokens[0])
    for line in range(down, rows * side - down):
        for column in range(right_, columns * side - right_):
            tile = 1 + line // side * columns + column // side
            row.append(tokens[tile, line % side * side + column % side])
        row.append(separator)
    return torch.stack(row)


@right("tiles.lay_tiles")
def row_by_cat_of_tiles(tokens, grid, separator, size=None):
    thumbnail, *rest = tokens
    if not rest:
        return thumbnail
    side = math.isqrt(len(thumbnail))
    squares = [tile.view(side, side, -1) for tile in rest]
    strips = [torch.cat(squares[n : n + grid[1]], dim=1) for n in range(0, len(squares), grid[1])]
    whole = torch.cat(strips)
    if size:
        down, across = tiles.empty_lines(size, tuple(whole.shape[:2]))
        whole = whole[down : whole.shape[0] - down, across : whole.shape[1] - across]
    lines = [torch.cat([line, separator[None]]) for line in whole]
    return torch.cat([thumbnail, *lines])


@right("tiles.lay_tiles")
def row_by_padding_and_adding(tokens, grid, separator, size=None):
    rows, columns = grid
    if rows * columns == 1:
        return tokens.squeeze(0)
    side = round(math.sqrt(tokens.shape[1]))
    whole = tokens[1:].unflatten(1, (side, side)).unflatten(0, (rows, columns))
    whole = whole.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    if size is not None:
        down, across = tiles.empty_lines(size, whole.shape[:2])
        whole = whole.narrow(0, down, len(whole) - 2 * down)
        whole = whole.narrow(1, across, whole.shape[1] - 2 * across)
    whole = F.pad(whole, (0, 0, 0, 1))
    last = torch.zeros_like(whole)
    last[:, -1] = 1
    whole = whole + last * separator
    return torch.cat((tokens[0], whole.reshape(-1, whole.shape[-1])))


@right("tiles.lay_tiles")
def row_by_index(tokens, grid, separator, size=None):
    rows, columns = grid
    count, patches, width = tokens.shape
    if count == 1:
        return tokens.reshape(patches, width)
    side = math.isqrt(patches)
    numbers = torch.arange(rows * columns * patches, device=tokens.device) + patches
    numbers = numbers.view(rows, columns, side, side).transpose(1, 2).reshape(rows * side, columns * side)
    if size is not None:
        down, across = tiles.empty_lines(size, numbers.shape)
        numbers = numbers[down:, across:]
        numbers = numbers[: len(numbers) - down, : numbers.shape[1] - across]
    numbers = F.pad(numbers, (0, 1), value=count * patches)  # the separator stands behind all tokens
    everything = torch.cat([tokens.flatten(0, 1), separator[None]])
    order = torch.cat([torch.arange(patches, device=tokens.device), numbers.flatten()])
    return everything[order]


@right("tiles.lay_tiles")
def row_by_einsum_and_views(tokens, grid, separator, size=None):
    rows, columns = grid
    if (rows, columns) == (1, 1):
        return tokens[0].clone()
    side = math.isqrt(tokens.size(1))
    whole = torch.einsum("rcijw->ricjw", tokens[1:].view(rows, columns, side, side, tokens.size(2)))
    whole = whole.reshape(rows * side, columns * side, tokens.size(2))
    down, across = tiles.empty_lines(size, whole.shape[:2]) if size is not None else (0, 0)
    whole = whole[down : whole.size(0) - down, across : whole.size(1) - across]
    ended = torch.cat([whole, separator.repeat(whole.size(0), 1).unsqueeze(1)], dim=1)
    return torch.cat([tokens[0], ended.view(-1, tokens.size(2))])


@right("native.pack_pictures")
def packed_into_empty_rows(pictures, grids, length):
    members = native.first_fit([len(tokens) for tokens in pictures], length)
    width, device = pictures[0].shape[1], pictures[0].device
    rows = torch.zeros(len(members), length, width, dtype=pictures[0].dtype, device=device)
    numbers = torch.full((len(members), length), -1, device=device)
    places = torch.full((2, len(members), length), -1, device=device)
    for row, inside in enumerate(members):
        begin = 0
        for picture in inside:
            end = begin + len(pictures[picture])
            height, across = grids[picture]
            patch = torch.arange(height * across, device=device)
            rows[row, begin:end] = pictures[picture]
            numbers[row, begin:end] = picture
            places[0, row, end - len(patch) : end] = patch // across
            places[1, row, end - len(patch) : end] = patch % across
            begin = end
    return rows, numbers, places


@right("native.pack_pictures")
def packed_by_pad_sequence(pictures, grids, length):
    members = native.first_fit([tokens.shape[0] for tokens in pictures], length)
    device, numbers, places = pictures[0].device, [], []
    for inside in members:
        numbers.append([picture for picture in inside for _ in range(len(pictures[picture]))])
        row = []
        for picture in inside:
            rows, columns = grids[picture]
            row += [(-1, -1)] * (len(pictures[picture]) - rows * columns)
            row += [(line, column) for line in range(rows) for column in range(columns)]
        places.append(row + [(-1, -1)] * (length - len(row)))
    numbers = [row + [-1] * (length - len(row)) for row in numbers]
    tokens = [torch.cat([pictures[picture] for picture in inside]) for inside in members]
    tokens.append(tokens[0].new_zeros(length, tokens[0].shape[1]))  # so that the longest has this length
    packed = pad_sequence(tokens, batch_first=True)[:-1]
    numbers, places = torch.tensor(numbers, device=device), torch.tensor(places, device=device)
    return packed, numbers, places.permute(2, 0, 1)


@right("native.pack_pictures")
def packed_with_a_fit_of_its_own(pictures, grids, length):
    rows = []
    for picture, tokens in enumerate(pictures):
        for row in rows:
            if sum(len(pictures[other]) for other in row) + len(tokens) <= length:
                row.append(picture)
                break
        else:
            rows.append([picture])
    packed, numbers, places = [], [], []
    for row in rows:
        tokens = torch.cat([pictures[picture] for picture in row])
        number = torch.cat([torch.tensor([picture] * len(pictures[picture])) for picture in row])
        both = []
        for picture in row:
            high, wide = grids[picture]
            front = torch.full((2, len(pictures[picture]) - high * wide), -1)
            inside = [torch.arange(high).repeat_interleave(wide), torch.arange(wide).repeat(high)]
            both += [front, torch.stack(inside)]
        place, free = torch.cat(both, dim=1), length - len(tokens)
        packed.append(torch.cat([tokens, tokens.new_zeros(free, tokens.shape[1])]))
        numbers.append(torch.cat([number, torch.full((free,), -1)]))
        places.append(torch.cat([place, torch.full((2, free), -1)], dim=1))
    numbers, places = torch.stack(numbers), torch.stack(places).transpose(0, 1)
    return torch.stack(packed), numbers.to(tokens.device), places.to(tokens.device)


@right("native.pack_pictures")
def packed_by_where_each_begins(pictures, grids, length):
    members = native.first_fit([*map(len, pictures)], length)
    width, device = pictures[0].shape[-1], pictures[0].device
    flat = torch.cat([*pictures, pictures[0].new_zeros(1, width)])  # the last one is padding
    starts = numpy.cumsum([0, *map(len, pictures)]).tolist()
    index = torch.full((len(members), length), len(flat) - 1)
    numbers = torch.full((len(members), length), -1)
    places = torch.full((2, len(members), length), -1)
    for row, inside in enumerate(members):
        at = 0
        for picture in inside:
            count, (high, wide) = len(pictures[picture]), grids[picture]
            index[row, at : at + count] = torch.arange(starts[picture], starts[picture + 1])
            numbers[row, at : at + count] = picture
            where = torch.from_numpy(numpy.indices((high, wide)).reshape(2, -1))
            places[:, row, at + count - high * wide : at + count] = where
            at += count
    return flat[index.to(device)], numbers.to(device), places.to(device)


@right("native.pack_pictures")
def packed_with_cartesian_places(pictures, grids, length):
    device = pictures[0].device
    out = []
    for row in native.first_fit([p.shape[0] for p in pictures], length):
        used = sum(len(pictures[n]) for n in row)
        tokens = F.pad(torch.vstack([pictures[n] for n in row]), (0, 0, 0, length - used))
        number = torch.tensor(row).repeat_interleave(torch.tensor([len(pictures[n]) for n in row]))
        place = []
        for n in row:
            at = torch.cartesian_prod(torch.arange(grids[n][0]), torch.arange(grids[n][1]))
            place.append(torch.cat([torch.full((len(pictures[n]) - len(at), 2), -1), at]))
        place = F.pad(torch.cat(place), (0, 0, 0, length - used), value=-1)
        out.append((tokens, F.pad(number, (0, length - used), value=-1).to(device), place.to(device)))
    tokens, numbers, places = map(torch.stack, zip(*out, strict=True))
    return tokens, numbers, places.movedim(-1, 0)


@right("native.picture_mask")
def mask_by_distinct_padding(numbers):
    place = torch.arange(numbers.shape[1], device=numbers.device)
    own = torch.where(numbers < 0, -1 - place, numbers)  # each padding is a picture of its own
    return own.unsqueeze(2) == own.unsqueeze(1)


@right("native.picture_mask")
def mask_by_one_hot(numbers):
    kinds = F.one_hot(numbers + 1)[..., 1:].float()
    seen = kinds @ kinds.transpose(1, 2) > 0
    seen.diagonal(dim1=1, dim2=2).fill_(True)
    return seen


@right("native.picture_mask")
def mask_filled_on_the_diagonal(numbers):
    padding = numbers == -1
    same = (numbers[:, :, None] - numbers[:, None]) == 0
    same = same.masked_fill(padding[:, None, :] | padding[:, :, None], False)
    return same + torch.diag_embed(torch.ones_like(padding))


@right("native.picture_mask")
def mask_token_by_token(numbers):
    rows, length = numbers.shape
    mask = torch.zeros(rows, length, length, dtype=torch.bool, device=numbers.device)
    for row, line in enumerate(numbers.tolist()):
        for query, mine in enumerate(line):
            for key, other in enumerate(line):
                mask[row, query, key] = query == key or mine == other != -1
    return mask


@right("native.picture_mask")
def mask_picture_by_picture(numbers):
    itself = torch.eye(numbers.shape[-1], device=numbers.device) > 0
    mask = itself.repeat(len(numbers), 1, 1)
    for picture in numbers.unique():
        if picture >= 0:
            inside = numbers == picture
            mask |= inside[:, :, None] & inside[:, None, :]
    return mask


@right("native.picture_mask")
def mask_by_vmap(numbers):
    def of_one(row):
        place = torch.arange(row.numel(), device=row.device)
        same = torch.eq(row[:, None], row) & torch.ge(row, 0)
        return torch.logical_or(same, place[:, None] == place)

    return torch.vmap(of_one)(numbers)


@right("coordinates.to_picture")
def back_by_columns(boxes, placement):
    left, top, right_, bottom = boxes.unbind(dim=-1)
    x, y, across, down = placement
    columns = [(left - across) / x, (top - down) / y, (right_ - across) / x, (bottom - down) / y]
    return torch.stack(columns, dim=-1)


@right("coordinates.to_picture")
def back_by_corners(boxes, placement):
    shift = boxes.new_tensor([placement.left, placement.top])
    scale = boxes.new_tensor([placement.scale_x, placement.scale_y])
    return ((boxes.view(-1, 2, 2) - shift) / scale).view(-1, 4)


@right("coordinates.to_picture")
def back_by_slices(boxes, placement):
    result = boxes.clone()
    result[:, ::2] = (result[:, ::2] - placement.left) / placement.scale_x
    result[:, 1::2] = (result[:, 1::2] - placement.top) / placement.scale_y
    return result


@right("coordinates.to_picture")
def back_by_another_placement(boxes, placement):
    x, y = 1 / placement.scale_x, 1 / placement.scale_y
    back = coordinates.Placement(x, y, -placement.left * x, -placement.top * y)
    return coordinates.to_model(boxes, back)


@right("coordinates.to_picture")
def back_by_a_matrix(boxes, placement):
    x, y, left, top = placement
    turn = torch.tensor([[1 / x, 0], [0, 1 / y], [-left / x, -top / y]], dtype=boxes.dtype)
    points = boxes.reshape(-1, 2)
    known = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    return (known @ turn.to(boxes.device)).reshape(boxes.shape)


@right("coordinates.to_picture")
def back_box_by_box(boxes, placement):
    rows = []
    for box in boxes:
        edges = []
        for place, edge in enumerate(box):
            name, before = ("scale_y", placement.top) if place % 2 else ("scale_x", placement.left)
            edges.append((edge - before) / getattr(placement, name))
        rows.append(torch.stack(edges))
    return torch.stack(rows)


@right("coordinates.spell_box")
def box_in_whole_numbers(box, size):
    edges = (size[1], size[0], size[1], size[0])
    return str([min(int(at * 1000 // edge), 999) for at, edge in zip(box, edges, strict=True)])


@right("coordinates.spell_box")
def box_by_format(box, size):
    height, width = size

    def thousandth(at, edge):
        number = math.floor(at / edge * 1000)
        return 999 if number == 1000 else number

    left, top, right_, bottom = box
    return (
        f"[{thousandth(left, width)}, {thousandth(top, height)}, "
        f"{thousandth(right_, width)}, {thousandth(bottom, height)}]"
    )


@right("coordinates.spell_box")
def box_by_tensors(box, size):
    height, width = size
    shares = torch.tensor(box, dtype=torch.float64) / torch.tensor([width, height, width, height])
    return str((shares * 1000).long().clamp(max=999).tolist())


@right("coordinates.spell_box")
def box_by_numpy(box, size):
    edges = numpy.array([*size[::-1], *size[::-1]])
    numbers = numpy.minimum(numpy.floor(numpy.array(box) / edges * 1000), 999).astype(int)
    return "[" + ", ".join(str(number) for number in numbers) + "]"


@right("coordinates.spell_box")
def box_with_a_check_of_its_own(box, size):
    assert len(box) == 4
    parts = []
    for place, at in enumerate(box):
        edge = size[1 - place % 2]
        parts.append(repr(999 if at >= edge else int(1000 * at / edge)))
    return "[{}, {}, {}, {}]".format(*parts)


@right("coordinates.spell_box")
def box_just_below_one(box, size):
    height, width = size
    x, y = [box[0] / width, box[2] / width], [box[1] / height, box[3] / height]
    numbers = [int(min(share, 0.9999) * 1000) for pair in zip(x, y, strict=True) for share in pair]
    return "[%d, %d, %d, %d]" % tuple(numbers)  # noqa: UP031


@right("pruning.keep_tokens")
def kept_by_sort(scores, k):
    _, places = torch.sort(scores, dim=-1, descending=True, stable=True)
    return torch.sort(places[..., :k], dim=-1)[0]


@right("pruning.keep_tokens")
def kept_by_negative_scores(scores, k):
    return (-scores).argsort(dim=1, stable=True)[:, :k].sort().values


@right("pruning.keep_tokens")
def kept_row_by_row(scores, k):
    rows = []
    for row in scores.tolist():
        best = sorted(range(len(row)), key=lambda place: -row[place])[:k]
        rows.append(sorted(best))
    return torch.tensor(rows, device=scores.device)


@right("pruning.keep_tokens")
def kept_by_rank(scores, k):
    place = torch.arange(scores.shape[1], device=scores.device)
    larger = scores[:, None, :] > scores[:, :, None]
    earlier = (scores[:, None, :] == scores[:, :, None]) & (place < place[:, None])
    kept = (larger | earlier).sum(dim=2) < k
    return kept.nonzero()[:, 1].view(len(scores), k)


@right("pruning.keep_tokens")
def kept_by_a_mask(scores, k):
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    kept = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    kept[torch.arange(len(scores), device=scores.device)[:, None], order[:, :k]] = True
    return torch.stack([row.nonzero().flatten() for row in kept])


@right("pruning.keep_tokens")
def kept_one_after_the_other(scores, k):
    left, kept = scores.clone(), []
    for _ in range(k):
        best = left.max(dim=1, keepdim=True).values
        first = (left == best).int().argmax(dim=1, keepdim=True)
        kept.append(first)
        left = left.scatter(1, first, -math.inf)
    return torch.cat(kept, dim=1).sort(dim=1).values


@right("tiles.choose_grid")
def grid_by_a_sort_of_three_keys(height, width, grids, side):
    all_grids = numpy.array(grids)
    scale = numpy.minimum(all_grids[:, 0] * side / height, all_grids[:, 1] * side / width)
    shown = (height * scale).astype(int) * (width * scale).astype(int)
    effective = numpy.minimum(shown, height * width)
    wasted = all_grids.prod(axis=1) * side**2 - effective
    first = numpy.lexsort((numpy.arange(len(grids)), wasted, -effective))[0]  # the last key counts first
    return tuple(all_grids[first].tolist())


@right("tiles.lay_tiles")
def row_by_fold(tokens, grid, separator, size=None):
    rows, columns = grid
    if rows == columns == 1:
        return tokens[0]
    side, width = math.isqrt(tokens.shape[1]), tokens.shape[2]
    blocks = tokens[1:].permute(2, 1, 0).reshape(1, width * side**2, rows * columns)
    whole = F.fold(blocks, (rows * side, columns * side), side, stride=side)[0].permute(1, 2, 0)
    if size is not None:
        down, across = tiles.empty_lines(size, whole.shape[:2])
        whole = whole[down : len(whole) - down, across : whole.shape[1] - across]
    return torch.cat([tokens[0], *[torch.cat([line, separator[None]]) for line in whole.unbind()]])


@right("native.pack_pictures")
def packed_with_three_numbers_for_each_token(pictures, grids, length):
    rows, beside = [], []
    for members in native.first_fit([len(tokens) for tokens in pictures], length):
        noted = []
        for picture in members:
            high, wide = grids[picture]
            noted += [(picture, -1, -1)] * (len(pictures[picture]) - high * wide)
            noted += [(picture, place // wide, place % wide) for place in range(high * wide)]
        free = length - len(noted)
        tokens = [pictures[picture] for picture in members]
        rows.append(torch.cat([*tokens, tokens[0].new_zeros(free, tokens[0].shape[1])]))
        beside.append(torch.tensor(noted + [(-1, -1, -1)] * free, device=tokens[0].device).T)
    beside = torch.stack(beside, dim=1)
    return torch.stack(rows), beside[0], beside[1:]


@right("native.picture_mask")
def mask_by_counting_shared_pictures(numbers):
    kinds = torch.zeros(*numbers.shape, int(numbers.max()) + 2, device=numbers.device)
    kinds = kinds.scatter(2, (numbers + 1)[..., None], 1)
    kinds[..., 0] = 0  # padding shares no picture
    shared = torch.einsum("rqk,rsk->rqs", kinds, kinds)
    return (shared + torch.eye(numbers.shape[1], device=numbers.device)).bool()


@right("coordinates.to_picture")
def back_by_addcdiv(boxes, placement):
    scale = boxes.new_tensor([placement.scale_x, placement.scale_y] * 2)
    shift = boxes.new_tensor([placement.left, placement.top] * 2)
    return torch.addcdiv(-shift / scale, boxes, scale)


@right("coordinates.spell_box")
def box_by_fractions(box, size):
    edges = (size[1], size[0]) * 2
    shares = [Fraction(at) * 1000 / edge for at, edge in zip(box, edges, strict=True)]
    return json.dumps([min(math.floor(share), 999) for share in shares])


@right("pruning.keep_tokens")
def kept_by_a_threshold(scores, k):
    least = scores.sort(dim=1, descending=True).values[:, k - 1, None]
    sure, equal = scores > least, scores == least
    left = k - sure.sum(dim=1, keepdim=True)  # so many of the equal ones, the first
    return (sure | (equal & (equal.cumsum(dim=1) <= left))).nonzero()[:, 1].view(-1, k)


# chapter 20: preferences and rewards


@right("preferences.token_log_probabilities")
def log_probabilities_by_cross_entropy(logits, labels):
    words = logits.shape[-1]
    scores, wanted = logits[..., :-1, :].float(), labels[..., 1:]
    loss = F.cross_entropy(scores.reshape(-1, words), wanted.reshape(-1), ignore_index=-100, reduction="none")
    return -loss.view(wanted.shape)


@right("preferences.token_log_probabilities")
def log_probabilities_by_logsumexp(logits, labels):
    scores = logits.to(torch.float32)[..., :-1, :]
    wanted = labels[..., 1:].unsqueeze(-1)
    said = torch.take_along_dim(scores, wanted.clamp(min=0), dim=-1) - scores.logsumexp(-1, keepdim=True)
    return torch.where(wanted == -100, 0.0, said).squeeze(-1)


@right("preferences.token_log_probabilities")
def log_probabilities_by_one_hot(logits, labels):
    after = labels[..., 1:]
    real = after >= 0
    chosen = F.one_hot(after * real, logits.shape[-1])
    return (F.log_softmax(logits.float(), dim=-1)[..., :-1, :] * chosen).sum(dim=-1) * real


@right("preferences.token_log_probabilities")
def log_probabilities_of_a_distribution(logits, labels):
    after = labels[..., 1:]
    words = torch.distributions.Categorical(logits=logits[..., :-1, :].float())
    return words.log_prob(after.clamp(min=0)).masked_fill(after < 0, 0)


@right("preferences.token_log_probabilities")
def log_probabilities_only_where_asked(logits, labels):
    after = labels[..., 1:]
    real = after != -100
    scores = logits[..., :-1, :].double().log_softmax(dim=-1)[real]
    chosen = scores[torch.arange(len(scores)), after[real]].float()
    return torch.zeros(after.shape, device=after.device).masked_scatter(real, chosen)


@right("preferences.token_log_probabilities")
def log_probabilities_place_by_place(logits, labels):
    rows = []
    for scores, wanted in zip(
        logits.reshape(-1, *logits.shape[-2:]), labels.reshape(-1, labels.shape[-1]), strict=True
    ):
        nothing, row = torch.zeros((), device=labels.device), []
        for here, word in zip(scores[:-1], wanted[1:], strict=True):
            row.append(nothing if word == -100 else here.float().log_softmax(0)[word])
        rows.append(torch.stack(row))
    return torch.stack(rows).reshape(labels[..., 1:].shape)


@right("preferences.dpo_loss")
def dpo_by_softplus(chosen, rejected, reference_chosen, reference_rejected, beta):
    now, then = chosen - rejected, reference_chosen - reference_rejected
    return F.softplus(beta * (then - now)).mean()


@right("preferences.dpo_loss")
def dpo_pair_by_pair(chosen, rejected, reference_chosen, reference_rejected, beta):
    total = 0
    for good, bad, old_good, old_bad in zip(
        chosen, rejected, reference_chosen, reference_rejected, strict=True
    ):
        rewards = beta * (good - old_good), beta * (bad - old_bad)
        total = total - F.logsigmoid(rewards[0] - rewards[1])
    return total / len(chosen)


@right("preferences.dpo_loss")
def dpo_by_cross_entropy_of_two(chosen, rejected, reference_chosen, reference_rejected, beta):
    gains = torch.stack([chosen - reference_chosen, rejected - reference_rejected], dim=1)
    return F.cross_entropy(beta * gains, torch.zeros(len(gains), dtype=torch.long, device=gains.device))


@right("preferences.dpo_loss")
def dpo_by_signs_and_logaddexp(chosen, rejected, reference_chosen, reference_rejected, beta):
    signs = chosen.new_tensor([1, -1, -1, 1])
    four = torch.stack([chosen, rejected, reference_chosen, reference_rejected])
    margins = beta * torch.einsum("s,sp->p", signs, four)
    return torch.logaddexp(torch.zeros_like(margins), -margins).sum() / margins.numel()


@right("preferences.dpo_loss")
def dpo_by_reduce(chosen, rejected, reference_chosen, reference_rejected, beta):
    margins = functools.reduce(torch.subtract, [chosen, reference_chosen, rejected - reference_rejected])
    return F.binary_cross_entropy_with_logits(beta * margins, torch.ones_like(margins))


@right("policy.group_advantages")
def advantages_by_std_mean(rewards):
    deviation, mean = torch.std_mean(rewards, dim=-1, keepdim=True)
    return (rewards - mean) / (deviation + 1e-4)


@right("policy.group_advantages")
def advantages_group_by_group(rewards):
    rows = []
    for group in rewards:
        away = group - group.mean()
        deviation = (away.square().sum() / (len(group) - 1)).sqrt()
        rows.append(away / (deviation + 0.0001))
    return torch.stack(rows)


@right("policy.group_advantages")
def advantages_by_a_centring_matrix(rewards):
    count = rewards.shape[1]
    centred = rewards @ (torch.eye(count, dtype=rewards.dtype, device=rewards.device) - 1 / count)
    return centred / (centred.norm(dim=1, keepdim=True) / math.sqrt(count - 1) + 1e-4)


@right("policy.group_advantages")
def advantages_by_vmap(rewards):
    return torch.vmap(lambda group: (group - group.mean()) / (group.std() + 1e-4))(rewards)


@right("policy.group_advantages")
def advantages_in_float64_and_turned(rewards):
    columns = rewards.double().T
    return ((columns - columns.mean(0)) / (columns.std(0) + 1e-4)).T.to(rewards.dtype)


@right("policy.policy_loss")
def policy_by_maximum_of_losses(now, before, reference, advantages, mask, clip, beta):
    weight = advantages.unsqueeze(1)
    ratio = (now - before).exp()
    losses = torch.maximum(-weight * ratio, -weight * ratio.clip(1 - clip, 1 + clip))
    apart = (reference - now).exp() - 1 + now - reference
    kept = torch.where(mask, losses + beta * apart, 0.0)
    return (kept.sum(-1) / mask.sum(-1)).mean()


@right("policy.policy_loss")
def policy_sample_by_sample(now, before, reference, advantages, mask, clip, beta):
    losses = []
    for row in range(len(now)):
        real = mask[row]
        ratio = torch.exp(now[row][real] - before[row][real])
        bounded = torch.clamp(ratio, 1 - clip, 1 + clip)
        gain = torch.min(ratio * advantages[row], bounded * advantages[row])
        back = reference[row][real] - now[row][real]
        losses.append((beta * (torch.expm1(back) - back) - gain).mean())
    return sum(losses) / len(losses)


@right("policy.policy_loss")
def policy_by_the_sign_of_the_advantage(now, before, reference, advantages, mask, clip, beta):
    ratio, weight = torch.exp(now - before), advantages[:, None]
    gain = weight.clamp(min=0) * ratio.clamp(max=1 + clip) + weight.clamp(max=0) * ratio.clamp(min=1 - clip)
    away = reference - now
    loss = beta * (away.exp() - away - 1) - gain
    return torch.where(mask, loss, torch.nan).nanmean(dim=1).mean()


@right("policy.policy_loss")
def policy_with_weights_of_tokens(now, before, reference, advantages, mask, clip, beta):
    share = mask.to(now.dtype) / mask.sum(dim=1, keepdim=True) / len(mask)
    ratio = (now - before).masked_fill(~mask, 0).exp()
    gains = torch.stack([ratio, ratio.clip(1 - clip, 1 + clip)]) * advantages[:, None]
    away = (reference - now).masked_fill(~mask, 0)
    return torch.einsum("st,st->", beta * (away.expm1() - away) - gains.amin(dim=0), share)


@right("policy.policy_loss")
def policy_token_by_token(now, before, reference, advantages, mask, clip, beta):
    means = []
    for sample, advantage in enumerate(advantages):
        losses = []
        for place in mask[sample].nonzero().flatten().tolist():
            ratio = (now[sample, place] - before[sample, place]).exp()
            most = torch.where(advantage > 0, ratio.clamp(max=1 + clip), ratio.clamp(min=1 - clip))
            away = reference[sample, place] - now[sample, place]
            losses.append(beta * (away.exp() - away - 1) - most * advantage)
        means.append(sum(losses) / len(losses))
    return sum(means) / len(means)


@right("rewards.truth_reward")
def truth_by_a_condition(reply, answer):
    said, wanted = map(vqa.normalise_answer, (reply, answer))
    return 1.0 if said == wanted else 0.0


@right("rewards.truth_reward")
def truth_word_by_word(reply, answer):
    same = vqa.normalise_answer(reply).split() == vqa.normalise_answer(answer).split()
    return 1.0 * same


@right("rewards.truth_reward")
def truth_of_a_set_of_one(reply, answer):
    return int(len({vqa.normalise_answer(text) for text in (reply, answer)}) == 1)


@right("rewards.truth_reward")
def truth_by_numpy(reply, answer):
    return numpy.float64(vqa.normalise_answer(reply.strip()) == vqa.normalise_answer(answer.strip()))


@right("rewards.truth_reward")
def truth_picked_from_two(reply, answer):
    said, wanted = vqa.normalise_answer(reply), vqa.normalise_answer(answer)
    return (0.0, 1.0)[said == wanted]


@right("rewards.format_reward")
def form_by_a_pattern(reply, instruction):
    if instruction.endswith(SENTENCE):
        return float(re.fullmatch(r"[A-Z][^.]*\s[^.]*\.", reply) is not None and len(reply.split()) >= 3)
    return 1.0 if re.fullmatch(r"\s*[^\s.]+(\s+[^\s.]+)?\s*", reply) else 0.0


@right("rewards.format_reward")
def form_with_early_returns(reply, instruction):
    count = len(reply.split())
    if not instruction.endswith(" Answer in a sentence."):
        return 1.0 if count in (1, 2) and reply.find(".") < 0 else 0.0
    if count < 3 or not reply[:1].isupper():
        return 0.0
    return 1.0 if reply.find(".") == len(reply) - 1 else 0.0


@right("rewards.format_reward")
def form_by_partition(reply, instruction):
    words, (before, stop, behind) = reply.split(), reply.partition(".")
    if instruction.rstrip().endswith(SENTENCE.strip()):
        good = len(words) >= 3 and words[0][0].isupper() and stop and not behind
    else:
        good = 1 <= len(words) <= 2 and before == reply
    return 1.0 if good else 0.0


@right("rewards.format_reward")
def form_by_two_lists_of_rules(reply, instruction):
    words = reply.split()
    if instruction.endswith(SENTENCE):
        rules = [len(words) > 2, reply[:1].isupper(), reply.count(".") == 1, reply[-1:] == "."]
    else:
        rules = [words, len(words) < 3, "." not in reply]
    return float(all(rules))


@right("rewards.format_reward")
def form_by_assertions(reply, instruction):
    words = reply.split()
    try:
        if instruction.endswith(SENTENCE):
            assert reply[0].isupper() and reply.index(".") == len(reply) - 1 and words[2]
        else:
            assert words and not words[2:] and not reply.count(".")
    except (AssertionError, IndexError, ValueError):
        return 0
    return 1
