"""OpenAI batch lines in, OpenAI batch output lines out (POST /v1/completions).

Source: OpenAI's Batch API reference: input `{custom_id, method, url, body}`, output
`{id, custom_id, response: {status_code, request_id, body}, error}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.config import GenerateOptions
from tinylm.errors import DataError

__all__ = ["answer_line", "is_batch_line", "plain_fields"]

_URL = "/v1/completions"
_TAKEN = frozenset({"prompt", "max_tokens", "n", *GenerateOptions.model_fields})
_IGNORED = frozenset({"model", "user", "metadata", "stream_options"})
# Options of the API that this engine has not; their neutral values change nothing and are let through.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "stream": (None, False),
    "echo": (None, False),
    "logprobs": (None,),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
}


def is_batch_line(fields: Mapping[str, Any]) -> bool:
    """Return whether a row has the shape of an OpenAI batch request."""
    return "body" in fields and ("custom_id" in fields or "url" in fields)


def plain_fields(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch line's request as this product's row fields.

    Raises: DataError when the line is for another endpoint or asks for what the engine has not.
    """
    if line.get("method", "POST") != "POST":
        raise DataError(f"method must be POST; found {str(line['method'])[:100]!r}")
    if line.get("url", _URL) != _URL:
        raise DataError(f"url must be {_URL}; found {str(line['url'])[:100]!r}")
    body = line["body"]
    if not isinstance(body, dict):
        raise DataError(f"body must be an object; found {type(body).__name__}")
    for name, value in body.items():
        if name in _NEUTRAL:
            if value not in _NEUTRAL[name]:
                raise DataError(f"body.{name}: not offered here; found {str(value)[:100]!r}")
        elif name not in _TAKEN and name not in _IGNORED:
            raise DataError(f"body.{name[:100]}: unknown option")
    fields = {name: value for name, value in body.items() if name in _TAKEN}
    return fields if line.get("custom_id") is None else {**fields, "id": line["custom_id"]}


def answer_line(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the batch output line for one row from its samples' output rows, sample 0 first.

    Times and request numbers would differ from run to run, so `created` is 0 and ids come from the row.
    """
    first = answers[0]
    line = {"id": f"batch_req_{first['row']}", "custom_id": first["id"], "response": None, "error": None}
    if first["finish_reason"] == "invalid_input":
        return {**line, "error": {"code": "invalid_input", "message": first["error"]}}
    prompt_tokens = int(first["prompt_tokens"])
    output_tokens = sum(int(answer["output_tokens"]) for answer in answers)
    body = {
        "id": f"cmpl-{first['row']}",
        "object": "text_completion",
        "created": 0,
        "model": first["model"],
        "choices": [_choice(answer) for answer in answers],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": prompt_tokens + output_tokens,
        },
    }
    return {**line, "response": {"status_code": 200, "request_id": f"req_{first['row']}", "body": body}}


def _choice(answer: Mapping[str, Any]) -> dict[str, Any]:
    reason = "stop" if answer["finish_reason"] == "stop" else "length"
    return {"text": answer["text"], "index": answer["sample"], "logprobs": None, "finish_reason": reason}
