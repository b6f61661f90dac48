"""The one exception tree of TinyLM.

TinyLMError                 anything that TinyLM itself reports         exit code 1
├── UserError               the caller can mend it                      exit code 2
│   ├── ConfigError         a setting is wrong: names field, value, allowed range
│   ├── DataError           an input file or row is wrong: names file and place
│   └── FormatError         a model or checkpoint file is damaged or of another version
├── ArtifactError           the artifact store cannot give or take an artifact
├── EngineError             the native engine refused or failed
└── StageError              a pipeline stage could not finish
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "EngineError",
    "FormatError",
    "StageError",
    "TinyLMError",
    "UserError",
]


class TinyLMError(Exception):
    """Base of every error that TinyLM raises on purpose."""

    exit_code = 1


class UserError(TinyLMError):
    """Bad usage or bad input; the message says what was found, expected, and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """A setting is missing, unknown or out of range."""


class DataError(UserError):
    """An input file is missing, unreadable or holds nothing usable."""


class FormatError(UserError):
    """A model or checkpoint file is truncated, altered, or of an unknown version."""


class ArtifactError(TinyLMError):
    """The artifact store found a missing, damaged or locked artifact."""


class EngineError(TinyLMError):
    """The native engine is absent, lacks the forced instruction set, or failed."""


class StageError(TinyLMError):
    """A pipeline stage failed for a reason that is not the caller's input."""
