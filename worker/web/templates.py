"""Renders pages; whatever a modality wrote is text in them, never markup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from dicom_node.codes import FLAG_SENTENCES
from dicom_node.sentence import INTENDED_USE, percent, reason_sentence
from worker import noticed
from worker.access.roles import Identity
from worker.picture import NOTICE
from worker.verdicts import sentence
from worker.web.gate import form_token

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
# How an answer is said in a word.
WORDS: Final = {
    "PRESENT": "pneumonia",
    "UNDETERMINED": "undetermined",
    "ABSENT": "no pneumonia",
    "NOT_ASSESSED": "not assessed",
    "PENDING": "pending",
    "NO_ANSWER": "no answer",
}


def render(
    request: Request,
    template: str,
    shown: Mapping[str, Any],
    who: Identity | None = None,
    status: int = 200,
) -> HTMLResponse:
    """Render a page for whoever asked."""
    always = {"who": who, "csrf": form_token(request), "path": request.url.path}
    return HTMLResponse(_environment().get_template(template).render(always, **shown), status)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "local": _local,
        "date": _date,
        "percent": percent,
        "reason": reason_sentence,
        "flag": lambda flag: FLAG_SENTENCES.get(flag, flag),
        "word": WORDS.__getitem__,
        "verdict": sentence,
        "target": lambda target: noticed.NAMES.get(target, target),
        "told": noticed.state_of,
        "kind": noticed.kind_of,
        "answered": noticed.answer_of,
        "markdown": _markdown,
    }
    environment.globals |= {"notice": NOTICE, "intended_use": INTENDED_USE}
    return environment


def _local(at: datetime) -> str:
    """Show a time as this machine's clock does."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def _date(value: str) -> str:
    """Show a date of DICOM (PS3.5 6.2, DA); what is none is shown as it came."""
    is_date = len(value) == 8 and value.isdigit()
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if is_date else value


def _markdown(text: str) -> Markup:
    """Render Markdown; markup in it stays text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))  # noqa: S704
