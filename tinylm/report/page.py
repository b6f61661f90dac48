"""Renders templates into one self-contained HTML file: style, script and charts inline, all text escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tinylm.outputs import whole_file
from tinylm.report import words

__all__ = ["write_page"]

_TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in words.__all__:
        environment.filters[name] = getattr(words, name)
    for kind, name in (("style", "style.css"), ("script", "script.js")):
        text = (_TEMPLATES / name).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        # Our own files: the only text besides charts that is not escaped, and all that a browser may run.
        environment.globals[kind] = Markup(text)
        environment.globals[f"{kind}_source"] = Markup(f"'sha256-{digest}'")
    return environment


def write_page(out_html: Path, template: str, **values: Any) -> None:
    """Write `template` filled with `values` to `out_html`, whole or not at all."""
    text = _environment().get_template(template).render(**values)
    with whole_file(out_html) as temporary:
        temporary.write_text(text, encoding="utf-8")
