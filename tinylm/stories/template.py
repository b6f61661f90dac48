"""Prompts built from a row's columns: `Once upon a time, a {adjective} {animal}`."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from tinylm.errors import ConfigError, DataError, FormatError

__all__ = ["THEME_TEMPLATE", "check_template", "check_theme_template", "fill", "template_columns", "theme_template"]

# An opening that children's stories really have, so that a small model stays on ground it knows.
THEME_TEMPLATE = "Once upon a time, there was a little girl who wanted to learn about {theme}."


def check_template(template: str) -> None:
    """Raise ValueError when `template` has no place, or a place that is not one plain column name."""
    if not template_columns(template):
        raise ValueError(f"template needs at least one {{column}} place; found {template!r}")


def template_columns(template: str) -> list[str]:
    """Return the column names in `template`, in order, without repeats.

    Raises: ValueError on unbalanced braces or a place with attributes, indexes, formats or conversions.
    """
    names: list[str] = []
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template: {error}; found {template!r}, expected places such as {{animal}}") from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if spec or conversion or not name or any(mark in name for mark in ".[]"):
            raise ValueError(f"template places are plain column names such as {{animal}}; found {{{name}}}")
        if name not in names:
            names.append(name)
    return names


def fill(template: str, fields: Mapping[str, object]) -> str:
    """Return `template` with each place replaced by the row's value.

    Raises: DataError naming a column that the row lacks or that holds neither text nor a number.
    """
    values: dict[str, str] = {}
    for name in template_columns(template):
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"template column {name!r} needs text or a number; found {type(value).__name__}")
        values[name] = str(value)
    return template.format_map(values)


def check_theme_template(template: str) -> None:
    """Raise ValueError unless `{theme}` is the one place of `template`."""
    if template_columns(template) != ["theme"]:
        raise ValueError(f"a theme template has the place {{theme}} and no other; found {template!r}")


def theme_template(provenance: Mapping[str, object]) -> str:
    """Return how a model's stories about a theme begin: what its file says, else an opening that most models know.

    Raises: FormatError when the file's `theme_template` is no template.
    """
    template = provenance.get("theme_template", THEME_TEMPLATE)
    try:
        check_theme_template(str(template))
    except ValueError as error:
        raise FormatError(f"model: {error}") from None
    return str(template)


def theme_prompt(theme: str, provenance: Mapping[str, object]) -> str:
    """Return the prompt for a story about `theme` by the model whose file has this `provenance`.

    Raises: ConfigError when the theme is empty; FormatError as `theme_template`.
    """
    if not theme.strip():
        raise ConfigError("theme: found an empty one; name what the story is about, such as friendship")
    return fill(theme_template(provenance), {"theme": theme.strip()})
