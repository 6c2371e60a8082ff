"""siglip_loss equals the loss of transformers' SiglipModel on that model's own features: value and
gradients."""

import torch
import transformers
from torch import nn

from vlmcourse.models.clip import normalise, siglip_loss


def library() -> transformers.SiglipModel:
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
    vision, text = (
        dict(image_size=16, patch_size=8, **sizes),
        dict(vocab_size=50, max_position_embeddings=7, **sizes),
    )
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        norm = parameter.dim() == 1 and name.endswith("weight")
        nn.init.normal_(parameter, 1.0 if norm else 0.0, 0.3 if parameter.dim() == 1 else 0.15)
    nn.init.constant_(model.logit_scale, 1.7)
    nn.init.constant_(model.logit_bias, -4.0)
    return model.eval()


def test_loss_and_gradients_equal_transformers():
    model = library()
    torch.manual_seed(2)
    images, ids = torch.randn(5, 3, 16, 16), torch.randint(50, (5, 7))
    his = model(input_ids=ids, pixel_values=images, return_loss=True)
    features = [model.get_image_features(images), model.get_text_features(ids)]
    image, text = (normalise(feature.pooler_output) for feature in features)
    assert (image - his.image_embeds).abs().max() < 1e-6
    scale, bias = model.logit_scale.exp().squeeze(), model.logit_bias.squeeze()
    mine = siglip_loss(image, text, scale, bias)
    assert abs(mine - his.loss) < 1e-5 * his.loss
    gradients = (torch.autograd.grad(loss, list(model.parameters())) for loss in (mine, his.loss))
    for one, other in zip(*gradients, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())
