"""What a run will do on this machine: device, precision, workers, and the number of steps that fits its minutes.

The plan is made before the first step and stored with the checkpoints. Where the number of steps is given, a resumed
run ends with the same bits as an uninterrupted one; where minutes are, it is corrected as the run goes on, since a
shared machine is never as fast in the eighth minute as a few seconds of calibration promised.
"""

from __future__ import annotations

import bisect
import json
import logging
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import psutil
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.model import GPT, compiled_features
from tinylm.train.config import TrainConfig
from tinylm.train.fused import applies as fused_applies
from tinylm.train.fused import fused_features
from tinylm.train.loss import next_token_loss
from tinylm.train.optim import Optimizers
from tinylm.train.schedule import Schedule
from tinylm.train.workers import GradientWorkers, LossFunction

__all__ = ["Plan", "flops_per_token", "loss_function", "machine_speed", "make_plan", "measure_speed", "settle"]

_log = logging.getLogger(__name__)
_WARMUP_STEPS, _TIMED_STEPS, _TIMED_S = 2, 12, 3.0
_SETTLE_SHARE = 0.1  # of the steps, between corrections of their number
_MAX_STEPS = 1 << 40
_COMPILE_MIN_S = 900.0  # compiling takes 30 s on two cores the first time, 4 s later, and gains 5-15 % (2026-11)


