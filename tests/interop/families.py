"""A tiny random model of every family that is carried over; no field of its configuration is at a default."""

from collections.abc import Callable
from typing import Any, NamedTuple

import open_clip
import timm
import torch
import transformers
from torch import nn

from vlmcourse.interop import blip, blip2, clip, cnn, flamingo, language, llava, siglip2, vit
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import BlipConfig
from vlmcourse.models.blip2 import Blip2Config
from vlmcourse.models.clip import CLIPConfig, TextConfig
from vlmcourse.models.cnn import ResNetConfig
from vlmcourse.models.efficientnet import EfficientNetConfig, StageConfig
from vlmcourse.models.flamingo import FlamingoConfig
from vlmcourse.models.gpt import GPTConfig
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.native_vit import NativeViTConfig
from vlmcourse.models.qformer import QFormerConfig
from vlmcourse.models.t5 import T5Config
from vlmcourse.models.vit import ViTConfig


class Family(NamedTuple):
    """How a library's model is made, converted and run."""

    make: Callable[[], nn.Module]
    convert: Callable[[nn.Module], nn.Module]
    config: Any  # what ours must be
    theirs: Callable[[nn.Module], torch.Tensor]
    ours: Callable[[nn.Module], torch.Tensor]


def randomised(model: nn.Module) -> nn.Module:
    """Every number away from its initial value: norms, running statistics and biases too."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.dim() > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        else:
            value.normal_(1 if name.endswith("weight") else 0, 0.3, generator=generator)
    return model.eval()


def numbers(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


IDS = torch.tensor([[5, 3, 8, 6, 4, 17, 11, 2, 7], [9, 17, 2, 7, 3, 5, 6, 8, 8]])
IMAGES, SQUARE = numbers(2, 2, 8, 12), numbers(2, 3, 12, 12)
LARGE, ODD = numbers(2, 2, 32, 40), numbers(2, 2, 30, 42)
ENCODER = dict(
    hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10, layer_norm_eps=0.1
)
EYE = dict(ENCODER, image_size=12, patch_size=4, hidden_act="relu")
OUR_EYE = ViTConfig(12, 4, 3, 12, 2, 3, 10, "relu", 0.1, patch_bias=False, norm_before_blocks=True)
READER = dict(ENCODER, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, hidden_act="gelu")
LLAMA = dict(vocab_size=18, hidden_size=12, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3,
             intermediate_size=10, rms_norm_eps=0.1,
             rope_parameters={"rope_theta": 30.0, "rope_type": "default"},
             bos_token_id=None, eos_token_id=None)  # fmt: skip
OUR_LLAMA = LlamaConfig(18, 12, 2, 6, 3, 10, 30.0, 0.1)
BERT = dict(ENCODER, vocab_size=18, max_position_embeddings=9, type_vocab_size=3, hidden_act="relu")
OUR_BERT = BertConfig(18, 12, 2, 3, 10, 9, 3, "relu", 0.1)
T5 = dict(vocab_size=18, d_model=12, num_layers=1, num_decoder_layers=2, num_heads=3, d_kv=2, d_ff=10,
          relative_attention_num_buckets=6, relative_attention_max_distance=5, layer_norm_epsilon=0.1,
          pad_token_id=1, decoder_start_token_id=1)  # fmt: skip
RESNET = dict(num_channels=2, embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2])
OPEN_CLIP = dict(
    embed_dim=7,
    vision_cfg=dict(layers=2, width=12, head_width=4, patch_size=4, image_size=12, mlp_ratio=2.0),
    text_cfg=dict(context_length=9, vocab_size=18, width=8, heads=2, layers=1, mlp_ratio=3.0),
)
SIGLIP = dict(quick_gelu=True, init_logit_bias=-3.0)


def library_clip(eos: int) -> transformers.CLIPModel:
    text = dict(READER, vocab_size=18, max_position_embeddings=9, eos_token_id=eos)
    return transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=EYE, projection_dim=7)
    )


def library_t5(**options) -> nn.Module:
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**T5, **options))
    if not options:
        return theirs
    theirs.lm_head.weight = nn.Parameter(theirs.lm_head.weight.clone())
    return theirs


def library_llava(**options) -> nn.Module:
    tied = options.get("tie_word_embeddings", False)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**EYE),
        text_config=transformers.LlamaConfig(**LLAMA, tie_word_embeddings=tied),
        image_token_index=4, image_seq_length=9, **options,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config)


def with_images(model: nn.Module) -> torch.Tensor:
    """A text that holds an image's nine places, and a second that does not."""
    ids = torch.tensor([[5, *[4] * 9, 8, 17], [9, 17, 2, 7, 3, 5, 6, 2, 11, 12, 5, 3]])
    image = SQUARE[:1]
    if isinstance(model, transformers.PreTrainedModel):
        return model(input_ids=ids, pixel_values=image).logits
    return model(ids, image)


