"""The flow `pipeline`: text in; model, sample stories and a report out."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows._pages import show_run
from flows._prefect import (
    EXCLUSIVE_TAG,
    as_task,
    begin_run,
    reports_folder,
    retry_on_network_error,
    run_cell,
    tell_of_waiting,
)
from tinylm import stages
from tinylm.pipeline import RunResult, load_profile, profile_changes

__all__ = ["pipeline"]

corpus_task = as_task(stages.corpus, **retry_on_network_error())
tokenizer_task = as_task(stages.tokenizer)
tokens_task = as_task(stages.tokens)
train_task = as_task(stages.train, tags=[EXCLUSIVE_TAG])
native_task = as_task(stages.native)
export_task = as_task(stages.export)
evaluate_task = as_task(stages.evaluate)
stories_task = as_task(stages.stories)
sweep_task = as_task(stages.sweep, tags=[EXCLUSIVE_TAG])
report_task = as_task(stages.report)


@flow(name="pipeline", flow_run_name="{profile}")
def pipeline(
    profile: Annotated[str, Field(description="named profile, or a .toml file")] = "quickstart",
    corpus: Annotated[tuple[str, ...], Field(description="text to train on: files, globs, folders")] = (),
    valid: Annotated[tuple[str, ...], Field(description="validation text of its own, never trained on")] = (),
    preset: Annotated[str | None, Field(description="shape of the model, by name")] = None,
    minutes: Annotated[float | None, Field(description="minutes of training", gt=0)] = None,
    seed: Annotated[int | None, Field(description="seed of the training", ge=0)] = None,
    settings: Annotated[tuple[str, ...], Field(description="any other setting: table.key=value")] = (),
) -> RunResult:
    """Text to stories: corpus, tokenizer, training, export, evaluation, sweep and report; what is current is reused."""
    begin_run()
    chosen = load_profile(profile, profile_changes(corpus, valid, preset, minutes, seed, settings))
    building = native_task.submit()  # needs no text: runs beside corpus and tokenizer
    text = corpus_task(chosen.corpus)
    tokenizer = tokenizer_task(chosen.tokenizer, text)
    tokens = tokens_task(text, tokenizer)
    native = building.result()  # training uses its kernels
    tell_of_waiting()
    checkpoint = train_task(chosen.train, tokens, tokenizer)
    model = export_task(chosen.export, checkpoint, text, native)
    evaluation = evaluate_task(chosen.evaluate, checkpoint, model, text, native)
    stories = stories_task(chosen.samples, model, text, native)
    tell_of_waiting()
    sweep = sweep_task(chosen.sweep, model, native, run_cell=run_cell)
    report = report_task(sweep, checkpoint=checkpoint, stories=stories)
    refs = [text, tokenizer, tokens, checkpoint, native, model, evaluation, stories, sweep, report]
    result = RunResult({ref.stage: ref for ref in refs}, stages.publish_report(report, sweep, reports_folder()))
    show_run(result)
    return result
