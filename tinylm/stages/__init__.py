"""One function per stage: settings and artifacts in, artifact out. The store decides what is already current.

What a stage does lives in the packages below; here is only what each one reads, and the version of its code.
"""

from __future__ import annotations

from tinylm.stages.model import at_precision, evaluate, export, native, recipe, train
from tinylm.stages.output import publish_report, report, stories, sweep
from tinylm.stages.settings import RECIPE, EvaluateConfig, ExportConfig, SamplesConfig
from tinylm.stages.text import borrowed_tokenizer, corpus, tokenizer, tokens

__all__ = [
    "RECIPE",
    "EvaluateConfig",
    "ExportConfig",
    "SamplesConfig",
    "at_precision",
    "borrowed_tokenizer",
    "corpus",
    "evaluate",
    "export",
    "native",
    "publish_report",
    "recipe",
    "report",
    "stories",
    "sweep",
    "tokenizer",
    "tokens",
    "train",
]
