"""Templates to pages that ask nothing of the network and run no script but ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

# Nothing in the data can end the element it is in, or be read as markup or as the end of a line of script.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(template: str, *, scripts: Sequence[str], data: Any, **values: Any) -> str:
    """A self-contained page.

    The page's policy forbids every request, and every script and style whose SHA-256 is not that of ours.

    Args:
        template: of ``reports/templates``; it extends ``base.html.j2``.
        scripts: files of ``reports/static``, in the order in which they run.
        data: plain JSON for the scripts, in an element that is not executed.
        values: of the template; all text in them is escaped.
    """
    code = [static(name) for name in scripts]
    style = static("page.css")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, code))}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    text = (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(style),
            scripts=[Markup(part) for part in code],
            data=Markup(embedded(data)),
            **values,
        )
    )
    # A text can hold half of a surrogate pair, which no file can.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def embedded(data: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.translate(_ESCAPES)


@cache
def static(name: str) -> str:
    """A file of ``reports/static``."""
    return files("reports").joinpath("static", name).read_text(encoding="utf-8")


def template_digest() -> str:
    """SHA-256 over templates and static files: pages drawn with others are drawn again."""
    digest = hashlib.sha256()
    for folder in ("templates", "static"):
        for entry in sorted(files("reports").joinpath(folder).iterdir(), key=lambda entry: entry.name):
            if entry.is_file():
                digest.update(entry.name.encode() + b"\0" + entry.read_bytes())
    return digest.hexdigest()


def formula(text: str) -> Markup:
    """A chemical formula with its numbers as subscripts."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(text))))


def short(value: float | None) -> str:
    """Four significant digits; a value that is not there is undefined, not 0."""
    return "undefined" if value is None or value != value else f"{value:.4g}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"formula": formula, "short": short}
    return environment
