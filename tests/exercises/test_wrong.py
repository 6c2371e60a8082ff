"""Wrong answers that cases too much alike let pass (of keys.py: might): edits of the reference, rejected."""

import pytest

from vlmcourse.exercises.base import all_exercises
from vlmcourse.exercises.edits import edits
from vlmcourse.workbook.check import judge

LET_PASS = {
    "audit.label_offset": [("moved == ids", "(moved == ids) & (ids > 6)")],
    "audit.trained_images": [("labels != IGNORED", "labels >= 1")],
    "attention.merge_heads": [("head * part", "head * 4")],
    "attention.scaled_dot_product": [("bias is not None", "bias is not None and mask is None"),
                                     ("scores.softmax(dim=-1)", "scores.exp() / scores.exp().sum(-1, True)")],
    "attention.split_heads": [("width // heads", "4")],
    "boxes.points_inside": [("(x < right)", "(x < right.round())")],
    "bpe.merge_pair": [("2 if hit else 1", "2"), ("tuple(tokens[place : place + 2]) == pair",
                        '"".join(tokens[place : place + 2]) == "".join(pair)')],
    "captioning.clipped_matches": [("counts.total()", "max(len(candidate) - n + 1, -1)")],
    "chat.render_chat": [("{said}", "{said.lower()}")],
    "chat.label_mask": [("return ", "return (ids == end) | "),
                        ("F.pad((opened > closed)[:, :-1], (1, 0))",
                         "F.pad(((ids == start).int() - (ids == end).int()).cumsum(1)[:, :-1], (1, 0)) > 0"),
                        (("place =", "shape, ids = ids.shape, ids.reshape(1, -1)\n    place ="),
                         ("(1, 0))", "(1, 0)).reshape(shape)"))],
    "chat.collate": [("length), pad", "length), pad if left else 0")],
    "clip.normalise": [("dim=-1", "dim=2")],
    "cnn.conv2d": [("windows = F.unfold(images, (row, column), padding=padding, stride=stride)",
                    "return F.conv2d(images, weight, None, stride, padding, 1, groups)")],
    "fusion.inject": [("places[..., None]", "places[..., None].expand(-1, -1, 5)"),
                      ("features.to(embeddings.dtype)", "features")],
    "hallucination.pope_scores": [("(precision + recall) if", "max(precision + recall, 0.9) if")],
    "intervals.resampled_means": [("int(groups.max()) + 1", "draws.shape[0]"),
                                  ("int(groups.max()) + 1", "3"), ("int(groups.max()) + 1", "4")],
    "generation.top_p": [("best = logits.argmax(dim=-1, keepdim=True)",
                          "best = (logits.argmax() % logits.shape[1]).expand(len(logits), 1)"),
                         ("mass_before >= top_p", "(mass_before >= top_p).all(dim=0)"),
                         ("mass_before >= top_p", "(mass_before >= top_p)[:1]")],
    "generation.write_greedily": [
        ("[Cache() for _ in model.blocks]", "[Cache()] * len(model.blocks)"),
        (("caches=caches", "caches=None"),
         ("model.embed(token[:, None])", "torch.cat([unread, model.embed(token[:, None])], dim=1)")),
    ],
    "keys.fuse": [("in parts.items()", "in sorted(parts.items())"),
                  ("for key in keys]", "for key in state if key in keys]"),
                  ("state[key] for key", "state[key].float() for key")],
    "keys.unfuse": [("[rows[key] for key in keys]", "[rows[key] for key in rows if key in keys]")],
    "language.rms_norm": [("dim=-1", "dim=2")],
    "looks.answer_prior": [("counts.argmax(dim=1)", "counts.shape[1] - 1 - counts.flip(1).argmax(dim=1)"),
                           ("counts.sum(dim=0).argmax()",
                            "len(counts.T) - 1 - counts.sum(dim=0).flip(0).argmax()")],
    "naive.join": [("[image, text]", "[image.detach(), text]"),
                   ("torch.cat([image, text], dim=1)", "torch.no_grad()(torch.cat)([image, text], dim=1)")],
    "lora.dora_forward": [("stretch =", "frozen.requires_grad_(False)\n    stretch ="),
                          ("stretch =", "frozen.weight.data.mul_(2).div_(3)\n    stretch =")],
    "memory.state_bytes": [("frozen * bits / 8 +", "frozen * bits // 8 +"),
                           ("learned * optimizer", "learned * (optimizer or 8)")],
    "quantise.quantise_blocks": [("torch.where(scales == 0, 1, scales)", "(scales + 1e-6)"),
                                 ("torch.where(scales == 0, 1, scales)", "scales.clamp(min=1e-5)"),
                                 (".to(torch.uint8), scales", ".to(torch.uint8), scales.squeeze()"),
                                 ("distance.argmin(dim=-1)", "torch.where(scales[:, None] == 0, "
                                                             "(len(levels) - 1) // 2, distance.argmin(-1))")],
    "quantise.dequantise_blocks": [(("return ", "return ("),
                                    ("scales[:, None]", "scales[:, None]).squeeze()")),
                                   ("return ", "levels = levels / levels[numbers.long()].abs().max()\n    "
                                    "return ")],
    "recompute.gradients_again": [
        ("enable_grad()", "set_grad_enabled(torch.is_grad_enabled())"),
        ("allow_unused=True)", "allow_unused=True, create_graph=True)"),
        ("output = block(*copies)", "output = block(*copies)\n        output = block(*copies)"),
        ("    learned =", "    block.zero_grad()\n    learned ="),
        ("    learned =", "    block.eval()\n    learned ="),
        ("    with torch", "    torch.manual_seed(0)\n    with torch"),
        ("+ list(found)", "+ [slope for slope in found if slope is not None]"),
        ("    found =", "    if not learned:\n        return [None] * len(needs)\n    found ="),
    ],
    "scaling.next_scale": [("scale * backoff, 0", "float(int(scale * backoff)), 0"),
                           ("scale * growth, 0", "min(scale * growth, 2.0**24), 0"),
                           ("scale * backoff, 0", "scale * backoff if quiet else scale, 0")],
    "lora.lora_forward": [("F.linear(tokens, down)", 'torch.einsum("btw,rw->btr", tokens, down)')],
    "optimizers.rate_groups": [('name.split(".")[0]',
                                "next(part for part in rates if name.startswith(part))"),
                               ("parameter.ndim < 2", 'not name.endswith("weight")')],
    "quality.clip_filter": [("torch.where(similarity.isnan(), -torch.inf, similarity)",
                             "similarity.nan_to_num(-0.15)")],
    "quality.difference_hash": [("] > grey", "].round() > grey"), ("] > grey", "] >= 1 + grey")],
    "relevance.grad_cam": [("clamp(min=0)", "clamp(0, 3)")],
    "relevance.weigh_by_gradient": [("clamp(min=0)", "clamp(0, 3)")],
    "reach.attention_distance": [("[..., 1:, 1:]", "[:, :, 1:, 1:]")],
    "share.image_share": [("return on_image.sum(dim=-1).mean(dim=2)",
                           "return torch.tensor(on_image.sum(dim=-1).mean(dim=2).numpy())")],
    "policy.policy_loss": [("near * advantages[:, None]",
                            "(ratio * advantages[:, None]).clamp(1 - clip, 1 + clip) * advantages[:, None]"),
                           ("clamp(1 - clip", "clamp(clip")],
    "preferences.token_log_probabilities": [("log_softmax(dim=-1)", "softmax(dim=-1).add(1e-9).log()")],
    "vqa.vqa_accuracy": [("others.count(answer)", "sum(person in answer for person in others)")],
    "stages.alignment_loss": [("mask & ", "(ids != 0) & ")],
    "stages.trained_names": [("startswith(learning)", "startswith(tuple(part[:-1] for part in learning))")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "edit"), [(name, e) for name, es in LET_PASS.items() for e in es])
def test_what_easier_cases_let_pass_is_rejected(name, edit):
    task = all_exercises()[name]
    (wrong,) = edits(task.slot, (*edit, "wrong."))
    assert judge(task, wrong.wrong).status == "wrong"
