"""Recurrent heads: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014) over the vectors.

Donahue et al. 2015 put an LSTM over an image network and take the loss of every step (LRCN).
"""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from muybridge.errors import UserError
from muybridge.zoo import memory
from muybridge.zoo.heads.base import Head, check_count, order, taken, without_absent

MOST_LAYERS = 5


class Recurrent(Head):
    """A recurrent network over the steps that are there. Its subclasses name the kind of its cells."""

    cells: type[nn.LSTM] | type[nn.GRU]
    every_step = True

    def __init__(
        self,
        num_inputs: int,
        *,
        num_layers: int = 1,
        width: int = 256,
        bidirectional: bool = False,
        batch_norm: bool = False,
        rnn_dropout: float = 0.0,
        hidden: int = 0,
        truncate: int = 0,
        late: float = 0.0,
        last: bool = False,
    ) -> None:
        """Build it. Every argument but `num_inputs` is an option.

        `width`: units of a layer and direction. `batch_norm`: norm the vectors that enter, over the steps that are there.
        `rnn_dropout`: between layers. `hidden`: units of a linear layer with a sigmoid on each step, before the
        classifier; 0: none. `truncate`: steps that gradients go back through at most, as the state is detached after
        every `truncate`-th; 0: through all. `late`: step t of n counts as ((t+1)/n)^late in loss and answer; 0: all alike.
        `last`: the last step alone counts. Raises UserError.
        """
        check_count("num_layers", num_layers, most=MOST_LAYERS)
        check_count("width", width)
        check_count("hidden", hidden, least=0)
        check_count("truncate", truncate, least=0)
        if not 0 <= rnn_dropout < 1:
            raise UserError(
                f"model.options.rnn_dropout: it is {rnn_dropout}, not a share of units. Give 0 or more, below 1"
            )
        if rnn_dropout and num_layers == 1:
            raise UserError(
                "model.options.rnn_dropout: it lies between layers, but there is one. Set num_layers=2 or more, or 0 here"
            )
        if truncate and bidirectional:
            raise UserError(
                "model.options.truncate: a state that runs backwards cannot be cut from what follows. Set "
                "bidirectional=false, or 0 here"
            )
        if not 0 <= late < float("inf"):
            raise UserError(f"model.options.late: it is {late}, not an exponent. Give 0 or more, or set last=true")
        if late and last:
            raise UserError("model.options.late: with last=true one step alone counts. Leave one of the two out")
        super().__init__(num_inputs, hidden or width * (1 + bidirectional))
        self.looks_back = not bidirectional
        self.truncate, self.late, self.last = truncate, float(late), last
        self.norm = nn.BatchNorm1d(num_inputs) if batch_norm else None
        self.rnn = self.cells(
            num_inputs, width, num_layers, batch_first=True, dropout=rnn_dropout, bidirectional=bidirectional
        )
        self.hidden = nn.Sequential(nn.Linear(width * (1 + bidirectional), hidden), nn.Sigmoid()) if hidden else None

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to the features of every step, and its weight; both are 0 where a step is not there."""
        f_BTD = without_absent(f_BTD, present_BT)
        if self.norm is not None:
            f_BTD = _normed(self.norm, f_BTD, present_BT)
        if present_BT is None:
            g_BTE = self._outputs(f_BTD, None)
        else:  # the state passes over steps that are not there
            order_BT = order(present_BT)
            g_BTE = taken(self._outputs(taken(f_BTD, order_BT), present_BT.sum(1)), order_BT.argsort(1))
        if self.hidden is not None:
            g_BTE = self.hidden(g_BTE)
        return without_absent(g_BTE, present_BT), self.weights(f_BTD, present_BT)

    def weights(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Weights of the steps in the answer, (B,T); rows sum to 1."""
        exact = torch.promote_types(f_BTD.dtype, torch.float32)
        there_BT = torch.ones_like(f_BTD[..., 0], dtype=torch.bool) if present_BT is None else present_BT
        rank_BT = there_BT.cumsum(1).to(exact)  # t + 1 (sums of integers: on CUDA those of floats are not repeatable)
        rank_BT = rank_BT / rank_BT[:, -1:]
        if self.last:
            return ((rank_BT == 1) & there_BT).to(exact)
        weights_BT = rank_BT**self.late * there_BT
        return weights_BT / weights_BT.sum(1, keepdim=True)

    def _outputs(self, f_BTD: torch.Tensor, length_B: torch.Tensor | None) -> torch.Tensor:
        """Outputs of all steps, of which the first `length_B` of each video are there; None: all."""
        if length_B is not None and self.rnn.bidirectional:
            packed = pack_padded_sequence(f_BTD, length_B.cpu(), batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=f_BTD.shape[1])[0]
        state = self._state_before(f_BTD.shape[0])
        if not self.truncate or not torch.is_grad_enabled():
            out_BTE, state = self.rnn(f_BTD, state)
            memory.keep(self.rnn, torch.stack(state) if isinstance(state, tuple) else state)
            return out_BTE
        outputs: list[torch.Tensor] = []
        for part_BLD in f_BTD.split(self.truncate, dim=1):
            out_BLE, state = self.rnn(part_BLD, state)
            outputs.append(out_BLE)
            state = tuple(each.detach() for each in state) if isinstance(state, tuple) else state.detach()
        return torch.cat(outputs, dim=1)

    def _state_before(self, clips: int) -> Any:
        """State of the cells in a stream; None: zeros."""
        layers, is_lstm = (self.rnn.num_layers, clips, self.rnn.hidden_size), isinstance(self.rnn, nn.LSTM)
        state = None if self.rnn.bidirectional else memory.kept(self.rnn, *((2,) if is_lstm else ()), *layers)
        return tuple(state) if is_lstm and state is not None else state


class LSTM(Recurrent):
    """An LSTM over the vectors."""

    cells = nn.LSTM


class GRU(Recurrent):
    """A GRU over the vectors."""

    cells = nn.GRU


def _normed(norm: nn.BatchNorm1d, f_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
    """Vectors after a batch norm over the steps that are there."""
    if present_BT is None:
        return norm(f_BTD.flatten(0, 1)).unflatten(0, f_BTD.shape[:2])
    f_ND = norm(f_BTD[present_BT])
    return f_ND.new_zeros(f_BTD.shape).masked_scatter(present_BT[..., None], f_ND)
