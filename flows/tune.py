"""The flow `pipeline`, deployment `tune`: trains a handful of variants side by side and says which is best.

Trials are artifacts of the stage `train` like any other, so a killed search goes on where it was.
"""

from typing import Annotated, Any

import psutil
from prefect import Flow, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from pydantic import Field

from flows._pages import show_trials
from flows._prefect import (
    EXCLUSIVE_TAG,
    UiProgress,
    as_task,
    begin_run,
    open_store,
    retry_on_network_error,
    tell_of_waiting,
)
from tinylm import stages
from tinylm.artifacts import ArtifactRef
from tinylm.errors import StageError
from tinylm.pipeline import Profile, load_profile, profile_changes
from tinylm.train.config import TrainConfig
from tinylm.train.tune import Outcome, Trial, best_of, grid, minutes_of, name_of, survivors, table

__all__ = ["DEFAULT_VARY", "tune"]

DEFAULT_VARY = ("train.matrix_lr=[0.01, 0.02, 0.04]",)

corpus_task = as_task(stages.corpus, **retry_on_network_error())
tokenizer_task = as_task(stages.tokenizer)
tokens_task = as_task(stages.tokens)
native_task = as_task(stages.native)


@task(name="trial", cache_policy=NO_CACHE)
def train_trial(trial: Trial, config: TrainConfig, tokens: ArtifactRef, tokenizer: ArtifactRef) -> Outcome:
    """Train one variant; one that diverges is an outcome too."""
    try:
        summary = stages.train(open_store(), config, tokens, tokenizer, UiProgress()).summary
    except StageError as error:
        return Outcome(trial, config.minutes, float("inf"), error=str(error))
    return Outcome(trial, config.minutes, summary["valid_bits_per_byte"], summary["steps"], summary["tokens_per_s"])


@flow(name="trials")
def train_round(trials: list[tuple[Trial, TrainConfig]], tokens: ArtifactRef, tokenizer: ArtifactRef) -> list[Outcome]:
    """Train the variants of one round, as many at once as the task runner has processes."""
    running = [
        train_trial.with_options(task_run_name=name_of(trial)).submit(trial, config, tokens, tokenizer)
        for trial, config in trials
    ]
    return [future.result() for future in running]


@task(name="search", tags=[EXCLUSIVE_TAG], cache_policy=NO_CACHE)
def search(rounds: list[list[tuple[Trial, TrainConfig]]], at_once: int, *inputs: ArtifactRef) -> list[Outcome]:
    """All rounds, on a machine that trains and measures nothing else meanwhile.

    Args: rounds: what each round would train if nothing were dropped.
    """
    runner: TaskRunner[Any] = ProcessPoolTaskRunner(at_once)
    on_processes: Flow[Any, list[Outcome]] = train_round.with_options(task_runner=runner)
    outcomes: list[Outcome] = []
    chosen = [trial for trial, _ in rounds[0]]
    for number, candidates in enumerate(rounds):
        latest = on_processes([pair for pair in candidates if pair[0] in chosen], *inputs)
        outcomes += latest
        if not best_of(latest, 1):
            raise StageError(f"every trial failed; the first: {latest[0].error}")
        if number + 1 < len(rounds):
            chosen = best_of(latest, survivors(len(rounds[0]), number + 1))
    return outcomes


@flow(name="pipeline", flow_run_name="tune {profile}")
def tune(
    vary: Annotated[
        tuple[str, ...], Field(description="settings to try, each with its values: train.key=[value, value]")
    ] = DEFAULT_VARY,
    rounds: Annotated[int, Field(description="half of the trials go on after each; minutes double", ge=1, le=8)] = 2,
    at_once: Annotated[int, Field(description="trials side by side; 0: one per physical core", ge=0, le=64)] = 0,
    profile: Annotated[str, Field(description="named profile, or a .toml file")] = "story",
    corpus: Annotated[tuple[str, ...], Field(description="text to train on: files, globs, folders")] = (),
    valid: Annotated[tuple[str, ...], Field(description="validation text of its own, never trained on")] = (),
    preset: Annotated[str | None, Field(description="shape of the model, by name")] = None,
    minutes: Annotated[float | None, Field(description="minutes of each trial in the last round", gt=0)] = None,
    seed: Annotated[int | None, Field(description="seed of the training", ge=0)] = None,
    settings: Annotated[tuple[str, ...], Field(description="any other setting: table.key=value")] = (),
) -> list[dict[str, str]]:
    """Which training settings give the fewest bits per byte on this text, in these minutes, on this machine."""
    begin_run()
    changes = profile_changes(corpus, valid, preset, minutes, seed, settings)
    chosen = load_profile(profile, changes)
    cores = psutil.cpu_count(logical=False) or 1
    at_once = at_once or cores
    changes |= {"train.threads": max(1, cores // at_once), "train.samples": 0, "train.card_stories": 0}
    planned = _planned(profile, changes, chosen, grid(profile_changes(settings=vary)), rounds)
    native_task()  # training uses its kernels
    text = corpus_task(chosen.corpus)
    tokenizer = tokenizer_task(chosen.tokenizer, text)
    tokens = tokens_task(text, tokenizer)
    tell_of_waiting()
    outcomes = search(planned, at_once, tokens, tokenizer)
    rows = table(outcomes)
    show_trials(rows)
    return rows


def _planned(
    profile: str, changes: dict[str, Any], chosen: Profile, trials: list[Trial], rounds: int
) -> list[list[tuple[Trial, TrainConfig]]]:
    """Return the checked settings of every trial in every round. Raises: ConfigError before anything is trained."""

    def budget(minutes: float) -> dict[str, Any]:
        steps = round(chosen.train.steps * minutes / chosen.train.minutes)
        return {"train.minutes": minutes} | ({"train.steps": max(1, steps)} if chosen.train.steps else {})

    return [
        [(trial, load_profile(profile, changes | dict(trial) | budget(minutes)).train) for trial in trials]
        for minutes in minutes_of(chosen.train.minutes, rounds)
    ]
