"""What a run will do on this machine: device, precision, workers, and the number of steps that fits its minutes.

The plan is made once, before the first step, and stored with the checkpoints: a resumed run follows it and so
ends with the same bits, however fast the machine happens to be that day.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.model import GPT
from tinylm.train.config import TrainConfig
from tinylm.train.loss import next_token_loss
from tinylm.train.optim import Optimizers
from tinylm.train.schedule import phases
from tinylm.train.workers import GradientWorkers, LossFunction

__all__ = ["Plan", "flops_per_token", "loss_function", "machine_speed", "make_plan", "measure_speed", "settle"]

_log = logging.getLogger(__name__)
_WARMUP_STEPS, _TIMED_STEPS, _TIMED_S = 2, 12, 3.0
_COMPILE_MIN_S = 600.0  # compiling cost 40-55 s on two busy cores (2026-11) and gained a tenth at most


@dataclass(frozen=True)
class Plan:
    """The choices of one run; plain values, stored as JSON."""

    steps: int
    device: str
    bf16: bool
    compiled: bool
    workers: int  # threads with an equal share of the rows each (CPU); 1 on a GPU
    threads: int  # arithmetic threads inside each worker
    processes: int  # torchrun's world size
    step_s: float  # measured mean seconds per step over the whole run, 0.0 if the steps were given
    first_step_s: float  # the same for the first, shortest rows
    settled: bool  # whether `steps` is final: given, or corrected by the run's own opening
    matmul_flops: float  # measured speed of a large matrix product of all workers, per second
    reasons: list[str] = field(default_factory=list)


def make_plan(config: TrainConfig, shape: ModelConfig, processes: int) -> Plan:
    """Return the plan for `shape` on this machine, timing a few steps unless `config.steps` fixes them.

    Raises: ConfigError if the asked device is absent or the rows cannot be shared out.
    """
    device = _device(config)
    bf16 = _wants_bf16(config, device)
    budget_s = config.minutes * 60
    compiled = config.compile == "on" or (config.compile == "auto" and device == "cuda" and budget_s >= _COMPILE_MIN_S)
    cores = _cores(config)
    workers = 1 if device == "cuda" or compiled else _workers(config, cores, processes)
    reasons = [
        f"device {device}, {'bf16' if bf16 else 'f32'}: "
        + ("the chip multiplies bf16 natively" if bf16 else "no native bf16 on this chip, emulation would be slower"),
        f"{workers} workers x {max(1, cores // workers)} threads for {cores} physical cores",
        f"compile {'on' if compiled else 'off'} for a run of {config.minutes:g} minutes",
    ]
    plan = Plan(
        config.steps, device, bf16, compiled, workers, max(1, cores // workers), processes, 0.0, 0.0, True, 0.0, reasons
    )
    torch.set_num_threads(plan.threads)
    speed = measure_speed(device, bf16, cores)
    if config.steps:
        return _with(plan, matmul_flops=speed, reasons=[*reasons, f"{config.steps} steps as asked"])
    timed = _calibrate(config, shape, plan)
    step_s = sum(share * timed[length] for length, share in _shares(config).items())
    steps = max(20, round(budget_s / step_s))
    reasons.append(f"{steps} steps: {budget_s:.0f} s at {step_s * 1000:.0f} ms measured per step")
    for reason in reasons:
        _log.info("plan: %s", reason)
    first_s = timed[config.row_lengths[0]]
    return _with(
        plan, steps=steps, step_s=step_s, first_step_s=first_s, settled=False, matmul_flops=speed, reasons=reasons
    )


def settle(plan: Plan, config: TrainConfig, step: int, elapsed_s: float) -> Plan:
    """Return the plan with the steps corrected by what the opening steps really took, and settled.

    A few seconds of calibration can be fooled by other work; the opening of the run is a longer sample, and
    the learning rate does not depend on the number of steps yet.
    """
    pace = elapsed_s / step / plan.first_step_s
    steps = step + max(20, round((config.minutes * 60 - elapsed_s) / (plan.step_s * pace)))
    reason = f"{steps} steps after all: the first {step} took {pace:.2f} times as long as calibrated"
    _log.info("plan: %s", reason)
    return _with(plan, steps=steps, step_s=plan.step_s * pace, settled=True, reasons=[*plan.reasons, reason])


def loss_function(config: TrainConfig, plan: Plan) -> LossFunction:
    """Return the loss of rows under the plan's precision; compiled, all but the head is one graph per row length."""
    features: Callable[[GPT, Tensor], Tensor] = GPT.features
    if plan.compiled:
        features = torch.compile(features, dynamic=False)

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


def _shares(config: TrainConfig) -> dict[int, float]:
    """Return row length → share of the steps."""
    plan = phases(1_000_000, config)
    ends = [*(phase.first_step for phase in plan[1:]), 1_000_000]
    return {phase.length: (end - phase.first_step) / 1e6 for phase, end in zip(plan, ends, strict=True)}


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


def machine_speed(config: TrainConfig) -> float:
    """Return what `recommend` needs to know of this machine: operations per second on what `config` would use."""
    device = _device(config)
    return measure_speed(device, _wants_bf16(config, device), _cores(config))


def _wants_bf16(config: TrainConfig, device: str) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and _has_bf16(device))


def _device(config: TrainConfig) -> str:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' asked, but PyTorch sees no GPU; use device 'auto' or 'cpu'")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _cores(config: TrainConfig) -> int:
    usable = len(psutil.Process().cpu_affinity() or [0])
    return config.threads or max(1, min(psutil.cpu_count(logical=False) or 1, usable))


def _workers(config: TrainConfig, cores: int, processes: int) -> int:
    rows = config.micro_tokens // config.row_length // processes
    if rows == 0 or (config.batch_tokens // config.row_length) % processes:
        raise ConfigError(f"batch_tokens: rows of {config.row_length} cannot be shared by {processes} processes")
    return max(count for count in range(1, cores + 1) if rows % count == 0)


def _with(plan: Plan, **changes: object) -> Plan:
    return Plan(**{**plan.__dict__, **changes})