def library_idefics() -> nn.Module:
    config = transformers.IdeficsConfig(
        vocab_size=18, hidden_size=12, intermediate_size=10, num_hidden_layers=2, num_attention_heads=3,
        cross_layer_interval=2, rms_norm_eps=0.1, tie_word_embeddings=False, use_resampler=True,
        rope_parameters={"rope_theta": 30.0, "rope_type": "default"},
        vision_config=dict(
            embed_dim=12, image_size=12, patch_size=4, intermediate_size=10, num_hidden_layers=2,
            num_attention_heads=3, hidden_act="relu", layer_norm_eps=0.1),
        perceiver_config=dict(
            resampler_n_latents=5, resampler_depth=3, resampler_n_heads=2, resampler_head_dim=8),
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.IdeficsForVisionText2Text(config)


def looking_back(model: nn.Module) -> torch.Tensor:
    """Two texts, the placeholder of an image third in each; what stands before it sees none."""
    ids = torch.tensor([[5, 3, 4, 6, 17, 11], [9, 17, 4, 7, 3, 5]])
    if not isinstance(model, transformers.PreTrainedModel):
        return model(ids, SQUARE)
    sees = (ids == 4).cumsum(dim=1)[..., None]
    return model(input_ids=ids, pixel_values=SQUARE[:, None], image_attention_mask=sees).logits


BLIP_TEXT = dict(vocab_size=18, hidden_size=12, encoder_hidden_size=12, intermediate_size=10,
                 num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=9, hidden_act="relu",
                 layer_norm_eps=0.1, bos_token_id=5, sep_token_id=8)  # fmt: skip
OUR_BLIP_TEXT = BertConfig(18, 12, 2, 3, 10, 9, 0, "relu", 0.1)
QFORMER = dict(vocab_size=18, hidden_size=12, intermediate_size=10, num_hidden_layers=3,
               num_attention_heads=2, max_position_embeddings=9, hidden_act="relu", layer_norm_eps=0.1,
               cross_attention_frequency=3)  # fmt: skip


def library_blip(kind: str) -> nn.Module:
    config = transformers.BlipConfig(text_config=BLIP_TEXT, vision_config=EYE, image_text_hidden_size=7)
    return getattr(transformers, kind)(config)


def library_blip2(kind: str, text: Any, image_token: int | None, **qformer: Any) -> nn.Module:
    config = transformers.Blip2Config(
        vision_config=EYE, qformer_config=QFORMER | qformer, num_query_tokens=3, text_config=text.to_dict(),
        image_text_hidden_size=7, tie_word_embeddings=False, image_token_index=image_token)  # fmt: skip
    return getattr(transformers, kind)(config)


BLIP_EYE = ViTConfig(12, 4, 3, 12, 2, 3, 10, "relu", 0.1)
OUR_QFORMER_TEXT = BertConfig(18, 12, 3, 2, 10, 9, 0, "relu", 0.1)
QUERIED = torch.tensor([[4, 4, 4, 8, 17, 11], [4, 4, 4, 7, 3, 5]])
SEGMENTS = IDS % 3
ANSWERS = IDS[:, :4].contiguous()
t5 = dict(theirs=lambda model: model(IDS, labels=ANSWERS).logits, ours=lambda model: model(IDS, ANSWERS))
logits = dict(theirs=lambda model: model(IDS).logits, ours=lambda model: model(IDS))
FAMILIES = {
    "vit": Family(
        lambda: transformers.ViTModel(
            transformers.ViTConfig(**EYE | dict(num_channels=2, image_size=(8, 12)))),
        vit.from_transformers, ViTConfig((8, 12), 4, 2, 12, 2, 3, 10, "relu", 0.1),
        lambda model: model(IMAGES).last_hidden_state, lambda model: model(IMAGES)),
    "timm": Family(
        lambda: timm.models.vision_transformer.VisionTransformer(
            img_size=(8, 12), patch_size=4, in_chans=2, embed_dim=12, depth=2, num_heads=3, mlp_ratio=1.5,
            num_classes=5, norm_layer=lambda width, **where: nn.LayerNorm(width, eps=0.1, **where)),
        vit.from_timm, ViTConfig((8, 12), 4, 2, 12, 2, 3, 18, "gelu", 0.1),
        lambda model: model.forward_features(IMAGES), lambda model: model(IMAGES)),
    "siglip 2": Family(
        lambda: transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(
            **ENCODER, num_channels=2, patch_size=4, num_patches=9, hidden_act="relu",
            vision_use_head=False)),
        siglip2.from_transformers, NativeViTConfig(12, 4, 2, 12, 2, 3, 10, "relu", 0.1),
        lambda model: model(**siglip2.naflex_inputs(IMAGES, 4)).last_hidden_state,
        lambda model: model(IMAGES)),
    "clip": Family(
        lambda: library_clip(eos=17), clip.from_transformers,
        CLIPConfig(OUR_EYE, TextConfig(18, 17, 9, 8, 1, 2, 10, "gelu", 0.1), 7),
        lambda model: model(input_ids=IDS, pixel_values=SQUARE).logits_per_image,
        lambda model: torch.exp(model.logit_scale) * model(SQUARE, IDS)[0] @ model(SQUARE, IDS)[1].T),
    "clip before 2023": Family(
        lambda: library_clip(eos=2), clip.from_transformers,
        CLIPConfig(OUR_EYE, TextConfig(18, 17, 9, 8, 1, 2, 10, "gelu", 0.1), 7),
        lambda model: model(input_ids=IDS, pixel_values=SQUARE).text_embeds,
        lambda model: model(SQUARE, IDS)[1]),
    "open_clip": Family(
        lambda: open_clip.CLIP(**OPEN_CLIP, **SIGLIP),
        lambda theirs: clip.from_open_clip(theirs.state_dict(), dict(OPEN_CLIP, **SIGLIP)),
        CLIPConfig(ViTConfig(12, 4, 3, 12, 2, 3, 24, "quick_gelu", 1e-5, False, True),
                   TextConfig(18, 17, 9, 8, 1, 2, 24, "quick_gelu", 1e-5), 7, bias=-3.0),
        lambda model: torch.cat(model(SQUARE, IDS)[:2]), lambda model: torch.cat(model(SQUARE, IDS)[:2])),
    "resnet": Family(
        lambda: transformers.ResNetModel(transformers.ResNetConfig(**RESNET, layer_type="bottleneck")),
        cnn.from_transformers, ResNetConfig((8, 12), (1, 2), 6, 7, 2, True),
        lambda model: model(LARGE).last_hidden_state, lambda model: model(LARGE)),
    "basic resnet": Family(
        lambda: transformers.ResNetModel(transformers.ResNetConfig(**RESNET, layer_type="basic")),
        cnn.from_transformers, ResNetConfig((8, 12), (1, 2), 6, 7, 2, False),
        lambda model: model(LARGE).last_hidden_state, lambda model: model(LARGE)),
    "efficientnet": Family(
        lambda: transformers.EfficientNetModel(transformers.EfficientNetConfig(
            num_channels=2, width_coefficient=0.25, depth_coefficient=1.2, kernel_sizes=[3, 5],
            in_channels=[32, 16], out_channels=[16, 24], strides=[1, 2], num_block_repeats=[1, 2],
            expand_ratios=[1, 6], hidden_dim=320, squeeze_expansion_ratio=0.5, drop_connect_rate=0.3,
            depthwise_padding=[1], batch_norm_eps=0.1,
            batch_norm_momentum=0.2)),
        cnn.from_transformers,
        EfficientNetConfig((StageConfig(1, 3, 1, 8, 2), StageConfig(6, 5, 2, 8, 3)), 8, 320, 2, 0.5, 0.3,
                           (1,), 0.1, 0.2),
        lambda model: model(ODD).last_hidden_state, lambda model: model(ODD)),
    "llama": Family(
        lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)), language.from_transformers,
        OUR_LLAMA, **logits),
    "tied llama": Family(
        lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True)),
        language.from_transformers, LlamaConfig(18, 12, 2, 6, 3, 10, 30.0, 0.1, tied=True), **logits),
    "gpt2": Family(
        lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=18, n_embd=12, n_layer=2, n_head=3, n_inner=10, n_positions=9,
            layer_norm_epsilon=0.1)),
        language.from_transformers, GPTConfig(18, 12, 2, 3, 10, 9, 0.1), **logits),
    "bert": Family(
        lambda: transformers.BertModel(transformers.BertConfig(**BERT)), language.from_transformers, OUR_BERT,
        lambda model: model(IDS, token_type_ids=SEGMENTS).pooler_output,
        lambda model: model.pooled(model(IDS, SEGMENTS))),
    "masked bert": Family(
        lambda: transformers.BertForMaskedLM(transformers.BertConfig(**BERT)), language.from_transformers,
        OUR_BERT,
        lambda model: model(IDS, token_type_ids=SEGMENTS).logits, lambda model: model(IDS, SEGMENTS)),
    "t5": Family(
        library_t5, language.from_transformers,
        T5Config(18, 12, 1, 2, 3, 2, 10, False, 6, 5, 0.1, True, 1), **t5),
    "gated t5": Family(
        lambda: library_t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        language.from_transformers,
        T5Config(18, 12, 1, 2, 3, 2, 10, True, 6, 5, 0.1, False, 1), **t5),
    "llava": Family(
        lambda: library_llava(vision_feature_layer=-1), llava.from_transformers,
        LlavaConfig(OUR_EYE, OUR_LLAMA, 4, -1), with_images, with_images),
    "tied llava": Family(
        lambda: library_llava(vision_feature_layer=-3, tie_word_embeddings=True), llava.from_transformers,
        LlavaConfig(OUR_EYE, LlamaConfig(18, 12, 2, 6, 3, 10, 30.0, 0.1, tied=True), 4, -3), with_images,
        with_images),
    "idefics": Family(
        library_idefics, lambda theirs: flamingo.from_transformers(theirs, image_token=4),
        FlamingoConfig(OUR_EYE, LlamaConfig(18, 12, 2, 3, 3, 10, 30.0, 0.1), 4, 5, 3, 2, 8, every=2),
        looking_back, looking_back),
    "blip, retrieval": Family(
        lambda: library_blip("BlipForImageTextRetrieval"), blip.from_transformers,
        BlipConfig(BLIP_EYE, OUR_BLIP_TEXT, 5, 8, 7, tied=False, writes=False),
        lambda model: model(IDS, SQUARE).itm_score,
        lambda model: model.match_scores(model.image_features(SQUARE), IDS)),
    "blip, captions": Family(
        lambda: library_blip("BlipForConditionalGeneration"), blip.from_transformers,
        BlipConfig(BLIP_EYE, OUR_BLIP_TEXT, 5, 8, 7, tied=False, reads=False, matches=False),
        lambda model: model(SQUARE, IDS).logits,
        lambda model: model.write_scores(model.image_features(SQUARE), IDS)),
    "blip-2": Family(
        lambda: library_blip2("Blip2ForConditionalGeneration", transformers.LlamaConfig(**LLAMA), 4),
        blip2.from_transformers,
        Blip2Config(BLIP_EYE, QFormerConfig(OUR_QFORMER_TEXT, 12, 3, 3, reads=False), OUR_LLAMA, 4),
        lambda model: model(pixel_values=SQUARE, input_ids=QUERIED).logits,
        lambda model: model(QUERIED, SQUARE)),
}  # fmt: skip
