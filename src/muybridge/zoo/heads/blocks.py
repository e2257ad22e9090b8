"""Attention among vectors: the blocks that the attentive probe and the transformer are made of."""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.heads.base import check_count


def check_heads(heads: int, width: int) -> None:
    """Raises UserError for a number of attention heads that does not divide the width of the vectors."""
    check_count("heads", heads)
    if width % heads:
        fits = max(number for number in range(1, heads + 1) if width % number == 0)
        raise UserError(
            f"model.options.heads: {heads} heads do not divide vectors of {width} numbers. Give {fits}, or another "
            "number that does"
        )


def attend(
    q_BLD: torch.Tensor, k_BTD: torch.Tensor, v_BTD: torch.Tensor, heads: int, present_BT: torch.Tensor | None
) -> torch.Tensor:
    """Attention of several heads (Vaswani et al. 2017) to the steps that are there, without projections."""
    q_BHLE, k_BHTE, v_BHTE = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q_BLD, k_BTD, v_BTD))
    mask_B11T = None if present_BT is None else present_BT[:, None, None]
    return F.scaled_dot_product_attention(q_BHLE, k_BHTE, v_BHTE, mask_B11T).transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Two linear layers with a GELU between them, `ratio` times as wide inside."""

    def __init__(self, width: int, *, ratio: int = 4) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Vectors to vectors, each by itself."""
        return self.fc2(F.gelu(self.fc1(x_BTD)))


class SelfAttention(nn.Module):
    """Attention of all vectors to each other, with biases and an output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Vectors to vectors."""
        q_BTD, k_BTD, v_BTD = self.qkv(x_BTD).chunk(3, dim=2)
        return self.proj(attend(q_BTD, k_BTD, v_BTD, self.heads, present_BT))


class SelfAttentionBlock(nn.Module):
    """Self-attention and an MLP, each after a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), MLP(width)

    def forward(self, x_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Vectors to vectors."""
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD), present_BT)
        return x_BTD + self.mlp(self.norm2(x_BTD))


class CrossAttention(nn.Module):
    """Attention of queries to vectors, with biases and without an output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)

    def forward(self, query_BLD: torch.Tensor, x_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Sums of the vectors, (B,L,D), as each query weighs them."""
        k_BTD, v_BTD = self.kv(x_BTD).chunk(2, dim=2)
        return attend(self.q(query_BLD), k_BTD, v_BTD, self.heads, present_BT)


class CrossAttentionBlock(nn.Module):
    """Cross-attention to normed vectors and an MLP, each beside a shortcut of the queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.xattn = nn.LayerNorm(width), CrossAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), MLP(width)

    def forward(self, query_BLD: torch.Tensor, x_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Queries (B,L,D) to queries."""
        query_BLD = query_BLD + self.xattn(query_BLD, self.norm1(x_BTD), present_BT)
        return query_BLD + self.mlp(self.norm2(query_BLD))


def draw_linear(module: nn.Module) -> None:
    """Draw fresh weights for the linear layers inside, truncated normal of 0.02, with biases of zero."""
    for each in module.modules():
        if isinstance(each, nn.Linear):
            nn.init.trunc_normal_(each.weight, std=0.02)
            nn.init.zeros_(each.bias)
