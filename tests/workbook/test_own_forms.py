"""Wrong answers in a newcomer's own words, not edits of the reference: each is told its mistake."""

import pytest

from tests.workbook.learner import cell
from vlmcourse.exercises.base import all_exercises
from vlmcourse.models import clip
from vlmcourse.workbook.check import judge

WRONG = [  # (exercise, what was misunderstood, what must be said of it: None if it is not known, the answer)
    (
        "vit.patchify",
        "height and width taken in swapped order from the shape",
        "with `images.reshape(b, c, w // size, size, h // size, size)`",
        """
def patchify(images, size):
    b, c, w, h = images.shape
    x = images.reshape(b, c, h // size, size, w // size, size)
    x = x.permute(0, 2, 4, 3, 5, 1)
    return x.reshape(b, -1, size * size * c)
""",
    ),
    (
        "vit.patchify",
        "unfold with stride 1: patches overlap",
        "with `images.unfold(2, size, size)",
        """
def patchify(images, size):
    b, c = images.shape[:2]
    x = images.unfold(2, size, 1).unfold(3, size, 1)
    return x.permute(0, 2, 3, 4, 5, 1).reshape(b, -1, size * size * c)
""",
    ),
    (
        "vit.patchify",
        "size used as the number of patches along a side instead of their side",
        "here the picture is cut into size × size patches",
        """
def patchify(images, size):
    b, c, h, w = images.shape
    x = images.reshape(b, c, size, h // size, size, w // size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, size * size, -1)
""",
    ),
    (
        "vit.patchify",
        "only height is cut twice: range over the height used for the columns",
        "with `range(0, images.shape[3], size)`",
        """
def patchify(images, size):
    out = []
    for y in range(0, images.shape[2], size):
        for x in range(0, images.shape[2], size):
            square = images[:, :, y:y + size, x:x + size]
            out.append(square.permute(0, 2, 3, 1).flatten(1))
    return torch.stack(out, 1)
""",
    ),
    (
        "vit.patchify",
        "takes only the first image of the batch",
        "It holds the first batch only",
        """
def patchify(images, size):
    c, h, w = images[0].shape
    x = images[0].reshape(c, h // size, size, w // size, size)
    return x.permute(1, 3, 2, 4, 0).reshape(1, -1, size * size * c)
""",
    ),
    (
        "vit.add_class_and_positions",
        "positions added twice",
        "`out + positions`: with `out`",
        """
def add_class_and_positions(patches, class_token, positions):
    cls = class_token[None, None].expand(patches.shape[0], 1, -1) + positions[:1]
    out = torch.cat([cls, patches + positions[1:]], dim=1)
    return out + positions
""",
    ),
    (
        "vit.add_class_and_positions",
        "first position row used for all",
        "positions[0]`: with",
        """
def add_class_and_positions(patches, class_token, positions):
    cls = class_token.expand(len(patches), 1, -1)
    return torch.cat([cls, patches], dim=1) + positions[0]
""",
    ),
    (
        "vit.add_class_and_positions",
        "positions shifted: patch 0 gets row 0, class gets last row",
        "the last position went to the class token",
        """
def add_class_and_positions(patches, class_token, positions):
    n = patches.shape[1]
    x = patches + positions[:n]
    cls = (class_token + positions[n]).expand(len(patches), 1, -1)
    return torch.cat([cls, x], dim=1)
""",
    ),
    (
        "vit.add_class_and_positions",
        "class token without batch axis expanded (one for a batch of one)",
        "`class_token[None, None]`: with `class_token.expand(",
        """
def add_class_and_positions(patches, class_token, positions):
    cls = class_token[None, None]
    return torch.cat([cls, patches], dim=1) + positions
""",
    ),
    (
        "attention.scaled_dot_product",
        "bias added before the scale: it is divided too",
        "the bias is divided by √part too",
        """
def scaled_dot_product(query, key, value, mask=None, bias=None):
    s = query @ key.transpose(-2, -1)
    if bias is not None:
        s = s + bias
    s = s / math.sqrt(query.shape[-1])
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))
    w = s.softmax(-1)
    return w @ value, w
""",
    ),
    (
        "attention.scaled_dot_product",
        "returns the scores instead of the weights",
        "with `(s.softmax(-1) @ value, s.softmax(dim=-1))`",
        """
def scaled_dot_product(query, key, value, mask=None, bias=None):
    s = query @ key.mT / query.shape[-1] ** 0.5
    if bias is not None:
        s = s + bias
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))
    return s.softmax(-1) @ value, s
""",
    ),
    (
        "attention.scaled_dot_product",
        "bias applied only in the else branch of the mask",
        "right for `None` in place of `bias`",
        """
def scaled_dot_product(query, key, value, mask=None, bias=None):
    s = query @ key.mT / query.shape[-1] ** 0.5
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))
    elif bias is not None:
        s = s + bias
    w = s.softmax(-1)
    return w @ value, w
""",
    ),
    (
        "attention.scaled_dot_product",
        "mixes the keys instead of the values",
        "`(w @ key, w)`: with `(w @ value, w)`",
        """
def scaled_dot_product(query, key, value, mask=None, bias=None):
    s = query @ key.mT / query.shape[-1] ** 0.5
    if bias is not None:
        s = s + bias
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))
    w = s.softmax(-1)
    return w @ key, w
""",
    ),
    (
        "attention.split_heads",
        "split(heads) gives pieces of `heads` numbers, not `heads` pieces",
        "the output is 2×4×5×3, expected 2×3×5×4",
        """
def split_heads(tokens, heads):
    return torch.stack(tokens.split(heads, dim=-1), dim=1)
""",
    ),
    (
        "attention.merge_heads",
        "concatenated along the token axis",
        "with `torch.cat([parts[:, h] for h in range(parts.shape[1])], dim=2)`",
        """
def merge_heads(parts):
    return torch.cat([parts[:, h] for h in range(parts.shape[1])], dim=1)
""",
    ),
    (
        "attention.merge_heads",
        "sums the heads rather than joining",
        "the heads are added",
        """
def merge_heads(parts):
    return parts.sum(1)
""",
    ),
    (
        "attention.merge_heads",
        "loop over heads joins them in reverse order",
        "with `torch.cat([out, parts[:, h]], dim=-1)`",
        """
def merge_heads(parts):
    out = parts[:, 0]
    for h in range(1, parts.shape[1]):
        out = torch.cat([parts[:, h], out], dim=-1)
    return out
""",
    ),
    (
        "attention.pre_norm_block",
        "second residual forgotten",
        "with `mlp(norm_before_mlp(x)) + x`",
        """
def pre_norm_block(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    x = tokens + attend(norm_before_attention(tokens))
    x = mlp(norm_before_mlp(x))
    return x
""",
    ),
    (
        "attention.pre_norm_block",
        "changes the input in place",
        "changes its input tokens in place",
        """
def pre_norm_block(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    tokens += attend(norm_before_attention(tokens))
    tokens += mlp(norm_before_mlp(tokens))
    return tokens
""",
    ),
    (
        "attention.rollout",
        "identity not halved, rows sum to more than one",
        "the identity is not halved",
        """
def rollout(weights):
    eye = torch.eye(weights.shape[-1]).to(weights)
    out = eye
    for layer in weights:
        out = (layer.mean(0) / 2 + eye) @ out
    return out
""",
    ),
    (
        "attention.rollout",
        "elementwise product instead of matrix product",
        "multiplied number by number",
        """
def rollout(weights):
    eye = torch.eye(weights.shape[-1]).to(weights)
    mats = 0.5 * weights.mean(1) + 0.5 * eye
    out = mats[0]
    for m in mats[1:]:
        out = m * out
    return out
""",
    ),
    (
        "attention.rollout",
        "mean over layers instead of over heads",
        "with `weights.mean(1)`",
        """
def rollout(weights):
    eye = torch.eye(weights.shape[-1]).to(weights)
    out = eye
    for w in weights.mean(0):
        out = (w + eye) / 2 @ out
    return out
""",
    ),
    (
        "attention.rollout",
        "first layer skipped: loop starts at 1 from the identity",
        "with `range(0, len(weights))`",
        """
def rollout(weights):
    eye = torch.eye(weights.shape[-1]).to(weights)
    out = eye
    for i in range(1, len(weights)):
        out = (weights[i].mean(0) + eye) / 2 @ out
    return out
""",
    ),
    (
        "attention.rollout",
        "identity replaced by ones",
        "with `torch.eye(n).to(weights)`",
        """
def rollout(weights):
    n = weights.shape[-1]
    stay = torch.ones(n, n).to(weights)
    out = torch.eye(n).to(weights)
    for w in weights:
        out = (w.mean(0) + stay) / 2 @ out
    return out
""",
    ),
    (
        "attention.rollout",
        "halves only once at the end instead of in each layer",
        "4 times the expected one. The call was: weights 3×2×5×5",
        """
def rollout(weights):
    eye = torch.eye(weights.shape[-1]).to(weights)
    out = eye
    for w in weights:
        out = (w.mean(0) + eye) @ out
    return out / 2
""",
    ),
    (
        "vit.interpolate_positions",
        "class row placed last",
        "with `torch.cat([cls, pic[0]",
        """
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    cls, rest = positions[:1], positions[1:]
    pic = rest.reshape(*old_grid, -1).permute(2, 0, 1)[None]
    pic = F.interpolate(pic, size=new_grid, mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([pic[0].permute(1, 2, 0).flatten(0, 1), cls])
""",
    ),
    (
        "vit.interpolate_positions",
        "grid taken as (columns, rows) in the target",
        "`new_grid[::-1]`: with `new_grid`",
        """
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    cls, rest = positions[:1], positions[1:]
    pic = rest.T.reshape(1, -1, *old_grid)
    pic = F.interpolate(pic, size=new_grid[::-1], mode="bicubic", antialias=antialias)
    return torch.cat([cls, pic[0].flatten(1).T])
""",
    ),
    (
        "vit.interpolate_positions",
        "old grid assumed to be square",
        "shape '[1, -1, 3, 3]' is invalid",
        """
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    cls, rest = positions[:1], positions[1:]
    side = int(len(rest) ** 0.5)
    pic = rest.T.reshape(1, -1, side, side)
    pic = F.interpolate(pic, size=new_grid, mode="bicubic", antialias=antialias)
    return torch.cat([cls, pic[0].flatten(1).T])
""",
    ),
    (
        "vit.interpolate_positions",
        "scale_factor of the rows used for both axes",
        "with `(new_grid[0], new_grid[1])`",
        """
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    cls, rest = positions[:1], positions[1:]
    pic = rest.T.reshape(1, -1, *old_grid)
    pic = F.interpolate(pic, size=(new_grid[0], new_grid[0]), mode="bicubic", antialias=antialias)
    return torch.cat([cls, pic[0].flatten(1).T])
""",
    ),
    (
        "vit.interpolate_positions",
        "last row taken as the class row",
        "the last row is taken for the class token's",
        """
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    rest, cls = positions[:-1], positions[-1:]
    pic = rest.T.reshape(1, -1, *old_grid)
    pic = F.interpolate(pic, size=new_grid, mode="bicubic", antialias=antialias)
    return torch.cat([cls, pic[0].flatten(1).T])
""",
    ),
    (
        "vit.interpolate_positions",
        "always downscales with antialias: hard-coded True",
        "positions are always smoothed",
        """
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    pic = positions[1:].unflatten(0, old_grid).movedim(-1, 0)
    pic = F.interpolate(pic[None], size=new_grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:1], pic[0].flatten(1).T])
""",
    ),
    (
        "clip.normalise",
        "layer-norm like: subtracts the mean first",
        "the mean is subtracted first",
        """
def normalise(features):
    x = features - features.mean(-1, keepdim=True)
    return x / x.norm(dim=-1, keepdim=True)
""",
    ),
    (
        "clip.normalise",
        "keepdim forgotten",
        "with `features.norm(dim=-1, keepdim=True)`",
        """
def normalise(features):
    length = features.norm(dim=-1)
    return features / length
""",
    ),
    (
        "clip.normalise",
        "divides in place",
        "changes its input features in place",
        """
def normalise(features):
    features /= features.norm(dim=-1, keepdim=True)
    return features
""",
    ),
    (
        "clip.info_nce",
        "log of mean probability, not mean of log",
        None,
        """
def info_nce(image, text, scale):
    logits = scale * image @ text.T
    rows = -logits.softmax(1).diagonal().mean().log()
    cols = -logits.softmax(0).diagonal().mean().log()
    return (rows + cols) / 2
""",
    ),
    (
        "clip.info_nce",
        "binary: bce over identity",
        None,
        """
def info_nce(image, text, scale):
    logits = scale * image @ text.T
    target = torch.eye(len(logits)).to(logits)
    return F.binary_cross_entropy_with_logits(logits, target)
""",
    ),
    (
        "clip.info_nce",
        "softmax before cross_entropy",
        "cross_entropy takes the softmax itself",
        """
def info_nce(image, text, scale):
    logits = (scale * image @ text.T)
    target = torch.arange(len(logits), device=logits.device)
    rows = F.cross_entropy(logits.softmax(1), target)
    cols = F.cross_entropy(logits.T.softmax(1), target)
    return (rows + cols) / 2
""",
    ),
    (
        "clip.pool_at_eos",
        "mean over all tokens up to EOS",
        None,
        """
def pool_at_eos(hidden, ids, eos):
    seen = (ids == eos).cumsum(1) == 0
    seen = seen.to(hidden.dtype)[..., None]
    return (hidden * seen).sum(1) / seen.sum(1)
""",
    ),
    (
        "clip.pool_at_eos",
        "sum over all the EOS",
        "behind the first EOS",
        """
def pool_at_eos(hidden, ids, eos):
    mask = (ids == eos).to(hidden.dtype)
    return torch.einsum("bt,btw->bw", mask, hidden)
""",
    ),
    (
        "clip.pool_at_eos",
        "counts tokens that are not EOS as length",
        "behind the first EOS",
        """
def pool_at_eos(hidden, ids, eos):
    lengths = (ids != eos).sum(1)
    return hidden[torch.arange(len(ids)), lengths.clamp(max=hidden.shape[1] - 1)]
""",
    ),
    (
        "clip.pool_at_eos",
        "argmax along the batch axis",
        "with `(ids == eos).int().argmax(1)`",
        """
def pool_at_eos(hidden, ids, eos):
    first = (ids == eos).int().argmax(0)
    return hidden[torch.arange(len(ids)), first[: len(ids)]]
""",
    ),
    (
        "retrieval.recall_at_k",
        "textbook recall: hits divided by the number of right ones",
        "1 of 1 numbers in the output are NaN",
        """
def recall_at_k(similarity, right, k):
    top = similarity.topk(k, dim=1).indices
    hits = right.gather(1, top).sum(1)
    return (hits / right.sum(1)).mean().item()
""",
    ),
    (
        "retrieval.recall_at_k",
        "all of the right ones needed",
        "with `right.gather(1, top).any(1)",
        """
def recall_at_k(similarity, right, k):
    top = similarity.topk(k, dim=1).indices
    return right.gather(1, top).all(1).float().mean().item()
""",
    ),
    (
        "retrieval.recall_at_k",
        "k + 1 candidates",
        "one candidate too many",
        """
def recall_at_k(similarity, right, k):
    order = similarity.argsort(dim=1, descending=True)
    hits = 0
    for row, best in zip(right, order):
        hits += bool(row[best[: k + 1]].any())
    return hits / len(right)
""",
    ),
    (
        "retrieval.recall_at_k",
        "count instead of share",
        "the number of queries that hit",
        """
def recall_at_k(similarity, right, k):
    top = similarity.topk(k, dim=1).indices
    return right.gather(1, top).any(1).sum().item()
""",
    ),
    (
        "retrieval.recall_at_k",
        "only the first right candidate of a query counts",
        "with `right.gather(1, ",
        """
def recall_at_k(similarity, right, k):
    first = right.int().argmax(1, keepdim=True)
    top = similarity.topk(k, dim=1).indices
    return (top == first).any(1).float().mean().item()
""",
    ),
    (
        "retrieval.recall_at_k",
        "divides by candidates",
        "with `hits / similarity.shape[0]`",
        """
def recall_at_k(similarity, right, k):
    top = similarity.topk(k, dim=1).indices
    hits = right.gather(1, top).any(1).sum().item()
    return hits / similarity.shape[1]
""",
    ),
    (
        "clip.zero_shot_classifier",
        "mean over width",
        "with `normalise(unit.mean(1))`",
        """
def zero_shot_classifier(prompts):
    unit = prompts / prompts.norm(dim=-1, keepdim=True)
    return normalise(unit.mean(-1))
""",
    ),
    (
        "clip.zero_shot_classifier",
        "second normalisation over the classes (dim 0)",
        "dim=0)`: with `F.normalize(unit.mean(dim=1))`",
        """
def zero_shot_classifier(prompts):
    unit = F.normalize(prompts, dim=-1)
    return F.normalize(unit.mean(dim=1), dim=0)
""",
    ),
    (
        "gap.modality_gap",
        "mean of pair differences, needs equal counts",
        "normalise(text).mean(dim=0)",
        """
def modality_gap(image, text):
    d = (normalise(image) - normalise(text)).mean(0)
    return d, d.norm()
""",
    ),
    (
        "gap.modality_gap",
        "cosine distance as length",
        None,
        """
def modality_gap(image, text):
    i, t = normalise(image).mean(0), normalise(text).mean(0)
    return i - t, 1 - F.cosine_similarity(i, t, dim=0)
""",
    ),
    (
        "gap.modality_gap",
        "mean over width",
        "with `normalise(image).mean(0) - normalise(text).mean(0)`",
        """
def modality_gap(image, text):
    d = normalise(image).mean(-1) - normalise(text).mean(-1)
    return d, d.norm()
""",
    ),
    (
        "gap.modality_gap",
        "length of the difference of lengths",
        None,
        """
def modality_gap(image, text):
    i, t = normalise(image).mean(0), normalise(text).mean(0)
    return i - t, i.norm() - t.norm()
""",
    ),
    (
        "gap.modality_gap",
        "text not normalised",
        "normalise(text).mean(dim=0)`",
        """
def modality_gap(image, text):
    d = normalise(image).mean(0) - text.mean(0)
    return d, d.norm()
""",
    ),
    (
        "clip.siglip_loss",
        "signs reversed",
        "with `2 * torch.eye(len(image)).to(image) - 1`",
        """
def siglip_loss(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    sign = 1 - 2 * torch.eye(len(image)).to(image)
    return -F.logsigmoid(sign * logits).sum() / len(image)
""",
    ),
    (
        "clip.siglip_loss",
        "log forgotten: sigmoid only",
        "with `-F.logsigmoid(",
        """
def siglip_loss(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    sign = 2 * torch.eye(len(image)).to(image) - 1
    return -torch.sigmoid(sign * logits).sum() / len(image)
""",
    ),
    (
        "clip.siglip_loss",
        "sign outside the log sigmoid",
        "the sign stands outside of log σ",
        """
def siglip_loss(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    sign = 2 * torch.eye(len(image)).to(image) - 1
    return -(sign * F.logsigmoid(logits)).sum() / len(image)
""",
    ),
    (
        "clip.siglip_loss",
        "divides by 2B: both directions counted",
        "with `loss / len(image)`",
        """
def siglip_loss(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    target = torch.eye(len(image)).to(image)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return loss / (2 * len(image))
""",
    ),
]


@pytest.mark.parametrize(
    ("name", "says", "source"),
    [pytest.param(name, says, source, id=f"{name}: {what}") for name, what, says, source in WRONG],
)
def test_a_mistake_in_own_words_is_told(name, says, source):
    helper = {"clip.zero_shot_classifier": clip.normalise, "gap.modality_gap": clip.normalise}
    names = {"normalise": helper[name]} if name in helper else {}
    verdict = judge(all_exercises()[name], cell(source.strip(), **names))
    assert verdict.status == "wrong"
    assert says is None or says in verdict.says.en, verdict.says.en
