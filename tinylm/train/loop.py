"""The training stage: tokens and a tokenizer in, a checkpoint that every exporter reads out."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.corpus.pairs import minimal_pairs
from tinylm.corpus.tokens import TokenShard
from tinylm.errors import ConfigError, DataError, StageError
from tinylm.model import GPT, initialise
from tinylm.outputs import safetensors_output
from tinylm.progress import ProgressReporter, Task
from tinylm.scoring import Evaluation
from tinylm.tokenizer import Tokenizer, load_tokenizer
from tinylm.train import checkpoint
from tinylm.train.card import model_card
from tinylm.train.config import TrainConfig
from tinylm.train.data import DocumentRows
from tinylm.train.evaluate import TorchScorer, load_base, score_documents
from tinylm.train.loggers import Metrics
from tinylm.train.lora import add_low_rank, merge_low_rank
from tinylm.train.optim import Optimizers
from tinylm.train.outputs import JsonLines, sample_stories
from tinylm.train.plan import Plan, flops_per_token, loss_function, make_plan, settle
from tinylm.train.processes import Processes
from tinylm.train.scorecard import TrainingText, consistency, score_card
from tinylm.train.stopping import Stopped, StopSignals
from tinylm.train.workers import GradientWorkers

__all__ = ["train"]

_log = logging.getLogger(__name__)
_METRIC_ROWS = 200  # rows of metrics.jsonl in a whole run, about
_CARD_PAIRS = 400  # minimal pairs, a hundred of each kind: a share is known to +- 5 %
_CARD_DOCUMENTS = 50_000  # training documents searched for copies, about 20 bytes of memory a word


def train(
    config: TrainConfig,
    tokens_dir: Path,
    tokenizer_path: Path,
    out_dir: Path,
    progress: ProgressReporter,
    *,
    base: Path | None = None,
) -> dict[str, Any]:
    """Train a model into `out_dir` and return its summary; goes on where a stopped run in `out_dir` left off.

    Writes model.safetensors (float32), config.json, tokenizer.model, metrics.jsonl, samples.jsonl, summary.json;
    resumable state is in out_dir/checkpoints. Under torchrun every process calls this with the same arguments.

    Args: base: model file or finished run to fine-tune; its shape replaces the configured one, and `tokens_dir`
              must have been made with its tokenizer.
    Raises: Stopped on SIGINT or SIGTERM, after saving; ConfigError, DataError, FormatError for bad input.
    """
    signals = StopSignals()
    with signals.installed(), Processes.join() as processes:
        out_dir.mkdir(parents=True, exist_ok=True)
        tokenizer = load_tokenizer(tokenizer_path)
        run = _Run(config, tokens_dir, tokenizer, out_dir, processes, base)
        run.prepare()
        run.loop(signals, progress)
        return run.finish(tokenizer_path, progress)


class _Run:
    """One training run: its plan, model, optimisers and position."""

    def __init__(
        self,
        config: TrainConfig,
        tokens_dir: Path,
        tokenizer: Tokenizer,
        out_dir: Path,
        processes: Processes,
        base: Path | None,
    ) -> None:
        self.config, self.tokenizer, self.out_dir, self.processes = config, tokenizer, out_dir, processes
        self.shard = TokenShard.open(tokens_dir, "train")
        self.valid = TokenShard.open(tokens_dir, "valid")
        if self.shard.vocab_size != tokenizer.vocab_size:
            raise DataError(
                f"{tokens_dir}: made with a vocabulary of {self.shard.vocab_size}, the tokenizer has "
                f"{tokenizer.vocab_size}; rebuild the tokens"
            )
        self.base = load_base(base, tokenizer) if base else None
        shape = self.base.config if self.base else config.shape
        self.shape = ModelConfig.model_validate(shape.model_dump() | {"vocab_size": tokenizer.vocab_size})
        if config.ngram_dropout and not self.shape.ngram_rows:
            raise ConfigError(f"ngram_dropout: expected 0 without ngram_rows; found {config.ngram_dropout:g}")
        self.fingerprint = _fingerprint(config, self.shard, tokenizer, self.base)
        self.loggers: Metrics | None = None
        self.rows: dict[int, DocumentRows] = {}
        self.step, self.elapsed_s = 0, 0.0
        self.seconds = {"data": 0.0, "gradients": 0.0, "optimizer": 0.0}
        self.plan: Plan
        self.model: GPT
        self.optimizers: Optimizers
        self.average: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """Make or reload the plan, build the model, take over the newest checkpoint."""
        self.plan = self._stored_plan()
        torch.set_num_threads(self.plan.threads)
        torch.set_flush_denormal(True)
        torch.manual_seed(self.config.seed)
        self.model = GPT(self.shape)
        if self.base:
            _copy_into(self.model, dict(self.base.named_parameters()))
        else:
            config = self.config
            initialise(
                self.model,
                zero_projections=config.zero_projections,
                embedding_std=config.embedding_std,
                copying=config.copying_start,
            )
        if self.config.lora_rank:
            add_low_rank(self.model, self.config.lora_rank)
        self.model.to(self.plan.device)
        self.model.checkpoint_activations = self.config.checkpoint_activations
        self.optimizers = Optimizers(self.model, self.config, self.plan.workers)
        if self.config.average:
            self.average = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        found = checkpoint.latest(self.out_dir / "checkpoints", self.fingerprint)
        if found:
            self._restore(*found)
        self.metrics = JsonLines(self.out_dir / "metrics.jsonl", self.step) if self.processes.first else None
        self.stories = JsonLines(self.out_dir / "samples.jsonl", self.step) if self.processes.first else None

    def _stored_plan(self) -> Plan:
        path = self.out_dir / "checkpoints" / "plan.json"
        stored = checkpoint.read_plan(path, self.fingerprint)
        if stored is None:
            plan = make_plan(self.config, self.shape, self.processes.count)
            stored = self.processes.agree(plan.to_json())
            self._store(Plan.from_json(stored))
        return Plan.from_json(stored)

    def _store(self, plan: Plan) -> None:
        if self.processes.first:
            folder = self.out_dir / "checkpoints"
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_json(folder / "plan.json", {"fingerprint": self.fingerprint, "plan": plan.to_json()})

    def loop(self, signals: StopSignals, progress: ProgressReporter) -> None:
        """Take the remaining steps, with evaluations, samples and checkpoints by the clock."""
        names = self.config.loggers if self.processes.first else ()
        try:
            with Metrics(names, self.out_dir, self.config.model_dump(mode="json")) as self.loggers:
                self._loop(signals, progress)
        except Stopped:
            with signals.held():
                self.save()
            raise
        self.save()

    def _loop(self, signals: StopSignals, progress: ProgressReporter) -> None:
        config, loss = self.config, loss_function(self.config, self.plan)
        every = max(1, self.plan.steps // _METRIC_ROWS)
        next_save_s, next_eval_s = self.elapsed_s + config.checkpoint_every_s, self.elapsed_s + config.eval_every_s
        losses: list[float] = []
        reported_s = self.elapsed_s
        with (
            GradientWorkers(self.model, loss, self.plan.workers) as workers,
            progress.task("train", 100.0, "%") as task,
        ):
            while self.step < self.plan.steps:
                with signals.held():
                    losses.append(self._step(workers))
                    if self.step == self.plan.settle_step:
                        self._settle()
                        every = max(1, self.plan.steps // _METRIC_ROWS)
                if self.step % every == 0 or self.step == self.plan.steps:
                    self._report(losses, self.elapsed_s - reported_s, task)
                    losses, reported_s = [], self.elapsed_s
                if self.elapsed_s >= next_eval_s and self.step < self.plan.steps:
                    self._look(signals)
                    next_eval_s += config.eval_every_s
                if self.elapsed_s >= next_save_s:
                    with signals.held():
                        self.save()
                    next_save_s += config.checkpoint_every_s

    def _settle(self) -> None:
        """Correct the number of steps by the run's own pace, and store it before another step is taken."""
        plan = settle(self.plan, self.config, self.step, self.elapsed_s)
        self.plan = Plan.from_json(self.processes.agree(plan.to_json()))
        self._store(self.plan)
        self.save()

    def _step(self, workers: GradientWorkers) -> float:
        config, plan, clock_s = self.config, self.plan, time.perf_counter
        begun_s = clock_s()
        length, rows = self._batch(self.step)
        rows = self.processes.share(rows).to(plan.device, non_blocking=True)
        if config.ngram_dropout:
            self.model.ngram_embeddings.leave_out(config.ngram_dropout, config.seed, self.step)
        read_s = clock_s()
        loss = workers.gradients(rows, config.micro_tokens // length // plan.processes)
        if config.clip_norm:
            self.optimizers.clip(config.clip_norm)
        done_s = clock_s()
        self.optimizers.step(plan.schedule.lr_scale(self.step), workers.run)
        if self.average:
            weights = [weight.detach() for _, weight in self.model.named_parameters()]
            torch._foreach_lerp_(list(self.average.values()), weights, 1 - config.average)
        self.step += 1
        for name, spent_s in (("data", read_s - begun_s), ("gradients", done_s - read_s)):
            self.seconds[name] += spent_s
        self.seconds["optimizer"] += clock_s() - done_s
        self.elapsed_s += clock_s() - begun_s  # judging and saving are not training time
        return loss

    def _batch(self, step: int) -> tuple[int, Tensor]:
        """Return the row length and the rows (B, length + 1) of a step: a function of seed, schedule and step."""
        first, length = self.plan.schedule.phase(step)
        if length not in self.rows:
            self.rows[length] = DocumentRows(self.shard, self.config.seed, length)
        count = self.config.batch_tokens // length
        return length, torch.from_numpy(self.rows[length].take((step - first) * count, count))

    def _report(self, losses: list[float], spent_s: float, task: Task) -> None:
        loss = sum(losses) / len(losses)
        if not math.isfinite(loss):
            raise StageError(f"training diverged: the loss is {loss} at step {self.step}; lower the learning rates")
        speed = len(losses) * self.config.batch_tokens / max(spent_s, 1e-9)
        _, length = self.plan.schedule.phase(self.step - 1)
        used = speed * flops_per_token(self.shape, length) / self.plan.matmul_flops / self.plan.processes
        self._note(
            tokens=self.step * self.config.batch_tokens,
            loss_nats=loss,
            lr_scale=self.plan.schedule.lr_scale(self.step - 1),
            tokens_per_s=speed,
            elapsed_s=self.elapsed_s,
            flops_utilisation=used,
        )
        done = f"{self.step}/{self.plan.steps}"
        task.update(100 * self._share_done(), step=done, loss=loss, tokens_per_s=round(speed))

    def _share_done(self) -> float:
        """Return how much of the run is done; of its minutes where they decide, for the number of steps then moves."""
        if self.config.steps or self.step == self.plan.steps:
            return self.step / self.plan.steps
        return min(1.0, self.elapsed_s / (self.config.minutes * 60 - self.plan.compile_s))

    def _note(self, **values: float) -> None:
        """Write numbers of this step wherever metrics go; only the first process has such places."""
        if self.metrics and self.loggers:
            self.metrics.add(self.step, **values)
            self.loggers.log(self.step, values)

    def _look(self, signals: StopSignals) -> None:
        """Judge the weights on some validation documents and write sample stories."""
        if self.stories is None:
            return
        with self._averaged(signals):
            judged = self._evaluate(min(self.config.eval_documents, self.valid.n_documents))
            self._note(valid_nats_per_token=judged.nats_per_token, valid_bits_per_byte=judged.bits_per_byte)
            prompt, count = self.config.sample_prompt, self.config.samples
            for text in sample_stories(self.model, self.tokenizer, prompt, count, self.step) if count else ():
                self.stories.add(self.step, prompt=prompt, text=text)

    def _evaluate(self, documents: int) -> Evaluation:
        sizes = [len(piece) for piece in self.tokenizer.token_bytes()]
        chosen = [self.valid.document(index) for index in range(documents)]
        nats = score_documents(self.model, chosen, self.shape.context_length, threads=self.plan.workers)
        size = sum(sizes[token] for document in chosen for token in document.tolist())
        return Evaluation(float(nats.sum()), sum(len(document) - 1 for document in chosen), size)

    @contextmanager
    def _averaged(self, signals: StopSignals) -> Iterator[None]:
        """Put the averaged weights, if there are any, in the model's place inside this block; no signal parts them."""
        own = {name: weight.detach().clone() for name, weight in self.model.named_parameters()} if self.average else {}
        try:
            with signals.held():
                _copy_into(self.model, self.average)
            yield
        finally:
            with signals.held():
                _copy_into(self.model, own)

    def save(self) -> None:
        """Write a checkpoint of everything that the next step depends on."""
        if not self.processes.first:
            return
        tensors: dict[str, Tensor] = {f"model.{name}": weight for name, weight in self.model.named_parameters()}
        tensors |= {f"average.{name}": weight for name, weight in self.average.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizers.state().items()}
        tensors |= checkpoint.random_state()
        position = checkpoint.Position(self.step, self.elapsed_s, dict(self.seconds), self.fingerprint)
        checkpoint.save(self.out_dir / "checkpoints", position, tensors, self.config.keep_checkpoints)

    def _restore(self, position: checkpoint.Position, tensors: dict[str, Tensor]) -> None:
        _copy_into(self.model, _with_prefix(tensors, "model."))
        for name, weight in _with_prefix(tensors, "average.").items():
            self.average[name].copy_(weight)
        self.optimizers.load(_with_prefix(tensors, "optimizer."))
        checkpoint.restore_random_state(tensors)
        self.step, self.elapsed_s, self.seconds = position.step, position.elapsed_s, dict(position.seconds)
        _log.info("going on from step %d of %d", self.step, self.plan.steps)

    def finish(self, tokenizer_path: Path, progress: ProgressReporter) -> dict[str, Any]:
        """Write the checkpoint's files, judge the model on all validation text, return the summary."""
        summary: dict[str, Any] = {}
        if self.processes.first:
            _copy_into(self.model, self.average)
            merge_low_rank(self.model)
            weights = {name: weight.detach().float().cpu() for name, weight in self.model.named_parameters()}
            path = self.out_dir / "model.safetensors"
            with safetensors_output(path):
                save_file(weights, path)
            checkpoint.write_json(self.out_dir / "config.json", self.shape.model_dump(mode="json"))
            shutil.copyfile(tokenizer_path, self.out_dir / "tokenizer.model")
            with progress.task("evaluation", None):
                summary = self._summary(self._evaluate(self.valid.n_documents))
                stories, figures = self._score_card() if self.config.card_stories else ([], {})
            summary |= figures
            (self.out_dir / "README.md").write_text(model_card(self.shape, summary, stories[:3]))
            checkpoint.write_json(self.out_dir / "summary.json", summary)
        return dict(self.processes.agree(summary))

    def _score_card(self) -> tuple[list[str], dict[str, Any]]:
        """Return stories of the model's own and the figures about them, beside those of held-out documents."""
        stories = sample_stories(self.model, self.tokenizer, "", self.config.card_stories, self.config.seed)
        short = np.flatnonzero(np.diff(self.valid.offsets) <= self.shape.context_length)  # stories can be no longer
        chosen = short if len(short) else np.arange(self.valid.n_documents)
        human = [self._text(self.valid, index) for index in chosen[: len(stories)]]
        some = range(min(self.shard.n_documents, _CARD_DOCUMENTS))
        training = TrainingText(self._text(self.shard, index) for index in some)
        shares = consistency(TorchScorer(self.model, self.tokenizer), minimal_pairs(self.config.seed, _CARD_PAIRS))
        try:
            return stories, {"score_card": score_card(stories, human, training), "consistency": shares}
        except DataError as error:  # a model that learned nothing may write no words
            _log.warning("no score card: %s", error)
            return stories, {"consistency": shares}

    def _text(self, shard: TokenShard, index: int) -> str:
        return self.tokenizer.decode(shard.document(index).tolist())

    def _summary(self, judged: Evaluation) -> dict[str, Any]:
        tokens = self.step * self.config.batch_tokens
        return {
            "steps": self.step,
            "tokens": tokens,
            "epochs": tokens / len(self.shard.tokens),
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "train_s": self.elapsed_s,
            "tokens_per_s": tokens / max(self.elapsed_s, 1e-9),
            "seconds": self.seconds,
            "valid_nats_per_token": judged.nats_per_token,
            "valid_bits_per_byte": judged.bits_per_byte,
            "valid_tokens": judged.tokens,
            "valid_bytes": judged.bytes,
            "plan": self.plan.to_json(),
            "seed": self.config.seed,
            "torch": torch.__version__,
        }


def _fingerprint(config: TrainConfig, shard: TokenShard, tokenizer: Tokenizer, base: GPT | None) -> str:
    settings = (config.digest(), config.shape.digest(), tokenizer.digest(), torch.__version__)  # a preset may change
    digest = hashlib.sha256(" ".join(settings).encode())
    digest.update(shard.offsets.tobytes())
    digest.update(shard.tokens.tobytes())
    for weight in base.parameters() if base else ():
        digest.update(weight.detach().numpy().tobytes())
    return digest.hexdigest()


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def _copy_into(model: GPT, weights: dict[str, Tensor]) -> None:
    for name, weight in model.named_parameters():
        if name in weights:
            weight.copy_(weights[name])
