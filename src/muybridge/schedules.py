"""The learning rate over a training."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """`end`, `warmup` and `milestones` are in one unit: steps, or seconds."""

    kind: Literal["cosine", "steps", "constant"]
    peak: float
    end: float
    warmup: float = 0.0
    warmup_lr: float = 0.0
    """Where the linear warm-up starts."""
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    """What the rate is multiplied with at each milestone."""

    def lr(self, now: float) -> float:
        """The rate of the step that starts at `now`."""
        if now < self.warmup:
            return self.warmup_lr + (self.peak - self.warmup_lr) * now / self.warmup
        if self.kind == "constant":
            return self.peak
        if self.kind == "steps":
            return self.peak * self.factor ** sum(now >= milestone for milestone in self.milestones)
        done = min(1.0, (now - self.warmup) / (self.end - self.warmup)) if now < self.end else 1.0
        return self.peak * 0.5 * (1 + math.cos(math.pi * done))
