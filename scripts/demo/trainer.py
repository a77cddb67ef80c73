"""The training loop of the demo model: schedule, evaluation, progress, checkpoints."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.demo.batches import HeldOut, TrainingBatches
from scripts.demo.network import Llama
from scripts.demo.optimiser import MuonAdamW

__all__ = ["HeldOutLoss", "Trainer", "TrainingPlan", "schedule_factor"]

EVALUATION_ROWS = 16


@dataclass(frozen=True)
class TrainingPlan:
    """What a run does. It ends after `steps`, or after `minutes` if `steps` is None."""

    steps: int | None
    minutes: float | None
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    weight_decay: float = 0.05
    warmup_steps: int = 100
    decay_share: float = 0.5
    bfloat16: bool = True
    compile: bool = True


@dataclass(frozen=True)
class HeldOutLoss:
    """Loss on held-out text, in nats a token and bits a byte."""

    nats_per_token: float
    bits_per_byte: float


def schedule_factor(progress: float, step: int, plan: TrainingPlan) -> float:
    """Learning rate factor: linear warm-up, constant, linear decay to zero over the last share."""
    warmup = min(1.0, (step + 1) / max(plan.warmup_steps, 1))
    return warmup * min(1.0, max(0.0, 1.0 - progress) / plan.decay_share)


class Trainer:
    """Trains a network on batches; `run` may be called in pieces and resumed from a checkpoint."""

    def __init__(
        self, network: Llama, batches: TrainingBatches, held_out: HeldOut, plan: TrainingPlan
    ):
        self.network, self.batches, self.held_out, self.plan = network, batches, held_out, plan
        self.optimiser = MuonAdamW(network, plan.muon_rate, plan.adam_rate, plan.weight_decay)
        self.step = 0
        self.seconds = 0.0
        self._loss = torch.compile(self._batch_loss) if plan.compile else self._batch_loss

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.plan.steps is not None:
            return min(1.0, self.step / self.plan.steps)
        return min(1.0, self.seconds / (60.0 * (self.plan.minutes or 0.0)))

    def run(self, seconds: float) -> float:
        """Train until the plan is done or `seconds` have gone; return the mean training loss."""
        losses = []
        start, before = time.perf_counter(), self.seconds
        while self.progress < 1.0 and self.seconds - before < seconds:
            rows = torch.from_numpy(self.batches.batch(self.step))
            loss = self._loss(rows)
            loss.backward()
            self.optimiser.step(schedule_factor(self.progress, self.step, self.plan))
            losses.append(loss.detach())
            self.step += 1
            self.seconds = before + time.perf_counter() - start
        return float(torch.stack(losses).mean()) if losses else math.nan

    @torch.no_grad()
    def evaluate(self, limit_rows: int | None = None) -> HeldOutLoss:
        """Held-out loss in float32; `limit_rows` takes an even spread of the windows."""
        rows = self.held_out.rows
        if limit_rows is not None and limit_rows < len(rows):
            rows = rows[np.linspace(0, len(rows) - 1, limit_rows).astype(int)]
        nats = 0.0
        for first in range(0, len(rows), EVALUATION_ROWS):
            tokens = torch.from_numpy(rows[first : first + EVALUATION_ROWS])
            nats += float(_loss_sum(self.network(tokens[:, :-1]), tokens))
        count = rows.shape[0] * (rows.shape[1] - 1)
        return HeldOutLoss(nats / count, nats / math.log(2) / self.held_out.target_bytes(rows))

    def save(self, path: Path) -> None:
        """Write a checkpoint, replacing the old one whole."""
        partial = path.with_suffix(".partial")
        state = {
            "run": self._run_identity(),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint written by `save`; ValueError if it is another run's."""
        state = torch.load(path, weights_only=True)
        if state.get("run") != self._run_identity():
            raise ValueError("it belongs to a run with other options")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _run_identity(self) -> dict:
        return {"plan": asdict(self.plan), "batches": self.batches.identity}

    def _batch_loss(self, rows: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.bfloat16):
            logits = self.network(rows[:, :-1])
        return _loss_sum(logits.float(), rows) / rows[:, 1:].numel()


def _loss_sum(logits: Tensor, rows: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
