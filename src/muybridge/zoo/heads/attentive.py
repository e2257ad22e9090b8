"""V-JEPA's attentive probe (Bardes et al. 2024, section 4; Assran et al. 2025, V-JEPA 2)."""

import torch
from torch import nn

from muybridge.zoo.heads.base import Head, check_count, whole, without_absent
from muybridge.zoo.heads.blocks import CrossAttentionBlock, SelfAttentionBlock, check_heads, draw_linear


class AttentivePool(Head):
    """One learned query attends to all vectors, which are the tokens of all clips of a video.

    Before it, `depth` - 1 blocks of self-attention among the vectors. V-JEPA has depth 1, V-JEPA 2 depth 4. The initial
    weights are those of the authors' code, as is the cross-attention without an output projection.
    """

    query: nn.Parameter

    def __init__(self, num_inputs: int, *, depth: int = 1, heads: int = 16) -> None:
        """`depth`: blocks, the last with the query. `heads`: of the attention. Raises UserError."""
        check_count("depth", depth)
        check_heads(heads, num_inputs)
        super().__init__(num_inputs, num_inputs)
        blocks = [SelfAttentionBlock(num_inputs, heads) for _ in range(depth - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.query = nn.Parameter(torch.empty(1, 1, num_inputs))
        self.cross = CrossAttentionBlock(num_inputs, heads)
        nn.init.trunc_normal_(self.query, std=0.02)
        draw_linear(self)
        with torch.no_grad():  # what is added to a shortcut is smaller, the deeper it lies
            for number, block in enumerate(blocks, start=1):
                block.attn.proj.weight.div_((2 * number) ** 0.5)
                block.mlp.fc2.weight.div_((2 * number) ** 0.5)
            self.cross.mlp.fc2.weight.div_((2 * depth) ** 0.5)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        x_BTD = without_absent(f_BTD, present_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, present_BT)
        return whole(self.cross(self.query.repeat(x_BTD.shape[0], 1, 1), x_BTD, present_BT)[:, 0])
