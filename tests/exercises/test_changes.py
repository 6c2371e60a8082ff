"""The cases notice small changes: every reference with one small fault is rejected, or known to be right."""

import resource
import time
from pathlib import Path

import pytest

from tests.exercises.changes import wrong_versions
from vlmcourse.exercises.base import all_exercises
from vlmcourse.workbook.check import passes
from vlmcourse.workbook.outcomes import OutOfTime, limited, unheard

LAST = "the last axis of two is axis 1"
DIAGNOSTIC = "nothing is trained through a measurement"
REFERENCE = "only the model that learns has a gradient"
FROZEN = "what is kept in four bits does not learn"
DRAWN = "nothing learns through what is drawn"
QUEUED = "nothing learns through what a queue holds"
ORDER, ONE = "the order does not matter", "one weight alone stays as it is"
UNORDERED = "the order of a dict says nothing"
WHOLE = "with top_p = 1 nothing is cut off either way"
MERGED = "merging comes after training"
STABLE = "on a CPU torch keeps equal ones in their order either way"
SQUARED = "the sign and the order of what is squared do not matter"
ROUNDED = "what floating point loses is between 0 and a billionth; learners may leave it"
EQUIVALENT: dict[str, dict[str, str]] = {
    # chapters 00 to 04
    "pixels.normalise": {
        "return (images.permute(0, 3, 1, 2)) / 127.5 - 1": "bytes divided by a float are float32",
    },
    "gap.feature_statistics": {
        "count, unit = len(features), F.normalize(features, dim=(1))": LAST,
        "count, unit = len(features), F.normalize(features, )": LAST,
        "return features.norm(dim=(1)).mean(), features.mean(dim=0), features.std(dim=0), cone": LAST,
        "features = features.detach()": DIAGNOSTIC,
    },
    "looks.answer_prior": {
        "counts = torch.zeros(kinds, (answers.max()) + 1, dtype=torch.long, device=answers.device)":
            "torch takes a tensor of one number as a size",
        "counts = torch.zeros(kinds, int(answers.max()) + 2, dtype=torch.long, device=answers.device)":
            "one more answer that nobody gave",
        "counts.index_put_((asked, answers), torch.ones_like(asked), accumulate=True)":
            "as many questions as answers",
        "unasked = (counts.sum(dim=1) <= 0)": "a count is never negative",
    },
    "vit.add_class_and_positions": {
        "front = front[:1].expand(front.shape)": "the class token is the same in every row",
    },
    "vit.interpolate_positions": {
        "picture = picture[:1].expand(picture.shape)": "there is one row",
        "resized = resized[:1].expand(resized.shape)": "there is one row",
        'resized = F.interpolate(picture, size=new_grid, mode="bicubic", antialias=antialias)':
            "the default of align_corners does not align them",
    },
    "attention.scaled_dot_product": {
        "scores = (query / math.sqrt(value.shape[-1])) @ key.transpose(-2, -1)": "all are as wide",
        "scores = (query / math.sqrt(key.shape[-1])) @ key.transpose(-2, -1)": "all are as wide",
        "scores = (query / math.sqrt(query.shape[-1])) @ key.transpose((2), -1)": "there are four axes",
    },
    "attention.rollout": {
        "weights.shape[-2], device=weights.device, dtype=weights.dtype": "as many queries as keys",
        "weights = weights.detach()": DIAGNOSTIC,
        "weights = weights.abs()": "attention is never negative",
    },
    "reach.attention_distance": {
        "row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), )":
            "the default, of which torch warns",
        "distance = patch_size * (((place) - (place[:, None]))).norm(dim=-1)": "there and back is as far",
        "return (patches / patches.sum(-1, keepdim=True) * distance).sum(-2).mean(-1)":
            "the sum of everything, divided by the number of patches",
        "weights = weights.detach()": DIAGNOSTIC,
        "weights = weights.abs()": "attention is never negative",
    },
    "clip.pool_at_eos": {
        "return hidden[torch.arange(len(ids), device=None), first]": "torch takes places from the CPU, too",
        "return hidden[torch.arange(len(hidden), device=ids.device), first]": "as many rows of ids",
    },
    "clip.zero_shot_classifier": {
        "return normalise(normalise(prompts).sum(dim=1))": "the second normalise undoes the factor",
    },
    "clip.info_nce": {"scale = scale.abs()": "scale is an exponential, so never negative"},
    "clip.siglip_loss": {"scale = scale.abs()": "scale is an exponential, so never negative"},
    "retrieval.recall_at_k": {
        "best = similarity.topk(k, ).indices": LAST,
        "similarity = similarity.detach()": DIAGNOSTIC,
        "similarity = similarity.float()": "only the order of similarities counts",
    },
    # chapter 05
    "language.rope": {
        "angles = angles.detach()": "angles are made of positions; nothing learns through them",
    },
    "generation.top_p": {
        "if False: (for top_p == 1)": WHOLE,
        "if 0.6 == 1:": WHOLE,
        "if (top_p >= 1):": WHOLE,
        "if top_p == 0: (for 1)": WHOLE,
        "if top_p == 2:": WHOLE,
        "if (temperature <= 0):": "a temperature is never negative",
        "best = logits.argmax(dim=(1), keepdim=True)": LAST,
        "probabilities = (logits / temperature).softmax(dim=(1))": LAST,
        "mass_before = ordered.cumsum(dim=(1)) - ordered": LAST,
        "return torch.zeros_like(kept).scatter(1, order, kept / kept.sum(dim=(1), keepdim=True))": LAST,
        "kept = ordered.masked_fill(mass_before > top_p, 0.0)": "only rounding can tell them apart",
        "return torch.ones_like(kept).scatter(1, order, kept / kept.sum(dim=-1, keepdim=True))":
            "every place is overwritten",
        "return (kept).scatter(1, order, kept / kept.sum(dim=-1, keepdim=True))":
            "every place is overwritten",
        "logits = logits.detach()": "nothing learns through what is drawn",
    },
    "bert.mask_tokens": {
        "chosen = chosen.detach()": "no gradient passes a comparison",
        "dice = dice.detach()": "no gradient passes a comparison",
        "chosen = chosen.abs()": "a chance is never negative",
        "dice = dice.abs()": "a chance is never negative",
        "chosen, dice = chosen.float(), dice.float()": "the borders are rounded like the chances",
        "inputs = ids.masked_fill(asked & (dice <= 0.8), mask_id)":
            "the next line replaces what stands at 0.8",
    },
    "t5.relative_buckets": {
        "first = first[:1].expand(first.shape)": "zeros",
        "return first + torch.where(distance <= exact, distance, rough.clamp(max=buckets - 1))":
            "the first rough bucket is that of exact",
    },
    # chapter 06
    "fusion.inject": {
        "return embeddings.masked_scatter(places[:, :, None], features.to(embeddings.dtype))":
            "places have two axes",
    },
    # chapters 07 to 11 and 17
    "qformer.apart_mask": {
        "ours = ours[:1].expand(ours.shape)": "queries and words have the same places in every row",
    },
    "projector.pixel_shuffle": {
        "squares = features.reshape(rows // factor, image, factor, columns // factor, factor, width)":
            "both stand in front and are put together again",
    },
    "stages.alignment_loss": {
        "place = torch.arange(logits.shape[1], device=ids.device)": "as many scores as ids",
        "place = torch.arange(mask.shape[1], device=ids.device)": "as many marks as ids",
    },
    "stages.trained_names": {
        'learning = ("projector.",) if (stage <= 1) else ("projector.", "language.")': "stages are 1 and 2",
    },
    "projector.spectrum": {
        "values = torch.linalg.svdvals((weight))": DIAGNOSTIC,
        "weight = weight.detach()": DIAGNOSTIC,
    },
    "flamingo.media_mask": {
        "begun = starts.cumsum(dim=1)[:, :, None]  # images so far, (batch, token, 1)": "there are two axes",
    },
    "flamingo.side_by_side": {
        "image = torch.arange((counts.max()), device=counts.device)": "torch takes a tensor of one number",
    },
    "chat.render_chat": {
        'text = "".join(f"<{role}>{said}" + "<end>" * ((role <= "assistant")) for role, said in turns)':
            "no role stands before it in the alphabet",
    },
    "chat.label_mask": {
        "opened = torch.where(ids == start, place, -2).cummax(dim=1).values  # the latest start so far":
            "any number below all places",
    },
    "chat.collate": {"for number, row in list(enumerate(rows))[::-1]:": ORDER},
    "generation.write_greedily": {
        "caches = [Cache() for _ in list(model.blocks)[::-1]]": ORDER,
        "for _ in list(range(steps))[::-1]:": ORDER,
        "ended = torch.zeros(len(mask), dtype=torch.bool, device=prompt.device)": "as many rows of the mask",
        "ended = ended[:1].expand(ended.shape)": "no row has ended before it begins",
        "token = model.head(last).argmax(dim=(1)).masked_fill(ended, pad)": LAST,
        "prompt = prompt.detach()": "nothing learns through the likeliest token",
    },
    "blip.hard_negatives": {
        "similarity = similarity.detach()": DRAWN,
        "dice = dice.detach()": DRAWN,
        "dice = dice.abs()": "a chance is never negative",
        "similarity, dice = similarity.float(), dice.float()": "only the place on which the dice fall counts",
        "return ((line) <= dice[:, None]).sum(dim=1)": "the line ends at 1, but for rounding",
        "return (line * line[:, -1:] <= dice[:, None]).sum(dim=1)": "the line ends at 1, but for rounding",
    },
    "matching.matched_pairs": {
        "own = torch.arange(len(wrong_image), device=wrong_text.device)": "as many images as texts",
        "return images, texts, (torch.arange(len(texts), device=own.device) < len(own)).long()":
            "as many images as texts",
    },
    "matching.soft_contrast": {
        "slow = slow.detach()": "the slow copy's similarities come without gradients",
        "partner = torch.eye(*similarity.shape, dtype=slow.dtype, device=similarity.device)":
            "both are of one dtype",
        "partner = torch.eye(*slow.shape, dtype=similarity.dtype, device=similarity.device)":
            "both are of one shape",
    },
    "blip.enqueue": {"queue = queue.detach()": QUEUED, "new = new.detach()": QUEUED},
    "capfilt.keep_captions": {
        "scores = scores.detach()": DIAGNOSTIC,
        "scores = scores.float()": "probabilities are only compared",
    },
    "keys.fuse": {
        "wanted = {key for keys in list(names.values())[::-1] for key in keys}": ORDER,
        "wanted = {key for keys in names.values() for key in list(keys)[::-1]}": ORDER,
        "if (wanted < state.keys()):": "a missing weight is a KeyError where it is looked up",
        "return {ours: cat(several) if len(several) >= 1 else several[0] for ours, several in parts.items()}":
            ONE,
        "return {ours: cat(several) if len(several) > 0 else several[0] for ours, several in parts.items()}":
            ONE,
        "return {ours: cat(several) if len(ours) > 1 else several[0] for ours, several in parts.items()}":
            ONE,
        "return {ours: (cat(several)) for ours, several in parts.items()}": ONE,
    },
    "lora.lora_numbers": {"return sum(rank * (out + width) for out, width in list(layers)[::-1])": ORDER},
    "answers.answer_loss": {"wanted = (answers > IGNORED)": "no token has a number below"},
    "lora.lora_merge": {
        "weight = weight.detach()": MERGED,
        "down = down.detach()": MERGED,
        "up = up.detach()": MERGED,
    },
    # chapter 12
    "llava.llava_record": {
        'if role == "assistant" and not any(before == "user" for before, _ in list(turns)[::-1]):': ORDER,
        'if role == "assistant" and not any((before >= "user") for before, _ in turns):':
            "no role stands behind it in the alphabet",
        'turns.append((role, image_first(said["value"]) if (role >= "user") else said["value"]))':
            "no role stands behind it in the alphabet",
        'if (role <= "assistant") and not any(before == "user" for before, _ in turns):':
            "no role stands before it in the alphabet",
    },
    "quality.answer_entropy": {
        "return sum(-share * math.log2(share) for share in list(shares)[::-1])": ORDER,
        "shares = [count / len(answers) for count in list(Counter(answers).values())[::-1]]": ORDER,
    },
    "quality.image_dependence": {
        "seen = seen.abs()": "a loss is never negative",
        "unseen = unseen.abs()": "a loss is never negative",
        "wrong = wrong.abs()": "a loss is never negative",
    },
    "quality.clip_filter": {
        "order = torch.where(similarity.isnan(), -torch.inf, similarity).argsort(descending=True, )": STABLE,
        "order = torch.where(similarity.isnan(), -torch.inf, similarity)"
        ".argsort(descending=True, stable=False)": STABLE,
        "room = int((len(similarity) * share))  # 0.29 · 100 is less than 29 in floating point": ROUNDED,
        "room = int(len(similarity) * share + 1.0000000000000001e-07)"
        "  # 0.29 · 100 is less than 29 in floating point": ROUNDED,
        "similarity = similarity.detach()": DIAGNOSTIC,
        "similarity = similarity.float()": "only the order of similarities counts",
    },
    "quality.balanced_rows": {
        "for question, count in list(counts.items())[::-1]:": ORDER,
        "for question, answer in list(zip(asked, answers, strict=True))[::-1]:": ORDER,
        "habit, often = count.most_common(2)[0]": "the first of them is the same",
        "habit, often = count.most_common()[0]": "the first of them is the same",
        "if room.get(pair, 1) >= 0:": "any number that is not below 0",
    },
    "quality.difference_hash": {
        "grey = grey.detach()": DIAGNOSTIC,
        "grey = grey.abs()": "no pixel is darker than 0",
        "grey = grey.float()": "only what is brighter counts",
    },
    # chapter 13
    "vqa.vqa_accuracy": {
        "answer, people = _one_line(answer), [_one_line(person) for person in list(people)[::-1]]": ORDER,
        "answer, people = normalise_answer(answer), [normalise_answer(person) "
        "for person in list(people)[::-1]]": ORDER,
        "for left_out in list(range(len(people)))[::-1]:": ORDER,
    },
    "captioning.clipped_matches": {"for reference in list(references)[::-1]:": ORDER},
    "captioning.tf_idf": {"for ngram, count in list(counts.items())[::-1]:": UNORDERED},
    "hallucination.pope_scores": {
        "accuracy=(hits + pairs[False, False]) / len(right),": "as many answers as questions",
        "yes=(hits + false_alarms) / len(right),": "as many answers as questions",
    },
    "intervals.resampled_means": {
        "images = int(groups.max()) + 2": "one more image that is never drawn",
        "images = (groups.max()) + 1": "torch takes a tensor of one number as a size",
        "scores = scores.detach()": DIAGNOSTIC,
    },
    # chapter 14
    "audit.label_offset": {
        "padded, fits = F.pad(labels, (2, 3), value=IGNORED), []": "one more place that is cut off again",
        "most = max(fit for fit, _ in list(fits)[::-1])": ORDER,
        "moved = padded[:, 2 + offset :][:, : labels.shape[1]]"
        "  # at each id the label that many places behind it": "as many labels as ids",
        "fits.append((((moved == ids).sum()), offset))": "tensors of one number compare as numbers do",
        "return next(offset for fit, offset in fits if (fit >= most))": "none is above the most",
    },
    "audit.trained_images": {
        "return ((labels == image) | ((ids == image) & ((labels > IGNORED)))).sum()":
            "no label is below -100",
    },
    "share.image_share": {"weights = weights.abs()": "attention is never negative",
                          "weights = weights.detach()": DIAGNOSTIC},
    "relevance.weigh_by_gradient": {"attention = attention.abs()": "attention is never negative",
                                    "attention = attention.detach()": DIAGNOSTIC,
                                    "gradient = gradient.detach()": DIAGNOSTIC},
    "relevance.grad_cam": {"activations = activations.detach()": DIAGNOSTIC,
                           "gradients = gradients.detach()": DIAGNOSTIC},
    # chapter 15
    "recompute.gradients_again": {
        "gradient = gradient.detach()": "nobody asks for the gradient of a gradient",
        "gradient = gradient.float()": "it is fp32 already",
    },
    "scaling.next_scale": {"if (quiet + 1 >= interval):": "counting starts again before it could be more"},
    "quantise.quantise_blocks": {
        "weights = weights.detach()": FROZEN,
        "levels = levels.detach()": FROZEN,
        "scaled = weights / torch.where((scales <= 0), 1, scales)[:, None]": "a size is never negative",
        "scaled = weights / torch.where(scales == 0, 2, scales)[:, None]": "half of 0 is 0",
        "distance = (scaled[:, :, None] - levels).abs()": "there are two axes before it",
        "distance = (((levels) - (scaled[..., None]))).abs()": "a distance is the same both ways",
    },
    "quantise.dequantise_blocks": {"levels = levels.detach()": FROZEN},
    # chapter 18
    "comparing.square_and_add": {
        "above = math.hypot(((mean) - (high)), other - other_low)": SQUARED,
        "above = math.hypot(high - mean, ((other_low) - (other)))": SQUARED,
        "above = math.hypot(other - other_low, high - mean)": SQUARED,
        "below = math.hypot(((low) - (mean)), other_high - other)": SQUARED,
        "below = math.hypot(mean - low, ((other) - (other_high)))": SQUARED,
        "below = math.hypot(other_high - other, mean - low)": SQUARED,
    },
    "claims.unproved": {
        "low, high = (value, value) if high is None else (low, high)": "both ends are None, or neither",
        'borne = {"is": abs(((number) - (value))) <= 0.0005, '
        '"at least": low >= number, "at most": high <= number}':
            "there and back is as far",
    },
    # chapter 16
    "frames.sample_frames": {"if budget > count:": "with one frame to a span, its middle is that frame"},
    "mrope.mrope_positions": {
        "words = words[:1].expand(words.shape)": "the three numbers of a word are the same",
    },
    "mrope.pair_axes": {
        "return (torch).repeat_interleave(torch.tensor(sections))": "torch then repeats 0, 1, 2, ...",
        "for axis in list((1, 2))[::-1]:": ORDER,
    },
    "locations.box_to_locations": {
        "first = (boxes[:, :2] * bins).long()  # (box, xy)": "long cuts off, and shares are never negative",
        "first = (boxes * bins).floor().long()  # (box, xy)": "only the first two are read",
        "first = (boxes[:, :] * bins).floor().long()  # (box, xy)": "only the first two are read",
        "first = (boxes[:, :3] * bins).floor().long()  # (box, xy)": "only the first two are read",
        "boxes = boxes.detach()": "cells are whole numbers; nothing learns through them",
        "boxes = boxes.abs()": "shares are never negative",
        "boxes = boxes.float()": "cells are whole numbers",
    },
    "locations.locations_to_boxes": {
        "thin = ((corners[:, 0] >= corners[:, 1])).any(dim=1)[:, None]": "no box ends before it begins",
    },
    # chapter 19
    "tiles.choose_grid": {
        "best, most, least = grids, -1, math.inf": "any grid is better than none",
        "best, most, least = grids[0], -2, math.inf": "any grid is better than none",
        "wasted = (frame_height * frame_width)": "where it counts, the effective pixels are equal",
        "wasted = frame_height * frame_width + effective": "where it counts, the effective pixels are equal",
        "wasted = frame_height * frame_width - 352": "where it counts, the effective pixels are equal",
        "if effective > most or ((effective >= most) and wasted < least):": "what shows more has won already",
    },
    "tiles.lay_tiles": {"ends = ends[:1].expand(ends.shape)": "all lines end with the same vector"},
    "native.pack_pictures": {
        "free = (0, length - sum(len(pictures[picture]) for picture in list(members)[::-1]))": ORDER,
    },
    "pruning.keep_tokens": {
        "best = scores.argsort(descending=True, stable=True)[:, :k]": LAST,
        "return best.sort().values": LAST,
        "scores = scores.detach()": "places are whole numbers; nothing learns through them",
        "scores = scores.float()": "only the order of scores counts",
    },
    # chapter 20
    "preferences.token_log_probabilities": {
        "learned = (following > IGNORED)": "a token's number is never negative",
        "everything = logits.float().log_softmax(dim=-1)": "nothing is read off the last place",
        "everything = logits[..., :, :].float().log_softmax(dim=-1)": "nothing is read off the last place",
        "chosen = everything.gather(-1, following.masked_fill(~learned, 1)[..., None])[..., 0]":
            "what is read off where nothing is predicted is covered by 0 afterwards",
        "logits = logits.float()": "computed in float32 in any case",
    },
    "preferences.dpo_loss": {
        "reference_chosen = reference_chosen.detach()": REFERENCE,
        "reference_rejected = reference_rejected.detach()": REFERENCE,
    },
    "policy.group_advantages": {"rewards = rewards.detach()": "nothing learns through a reward"},
    "policy.policy_loss": {
        "before = before.detach()": REFERENCE,
        "reference = reference.detach()": REFERENCE,
        "advantages = advantages.detach()": "nothing learns through a reward",
    },
    "rewards.format_reward": {
        'stops = (reply.count(".") <= 1) and reply.endswith(".")': "what ends with a full stop has one",
    },
}  # fmt: skip
"""Changed lines by exercise that do the same or are as good, each with its reason."""


@pytest.fixture(autouse=True)
def little_memory():
    """What grows without end raises a MemoryError instead of filling the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def accepted(task, version, seconds: float) -> bool:
    """Whether a changed reference passes; one that takes more CPU time does not, since it may never end."""
    try:
        with unheard(), limited(seconds):
            return passes(task, version.wrong)
    except OutOfTime:
        return False


def named(task):
    return f"{task.chapter}-{task.slot.name}"


@pytest.mark.parametrize("task", all_exercises().values(), ids=named)
def test_every_small_change_of_a_reference_is_rejected(task):
    assert passes(task, task.slot.reference)  # and all that is slow the first time is done
    start = time.process_time()
    passes(task, task.slot.reference)
    seconds = max(1.0, 5 * (time.process_time() - start))
    versions = wrong_versions(task).items()
    let_pass = {words for words, version in versions if accepted(task, version, seconds)}
    assert let_pass == EQUIVALENT.get(task.slot.name, {}).keys()
