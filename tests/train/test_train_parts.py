"""Parts of training against plain references: optimisers, schedule, data order, settings."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tinylm import _native
from tinylm.config import ModelConfig, parse
from tinylm.corpus.tokens import TokenShard
from tinylm.errors import ConfigError
from tinylm.model import GPT, compiled_features
from tinylm.train import TrainConfig, fused
from tinylm.train import plan as plan_module
from tinylm.train.data import DocumentRows
from tinylm.train.loss import next_token_loss
from tinylm.train.optim import AdamW, Group, Muon, Optimizers, TableAdam, move_rows_by_torch, orthogonalise
from tinylm.train.outputs import JsonLines
from tinylm.train.plan import Plan, flops_per_token, make_plan, settle
from tinylm.train.schedule import Schedule
from tinylm.train.workers import GradientWorkers
from tinylm.weights import LOOKUP_TABLES

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 40), (2, 40, 16)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_scale(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalise(matrices)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = (left.mT @ found @ right.mT).diagonal(dim1=1, dim2=2)  # same singular vectors: all weight on the diagonal
    torch.testing.assert_close(inner.sort().values, values.sort().values, atol=2e-3, rtol=1e-2)


def test_muon_moves_every_direction_equally_and_decays_weights() -> None:
    weight = nn.Parameter(torch.eye(8))
    weight.grad = torch.diag(torch.logspace(-1, 1, 8))
    Muon({"weight": weight}, momentum=0.0, steps=5).step(lr=0.1, weight_decay=0.5)
    moved = 0.95 - weight.detach().diagonal()  # 1 - 0.1 * 0.5 is left by the decay
    assert moved.min() > 0.05
    assert moved.max() < 0.13


def test_adamw_equals_pytorchs() -> None:
    ours, theirs = ([nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(5))] for _ in range(2))
    optimizer = AdamW([Group([ours[0]], 0.02, True), Group([ours[1]], 0.01, False)], beta1=0.8, beta2=0.95, eps=1e-10)
    reference = torch.optim.AdamW(
        [
            {"params": [theirs[0]], "lr": 0.01, "weight_decay": 0.1},
            {"params": [theirs[1]], "lr": 0.005, "weight_decay": 0},
        ],
        betas=(0.8, 0.95),
        eps=1e-10,
    )
    random = torch.Generator().manual_seed(0)
    for _ in range(7):
        for mine, yours in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=random)
            yours.grad = mine.grad.clone()
        optimizer.step(0.5, weight_decay=0.1)
        reference.step()
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-6, rtol=1e-5)


def test_tables_move_where_they_were_looked_up_as_adam_would() -> None:
    start = torch.randn(9, 4, generator=torch.manual_seed(1))
    ours, dense, theirs = (nn.Parameter(start.clone()) for _ in range(3))
    optimizers = [TableAdam({"table": table}, 0.02, 0.8, 0.95, eps=1e-10) for table in (ours, dense)]
    reference = torch.optim.SparseAdam([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-10)
    for rows in ([3, 1, 3], [1, 7], [7, 3]):
        values = torch.randn(len(rows), 4)
        ours.grad = torch.sparse_coo_tensor([rows], values, (9, 4), check_invariants=True)
        theirs.grad, dense.grad = ours.grad.clone(), ours.grad.to_dense()
        for optimizer in optimizers:
            optimizer.step(0.5)
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(dense, ours, atol=1e-6, rtol=1e-5)
    assert {row for row in range(9) if not torch.equal(ours[row], start[row])} == {1, 3, 7}


def test_rows_move_alike_in_both_ways() -> None:
    random = torch.Generator().manual_seed(2)
    states = [tuple(torch.ones(11, 7) for _ in range(3)) for _ in range(2)]
    rows, grads = torch.tensor([3, 1, 3, 10]), torch.randn(4, 7, generator=random)
    for move, state in zip((fused.move_rows, move_rows_by_torch), states, strict=True):
        move(rows, grads, state, lr=0.1, betas=(0.8, 0.95), correction=0.5, eps=1e-10)
    for found, expected in zip(*states, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_rate_warms_up_holds_and_falls_to_its_end(tiny_run: Make) -> None:
    config = tiny_run(warmup_share=0.1, decay_share=0.4, final_lr=0.1)
    rates = [Schedule.of(100, config).lr_scale(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:60] == [1.0] * 51
    assert all(a > b for a, b in itertools.pairwise(rates[60:]))
    assert rates[-1] == pytest.approx(0.1 + 0.9 / 40)


def test_rows_double_until_they_fill_the_context(tiny_run: Make) -> None:
    config = tiny_run(short_context=8, short_share=0.5)
    schedule = Schedule.of(16, config)
    assert [schedule.phase(step)[1] for step in range(16)] == [8] * 4 + [16] * 4 + [32] * 8
    assert Schedule.of(16, tiny_run(short_context=0)).phase(15) == (0, 32)
    assert schedule.cost(2, 9, {8: 1.0, 16: 10.0, 32: 100.0}) == 2 * 1 + 4 * 10 + 1 * 100


def test_a_row_is_a_function_of_seed_and_number(tokens_dir: Path) -> None:
    shard = TokenShard.open(tokens_dir, "train")
    walked = DocumentRows(shard, 4, 32)
    for place in (2000, 0, 350, 1300):
        assert np.array_equal(walked.take(place, 3), DocumentRows(shard, 4, 32).take(place, 3))
    assert not np.array_equal(walked.take(0, 3), DocumentRows(shard, 5, 32).take(0, 3))


@pytest.mark.parametrize("length", [8, 32, 100])
def test_rows_start_where_windows_do_and_run_on_whole(tokens_dir: Path, length: int) -> None:
    shard = TokenShard.open(tokens_dir, "train")
    documents = [shard.document(index).tolist() for index in range(shard.n_documents)]
    windows = {tuple(d[at : at + length + 1]) for d in documents for at in range(0, max(1, len(d) - 1), length)}
    prefixes = {window[:size] for window in windows for size in range(1, length + 2)}
    for row in DocumentRows(shard, 0, length).take(0, 40).tolist():
        assert len(row) == length + 1
        while row:
            size = next(size for size in range(len(row), 0, -1) if tuple(row[:size]) in prefixes)
            assert tuple(row[:size]) in windows or size == len(row)  # only the last piece may be cut
            row = row[size:]


def test_an_epoch_repeats_no_window_and_the_next_has_another_order(tokens_dir: Path) -> None:
    shard = TokenShard.open(tokens_dir, "train")
    rows = DocumentRows(shard, 0, 32)
    first = rows.take(0, 1)
    per_epoch = next(n for n in range(1, 5000) if rows._row(n) is not None and len(rows._ends) > 2)
    epoch = rows.take(0, per_epoch)
    assert 0.6 * shard.tokens.size < epoch.size <= 1.1 * shard.tokens.size
    assert not np.array_equal(first, rows.take(per_epoch, 1))


@pytest.mark.parametrize(("workers", "micro_rows"), [(2, 8), (1, 2), (2, 4)])
def test_shared_and_accumulated_gradients_are_those_of_the_whole_batch(
    workers: int, micro_rows: int, tiny_run: Make, with_tables: ModelConfig
) -> None:
    torch.manual_seed(0)
    model = GPT(with_tables)
    rows = torch.randint(320, (8, 17))
    plain = copy.deepcopy(model)
    Optimizers(model, tiny_run())  # makes the gradients of tables sparse
    with GradientWorkers(model, lambda m, x, y: next_token_loss(m, x, y, 64), workers) as group:
        for each in (plain, model):
            each.ngram_embeddings.leave_out(0.3, 0, 1)  # reaches workers that are there already
        whole = next_token_loss(plain, rows[:, :-1], rows[:, 1:], 64)
        whole.backward()
        expected = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        loss = group.gradients(rows, micro_rows)
    assert loss == pytest.approx(whole.item(), rel=1e-6)
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert p.grad.is_sparse == (name.startswith(LOOKUP_TABLES))
        torch.testing.assert_close(p.grad.to_dense(), expected[name], atol=1e-6, rtol=1e-4)


def test_rows_left_out_learn_nothing_and_are_back_outside_training(with_tables: ModelConfig) -> None:
    model, rows = GPT(with_tables), torch.randint(320, (4, 32), generator=torch.manual_seed(0))
    tables = model.ngram_embeddings
    for table in tables.parameters():
        nn.init.normal_(table)  # zeros would not be missed
    before = model.eval()(rows)
    model.train()
    tables.leave_out(0.3, 1, 7)
    kept = [mask.clone() for mask in tables.buffers()]
    assert 0.6 < torch.cat(kept).float().mean() < 0.8
    assert not torch.allclose(model(rows), before)
    model(rows).square().mean().backward()
    for mask, table in zip(kept, tables.parameters(), strict=True):
        assert table.grad is not None
        moved = table.grad.any(dim=1)
        assert moved.any()
        assert not (moved & ~mask).any()
    assert torch.equal(model.eval()(rows), before)
    for seed, step in ((1, 8), (2, 7)):
        tables.leave_out(0.3, seed, step)
        assert not torch.equal(next(tables.buffers()), kept[0])


@pytest.mark.parametrize("steps", [60, 100, 170])
@pytest.mark.parametrize("step", [5, 30, 45, 80])
def test_a_new_number_of_steps_changes_nothing_that_is_past(steps: int, step: int, tiny_run: Make) -> None:
    config = tiny_run(short_context=8, short_share=0.5, warmup_share=0.02, decay_share=0.5)
    before = Schedule.of(100, config)
    after = before.replanned(max(steps, step + 1), step, config)
    assert [before.phase(at) for at in range(step)] == [after.phase(at) for at in range(step)]
    rates = [before.lr_scale(at) for at in range(step)] + [after.lr_scale(at) for at in range(step, after.steps)]
    assert all(a >= b for a, b in itertools.pairwise(rates[2:]))  # no jump up after the warm-up
    assert after.lr_scale(step) == pytest.approx(before.lr_scale(step))
    assert rates[-1] == pytest.approx(after.decay_from / (after.steps - after.decay_start))


def test_the_run_fits_its_minutes_however_wrong_the_calibration_was(tiny_run: Make) -> None:
    config = tiny_run(steps=0, minutes=1.0, short_context=8, short_share=0.5)
    timed_s = {8: 0.02, 16: 0.03, 32: 0.05}
    plan = Plan(Schedule.of(1500, config), "cpu", False, False, False, 1, 1, 1, 1.0, timed_s=timed_s, settle_step=150)
    elapsed_s, step = 0.0, 0
    while step < plan.steps:
        slowness = 3.0 if elapsed_s < 10 else 0.6 if elapsed_s < 40 else 1.2  # as on a shared machine
        elapsed_s += slowness * timed_s[plan.schedule.phase(step)[1]]
        step += 1
        if step == plan.settle_step:
            plan = Plan.from_json(settle(plan, config, step, elapsed_s).to_json())
    assert 57 < elapsed_s < 66
    assert "1.20 times as long as calibrated" in plan.reasons[-1]


def test_rows_of_a_killed_run_are_kept_up_to_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    rows = JsonLines(path, 0)
    for step in (1, 2, 3):
        rows.add(step, text="“So,” said Mia.\u2028")
    whole = path.read_bytes()
    path.write_bytes(whole + '{"step": 2, "text": "“'.encode()[:-1])  # cut within a letter
    JsonLines(path, 2)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])


@pytest.mark.parametrize("fitting", [3, 30, 100, 150, 400])
def test_runs_of_few_steps_keep_to_their_minutes_too(fitting: int, tiny_run: Make) -> None:
    config = tiny_run(steps=0, minutes=1.0, short_context=0)
    timed_s = {32: 60 / fitting}
    start = max(20, fitting)  # as `make_plan` has it
    plan = Plan(Schedule.of(start, config), "cpu", False, False, False, 1, 1, 1, 1.0, timed_s=timed_s, settle_step=2)
    elapsed_s, step = 0.0, 0
    while step < plan.steps:
        elapsed_s += timed_s[32]
        step += 1
        if step == plan.settle_step:
            plan = settle(plan, config, step, elapsed_s)
    assert 59 < elapsed_s < 72 + timed_s[32]


@pytest.mark.parametrize(("batch_tokens", "workers"), [(240, 1), (480, 2), (768, 2)])
def test_workers_have_equal_shares_of_every_row_length(batch_tokens: int, workers: int, tiny_run: Make) -> None:
    config = tiny_run(batch_tokens=batch_tokens, context=24, short_context=16)
    assert config.row_lengths == (16, 24)
    assert plan_module._workers(config, 2, 1) == workers


def test_a_run_s_minutes_pay_for_compiling(tiny_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_s = {8: 0.01, 16: 0.01, 32: 0.01}
    clock = iter((100.0, 112.0))  # before and after compiling and calibrating
    monkeypatch.setattr(plan_module, "_calibrate", lambda *_: timed_s)
    monkeypatch.setattr(plan_module, "measure_speed", lambda *_: 1e9)
    monkeypatch.setattr(plan_module.time, "perf_counter", lambda: next(clock))
    config = tiny_run(steps=0, minutes=1.0, short_context=8, compile="on")
    plan = make_plan(config, config.shape, 1)
    assert plan.compiled
    assert plan.compile_s == 12.0
    assert plan.steps == pytest.approx((60 - 12) / 0.01, rel=0.01)
    elapsed_s = plan.settle_step * 0.01
    assert settle(plan, config, plan.settle_step, elapsed_s).steps == pytest.approx(plan.steps, rel=0.01)


@pytest.mark.parametrize(
    ("minutes", "compiler", "compiled"), [(15.0, "/bin/g++", True), (14.9, "/bin/g++", False), (15.0, None, False)]
)
def test_long_runs_compile_where_a_compiler_is(
    minutes: float, compiler: str | None, compiled: bool, tiny_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_calibrate", lambda *_: {8: 0.01, 16: 0.01, 32: 0.01})
    monkeypatch.setattr(plan_module.shutil, "which", lambda _: compiler)
    gelu = tiny_run().shape.model_copy(update={"activation": "gelu"})
    config = tiny_run(steps=0, minutes=minutes, short_context=8, device="cpu", model=gelu)
    assert make_plan(config, gelu, 1).compiled is compiled
    plan = make_plan(config, tiny_run().shape, 1)
    assert (plan.compiled, plan.fused) == (False, True)


def test_flops_count_the_weights_of_products(tiny_run: Make) -> None:
    shape = tiny_run().shape
    weights = sum(p.numel() for name, p in GPT(shape).named_parameters() if p.ndim == 2 and "embed" not in name)
    assert flops_per_token(shape, 32) == 6 * (weights + shape.n_layers * 32 * 32)


@pytest.mark.parametrize("changes", [{}, {"qk_norm": False, "n_kv_heads": 2}, {"head_dim": 10, "d_ff": 45}])
@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_fused_layers_have_the_gradients_of_plain_ones(
    changes: dict[str, Any], cap: float, with_tables: ModelConfig
) -> None:
    torch.manual_seed(3)
    model = GPT(with_tables.model_copy(update={**changes, "logit_softcap": cap}))
    assert fused.applies(model.config)
    rows = torch.randint(320, (3, 18), generator=torch.manual_seed(3))
    gradients = []
    for features, again in ((GPT.features, False), (fused.fused_features, False), (fused.fused_features, True)):
        model.checkpoint_activations = again
        model.zero_grad()
        loss = next_token_loss(model, rows[:, :-1], rows[:, 1:], 16, features)
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for plain, found, recomputed in zip(*gradients, strict=True):
        # Single elements are small differences of large terms: they are as exact as the largest of their tensor.
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
        assert torch.equal(found, recomputed)


def test_fused_kernels_refuse_arrays_that_do_not_fit() -> None:
    x, narrow = np.ones((4, 6), np.float32), np.ones(5, np.float32)
    with pytest.raises(ValueError, match="not as wide"):
        _native.rms_norm(x, narrow, 1e-5, np.empty_like(x))
    with pytest.raises(ValueError, match="shapes differ"):
        _native.adam_rows(np.array([1]), x[:1], x, x[:2], x, lr=0, beta1=0, beta2=0, correction=1, eps=1)
    with pytest.raises(ValueError, match="not those of the positions"):
        _native.rotate(np.ones((1, 2, 1, 4), np.float32), np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))
    with pytest.raises(TypeError):
        _native.swiglu(x, x, np.empty_like(x, dtype=np.float64))
    with pytest.raises(ValueError, match="row is out of range"):
        _native.adam_rows(np.array([4]), x[:1], x, x, x, lr=0, beta1=0, beta2=0, correction=1, eps=1)
    with pytest.raises(ValueError, match="target is out of range"):
        _native.cross_entropy_grad(x, np.array([0, 1, 2, 6]))


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns about its own work
def test_compiled_layers_have_the_gradients_of_plain_ones(tiny_run: Make, with_tables: ModelConfig) -> None:
    model, rows = GPT(with_tables), torch.randint(320, (2, 17), generator=torch.manual_seed(3))
    Optimizers(model, tiny_run())  # makes the gradients of tables sparse
    gradients = []
    for features in (GPT.features, compiled_features()):
        model.zero_grad()
        next_token_loss(model, rows[:, :-1], rows[:, 1:], 16, features).backward()
        gradients.append([parameter.grad.to_dense().clone() for parameter in model.parameters()])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


def test_impossible_settings_name_the_field() -> None:
    with pytest.raises(ConfigError, match=r"rows of 100 must divide the tokens held at once \(1024\)"):
        parse(TrainConfig, {"short_context": 100})
    with pytest.raises(ConfigError, match=r"context must be at most context_length \(256\); found 512"):
        parse(TrainConfig, {"context": 512})
    with pytest.raises(ConfigError, match="unknown key"):
        parse(TrainConfig, {"learning_rate": 0.1})
