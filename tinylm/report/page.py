"""Renders templates into one self-contained HTML file: style, script and charts inline, all text escaped."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
    for name in ("style.css", "script.js"):
        # Our own files: the only text besides charts that is not escaped.
        environment.globals[name.replace(".", "_")] = Markup((_TEMPLATES / name).read_text())
    return environment


def write_page(out_html: Path, template: str, **values: Any) -> None:
    """Write `template` filled with `values` to `out_html`, whole or not at all."""
    text = _environment().get_template(template).render(**values)
    out_html.parent.mkdir(parents=True, exist_ok=True)
    temporary = out_html.with_name(out_html.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out_html)
