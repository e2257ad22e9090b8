"""A transformer encoder over the vectors (Vaswani et al. 2017, with norms first)."""

import math

import torch
from torch import nn

from muybridge.zoo.heads.base import Head, check_count, front, mean_of_present, whole
from muybridge.zoo.heads.blocks import SelfAttentionBlock, check_heads, draw_linear


class Transformer(Head):
    """A linear layer to `width`, sine and cosine positions, blocks of self-attention, a norm, the mean over time."""

    def __init__(self, num_inputs: int, *, num_layers: int = 2, heads: int = 4, width: int = 256) -> None:
        """`num_layers`: blocks. `heads`: of the attention. `width`: of the vectors inside. Raises UserError."""
        check_count("num_layers", num_layers)
        check_count("width", width)
        check_heads(heads, width)
        super().__init__(num_inputs, width)
        self.embed = nn.Linear(num_inputs, width)
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        draw_linear(self.blocks)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        f_BTD, present_BT = front(f_BTD, present_BT)
        x_BTD = self.embed(f_BTD)
        x_BTD = x_BTD + positions(x_BTD.shape[1], x_BTD.shape[2], like=x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD, present_BT)
        return whole(mean_of_present(self.norm(x_BTD), present_BT))


def positions(steps: int, width: int, *, like: torch.Tensor) -> torch.Tensor:
    """Sines and cosines (T,D) of the step, their wavelengths from 2π to 10,000 · 2π (Vaswani et al. 2017, section 3.5)."""
    step_T1 = torch.arange(steps, device=like.device, dtype=torch.float32)[:, None]
    pair_P = torch.arange((width + 1) // 2, device=like.device, dtype=torch.float32)
    angle_TP = step_T1 * torch.exp(-2 * pair_P / width * math.log(10_000))
    return torch.stack([angle_TP.sin(), angle_TP.cos()], dim=2).flatten(1)[:, :width].to(like.dtype)