@dataclass(frozen=True)
class Plan:
    """The choices of one run; plain values, stored as JSON."""

    schedule: Schedule
    device: str
    bf16: bool
    compiled: bool
    fused: bool  # layers through `tinylm.train.fused`
    workers: int  # threads with an equal share of the rows each (CPU); 1 on a GPU
    threads: int  # arithmetic threads inside each worker
    processes: int  # torchrun's world size
    matmul_flops: float  # measured speed of a large matrix product of all workers, per second
    reasons: list[str] = field(default_factory=list)
    timed_s: dict[int, float] = field(default_factory=dict)  # row length → calibrated seconds of a step
    compile_s: float = 0.0  # of the run's minutes, spent before the first step
    settled_step: int = 0  # where `schedule` was last corrected, and the seconds of training until then
    settled_s: float = 0.0
    settle_step: int = 0  # where it is corrected next; 0: no more

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.schedule.steps

    def to_json(self) -> dict[str, Any]:
        """Return the plan as values that JSON gives back unchanged."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """Return the plan that `to_json` made `values` of."""
        timed_s = {int(length): seconds for length, seconds in values["timed_s"].items()}
        return cls(**values | {"schedule": Schedule.from_json(values["schedule"]), "timed_s": timed_s})


def make_plan(config: TrainConfig, shape: ModelConfig, processes: int) -> Plan:
    """Return the plan for `shape` on this machine, timing a few steps unless `config.steps` fixes them.

    Raises: ConfigError if the asked device is absent or the rows cannot be shared out.
    """
    device = _device(config)
    bf16 = _wants_bf16(config, device)
    budget_s = config.minutes * 60
    cores = _cores(config)
    workers = 1 if device == "cuda" else _workers(config, cores, processes)
    threads = max(1, cores // workers)
    # The kernels have one thread a worker; with more, PyTorch's own are faster.
    fused = device == "cpu" and not bf16 and threads == 1 and config.compile != "on" and fused_applies(shape)
    repays = config.compile == "auto" and not fused and _repays_compiling(device, budget_s)
    compiled = config.compile == "on" or repays
    reasons = [
        f"device {device}, {'bf16' if bf16 else 'f32'}: "
        + ("the chip multiplies bf16 natively" if bf16 else "no native bf16 on this chip, emulation would be slower"),
        f"{workers} workers x {threads} threads for {cores} physical cores",
        f"layers {'compiled' if compiled else 'fused' if fused else 'plain'} for a run of {config.minutes:g} minutes",
    ]
    torch.set_num_threads(threads)
    speed = measure_speed(device, bf16, cores)
    given = Schedule.of(max(1, config.steps), config)
    plan = Plan(given, device, bf16, compiled, fused, workers, threads, processes, speed, reasons)
    if config.steps:
        return _because(plan, f"{config.steps} steps as asked")
    started_s = time.perf_counter()
    plan = replace(plan, timed_s=_calibrate(config, shape, plan))
    if compiled:  # a run's minutes pay for it
        plan = replace(plan, compile_s=min(time.perf_counter() - started_s, budget_s / 2))
        budget_s -= plan.compile_s
        reasons.append(f"compiled and calibrated in {plan.compile_s:.0f} s of the {config.minutes:g} minutes")
    steps = _steps_within(budget_s, lambda steps: Schedule.of(steps, config).cost(0, steps, plan.timed_s), at_least=20)
    for reason in reasons:
        _log.info("plan: %s", reason)
    plan = replace(plan, schedule=Schedule.of(steps, config), settle_step=max(1, round(steps * _SETTLE_SHARE)))
    return _because(plan, f"{steps} steps: {budget_s:.0f} s at {budget_s / steps * 1000:.0f} ms calibrated per step")


def settle(plan: Plan, config: TrainConfig, step: int, elapsed_s: float) -> Plan:
    """Return the plan with the steps corrected by the pace since the last correction.

    Args: elapsed_s: seconds of training up to `step`.
    """
    spent_s, left_s = elapsed_s - plan.settled_s, config.minutes * 60 - plan.compile_s - elapsed_s
    pace = spent_s / plan.schedule.cost(plan.settled_step, step, plan.timed_s)

    def seconds_left(steps: int) -> float:
        return pace * plan.schedule.replanned(steps, step, config).cost(step, steps, plan.timed_s)

    ending = min(20, max(1, step // 10))  # a run that is late still lets its rate fall, in a time that it can spare
    steps = _steps_within(left_s, seconds_left, at_least=step + ending)
    following = step + max(1, round(steps * _SETTLE_SHARE))
    plan = replace(
        plan,
        schedule=plan.schedule.replanned(steps, step, config),
        settled_step=step,
        settled_s=elapsed_s,
        settle_step=following if following < steps else 0,
    )
    return _because(plan, f"{steps} steps at step {step}: the last took {pace:.2f} times as long as calibrated")


def _steps_within(budget_s: float, seconds: Callable[[int], float], at_least: int) -> int:
    """Return the largest number of steps whose `seconds`, which grow with it, fit the budget."""
    return max(at_least, bisect.bisect_right(range(_MAX_STEPS), budget_s, key=seconds) - 1)


def _because(plan: Plan, reason: str) -> Plan:
    _log.info("plan: %s", reason)
    return replace(plan, reasons=[*plan.reasons, reason])


def loss_function(config: TrainConfig, plan: Plan) -> LossFunction:
    """Return the loss of rows under the plan's precision, through the layers that the plan says."""
    features = compiled_features() if plan.compiled else fused_features if plan.fused else GPT.features

    def loss(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(plan.device, torch.bfloat16, enabled=plan.bf16):
            return next_token_loss(model, inputs, targets, config.loss_rows, features)

    return loss


def flops_per_token(shape: ModelConfig, context: int) -> float:
    """Return floating-point operations of forward and backward per token: 6 per weight in a product, plus attention.

    Source: Kaplan et al., 2001.08361, section 2.1; causal attention sees half of `context` on average.
    """
    heads = (shape.n_heads + shape.n_kv_heads) * 2 * shape.head_width * shape.d_model
    feed_forward = (3 if shape.activation == "swiglu" else 2) * shape.d_model * shape.d_ff
    weights = shape.n_layers * (heads + feed_forward) + shape.vocab_size * shape.d_model
    return 6.0 * (weights + shape.n_layers * shape.n_heads * shape.head_width * context)


def _calibrate(config: TrainConfig, shape: ModelConfig, plan: Plan) -> dict[int, float]:
    """Return the seconds of a step for each row length, timed on a model thrown away."""
    with torch.random.fork_rng():
        model = GPT(shape).to(plan.device)
    optimizers = Optimizers(model, config, plan.workers)
    timed: dict[int, float] = {}
    with GradientWorkers(model, loss_function(config, plan), plan.workers) as workers:
        for length in config.row_lengths:
            rows = torch.randint(shape.vocab_size, (config.batch_tokens // length // plan.processes, length + 1))

            def step(rows: Tensor = rows, length: int = length) -> None:
                workers.gradients(rows.to(plan.device), config.micro_tokens // length)
                optimizers.step(1.0, workers.run)
                if plan.device == "cuda":
                    torch.cuda.synchronize()

            timed[length] = _seconds(step)
    return timed


def _seconds(step: Callable[[], None]) -> float:
    for _ in range(_WARMUP_STEPS):
        step()
    times: list[float] = []
    while len(times) < _TIMED_STEPS and sum(times) < _TIMED_S:
        started_s = time.perf_counter()
        step()
        times.append(time.perf_counter() - started_s)
    return statistics.quantiles(times, n=4)[0] if len(times) > 1 else times[0]  # other work only slows some


def measure_speed(device: str, bf16: bool, cores: int) -> float:
    """Return floating-point operations per second of a large matrix product on `cores` cores or the GPU."""
    size = 4096 if device == "cuda" else 768
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else before)

    def product() -> None:
        torch.mm(a, a)
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = _seconds(product)
    torch.set_num_threads(before)
    return (cores if device == "cpu" else 1) * 2 * size**3 / seconds


def machine_speed(config: TrainConfig) -> tuple[float, int]:
    """Return what `recommend` needs to know of this machine: operations per second, and workers to share a batch."""
    device, cores = _device(config), _cores(config)
    speed = measure_speed(device, _wants_bf16(config, device), cores)
    return speed, 1 if device == "cuda" else cores


def _wants_bf16(config: TrainConfig, device: str) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and _has_bf16(device))


def _device(config: TrainConfig) -> str:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' asked, but PyTorch sees no GPU; use device 'auto' or 'cpu'")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def _repays_compiling(device: str, budget_s: float) -> bool:
    """Return whether a run is long enough, and, on a CPU, a C++ compiler there."""
    compiler = device == "cuda" or shutil.which("g++") is not None
    return compiler and budget_s >= _COMPILE_MIN_S


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _cores(config: TrainConfig) -> int:
    usable = len(psutil.Process().cpu_affinity() or [0])
    return config.threads or max(1, min(psutil.cpu_count(logical=False) or 1, usable))


def _workers(config: TrainConfig, cores: int, processes: int) -> int:
    rows = [config.micro_tokens // length // processes for length in config.row_lengths]
    if not all(rows) or (config.batch_tokens // config.row_length) % processes:
        raise ConfigError(f"batch_tokens: rows of {config.row_length} cannot be shared by {processes} processes")
    # Equal shares of every length, since each worker's loss weighs the same.
    return max(count for count in range(1, cores + 1) if not any(count_of % count for count_of in rows))
