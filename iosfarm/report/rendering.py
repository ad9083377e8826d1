"""A report as one HTML file that loads nothing: styles, script and data are inside, and a policy forbids all else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from iosfarm.report.contents import Report
from iosfarm.report.numbers import milliseconds, percent, times

SCRIPTS = ("base.js", "timeline.js", "graph.js", "charts.js", "detail.js", "main.js")
"""In the order in which they need each other."""


def render(report: Report) -> str:
    """The page. Names in a report are data: they are escaped in the markup and in the JSON, and set as text by the
    script; the page's own policy lets nothing else run.
    """
    style = _text("report.css")
    script = "(() => {\n'use strict';\n" + "\n".join(map(_text, SCRIPTS)) + "})();\n"
    environment = Environment(
        loader=DictLoader({"report.html": _text("report.html")}), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"ms": milliseconds, "percent": percent, "times": times}
    return environment.get_template("report.html").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        data=htmlsafe_json_dumps(asdict(report), allow_nan=False, separators=(",", ":"), ensure_ascii=False),
    )


def _text(name: str) -> str:
    return (files("iosfarm.report") / "page" / name).read_text(encoding="utf-8")


def _policy_hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline script or style: https://www.w3.org/TR/CSP3/#source-list-syntax"""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
