"""Muon for the weight matrices and AdamW for embedding and norms, in one small optimiser.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum
by the nearest semi-orthogonal matrix, found with five Newton-Schulz steps. Matrices of one shape go
through these steps as one batch.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

__all__ = ["MuonAdamW"]

NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class MuonAdamW:
    """One optimiser of a network's matrices (Muon) and its other weights (AdamW).

    Parameters
    ----------
    network: the parameters named `*proj.weight` are Muon's, all others AdamW's.
    muon_rate, adam_rate: learning rates at schedule factor 1.
    weight_decay: decoupled, of the matrices only.
    """

    def __init__(
        self,
        network: nn.Module,
        muon_rate: float,
        adam_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ):
        self.muon_rate, self.weight_decay, self.momentum = muon_rate, weight_decay, momentum
        groups: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        others = []
        for name, weight in network.named_parameters():
            if name.endswith("proj.weight"):
                groups[weight.shape].append(weight)
            else:
                others.append(weight)
        self.groups = list(groups.values())
        self.momenta = [torch.zeros(len(g), *g[0].shape) for g in self.groups]
        self.adam_rate = adam_rate
        self.adam = torch.optim.AdamW(others, adam_rate, betas, weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Apply the gradients at `factor` times the learning rates, and clear them."""
        for weights, momentum in zip(self.groups, self.momenta, strict=True):
            gradient = torch.stack([w.grad for w in weights if w.grad is not None])
            momentum.lerp_(gradient, 1 - self.momentum)
            update = _orthogonal(gradient.lerp(momentum, self.momentum))  # Nesterov
            rows, columns = weights[0].shape
            rate = self.muon_rate * factor * max(1.0, rows / columns) ** 0.5
            for weight, direction in zip(weights, update, strict=True):
                weight.mul_(1 - self.muon_rate * factor * self.weight_decay)
                weight.sub_(direction, alpha=rate)
                weight.grad = None
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        return {"momenta": self.momenta, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.momenta = state["momenta"]
        self.adam.load_state_dict(state["adam"])


def _orthogonal(x: Tensor) -> Tensor:  # (matrices, rows, columns)
    """Bring every matrix's singular values near 1."""
    a, b, c = NEWTON_SCHULZ
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
