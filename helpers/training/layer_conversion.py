"""Conversion of torchvision's networks to layers whose gradients can be bounded for each patient.

In: a network of torchvision. Out: the same network, its weights carried over. Layers that have no
conversion stay as they are, and `privacy.model_validation` refuses them by name.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import convnext, densenet, resnet, vision_transformer
from torchvision.ops import StochasticDepth

from helpers.privacy import transformer_gradients as layers


def convert(module: nn.Module) -> nn.Module:
    """Return a network, changed in place, whose gradients can be bounded for each patient.

    - BatchNorm, which mixes the patients of a batch, becomes GroupNorm of 32 groups at most; its
      weight and bias are carried over, its running statistics are not.
    - Nothing is changed in place: activations are not, and blocks that add in place add anew.
    - Dropout and stochastic depth have rate 0: the noise of DP-SGD regularises already, and one
      patient's gradient must not depend on what is drawn beside it.
    - Attention has a layer each for queries, keys and values.
    - A parameter beside layers becomes a layer of its own: `layer_scale` is `layer_scale.weight`.

    But for BatchNorm it computes what the network computed in evaluation.
    """
    for name, child in module.named_children():
        setattr(module, name, convert(child))
    if isinstance(module, nn.BatchNorm2d):
        return _group_norm(module)
    if isinstance(module, (nn.Dropout, StochasticDepth)):
        return nn.Identity()
    if isinstance(module, nn.MultiheadAttention) and _is_plain(module):
        return Attention(module)
    if hasattr(module, "inplace"):
        module.inplace = False
    if isinstance(module, convnext.CNBlock):  # which permutes by itself
        module.block[1] = module.block[6] = nn.Identity()
    module.__class__ = _CONVERTED.get(type(module), type(module))
    for name, kind in _OF_ONE_PARAMETER.items():
        if name in module._parameters:
            value = module._parameters.pop(name)
            setattr(module, name, kind(value))
    return module


def _group_norm(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    """Return GroupNorm with the weight and bias of a BatchNorm, in as many groups as opacus'
    `ModuleValidator.fix` has.
    """
    converted = nn.GroupNorm(math.gcd(32, norm.num_features), norm.num_features, eps=norm.eps)
    if norm.affine:
        converted.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    return converted


class Attention(nn.Module):
    """Multi-head self-attention; computes what torch's `nn.MultiheadAttention` computes.

    Attributes:
        query, key, value, out: Linear layers.
    """

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, width = packed.num_heads, packed.embed_dim
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.load_state_dict(unpacked(packed.state_dict()))

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: object
    ) -> tuple[torch.Tensor, None]:
        """Map (batch, places, width) tokens to the same shape, as torch does without weights."""
        heads = (
            layer(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, query), (self.key, key), (self.value, value))
        )
        attended = functional.scaled_dot_product_attention(*heads)
        return self.out(attended.transpose(1, 2).flatten(2)), None


def unpacked(weights: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the weights of `nn.MultiheadAttention` under the names of `Attention`.

    Args:
        weights: by name.
        prefix: of the names.
    """
    split = {f"out.{part}": weights[f"{prefix}out_proj.{part}"] for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        of_three = weights[f"{prefix}in_proj_{part}"].chunk(3)
        split |= {f"{name}.{part}": of_one for name, of_one in zip(_PACKED, of_three)}
    return {prefix + name: value for name, value in split.items()}


_PACKED = ("query", "key", "value")


def _is_plain(attention: nn.MultiheadAttention) -> bool:
    """Return whether `Attention` computes what torch's does."""
    return (
        attention.batch_first
        and attention._qkv_same_embed_dim
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )


# ---- torchvision's blocks, without a change in place and with layers for their parameters


class _BasicBlock(resnet.BasicBlock):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        changed = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        return self.relu(changed + (self.downsample or nn.Identity())(features))


class _Bottleneck(resnet.Bottleneck):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        changed = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features))))))
        changed = self.bn3(self.conv3(changed))
        return self.relu(changed + (self.downsample or nn.Identity())(features))


class _DenseNet(densenet.DenseNet):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(functional.relu(self.features(images)).mean((2, 3)))


class _CNBlock(convnext.CNBlock):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        conv, _, norm, widen, activation, narrow, _ = self.block
        changed = norm(conv(features).movedim(1, -1))
        changed = narrow(activation(widen(changed))).movedim(-1, 1)
        return features + self.layer_scale(changed)


class _Encoder(vision_transformer.Encoder):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.ln(self.layers(self.pos_embedding(tokens)))


class _VisionTransformer(vision_transformer.VisionTransformer):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.class_token(self._process_input(images))
        return self.heads(self.encoder(tokens)[:, 0])


_CONVERTED = {
    resnet.BasicBlock: _BasicBlock,
    resnet.Bottleneck: _Bottleneck,
    densenet.DenseNet: _DenseNet,
    convnext.CNBlock: _CNBlock,
    convnext.LayerNorm2d: layers.ChannelNorm,
    vision_transformer.Encoder: _Encoder,
    vision_transformer.VisionTransformer: _VisionTransformer,
}
_OF_ONE_PARAMETER = {
    "layer_scale": layers.LayerScale,
    "pos_embedding": layers.PositionEmbedding,
    "class_token": layers.ClassToken,
}
