"""Chat templates: Jinja, run in a sandbox with what Hugging Face's ``apply_chat_template`` gives.

A template comes out of a model file, so it is not trusted: no attributes beyond a value's own, no
changes to what it is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from compiler.errors import UserError

__all__ = ["render"]


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special: Mapping[str, str],
    add_generation_prompt: bool = True,
) -> str:
    """Text of a chat.

    Parameters
    ----------
    template : Jinja source
    messages : {"role": ..., "content": ...} in order
    special : texts of special tokens by the names that templates use ("bos_token", ...)
    add_generation_prompt : open the assistant's turn

    Raises `UserError` with the template's own words where it refuses the messages.
    """
    try:
        return _compile(template).render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **special,
        )
    # A template is a program: it can fail in any way.
    except Exception as error:
        message = " ".join(str(error).split())
        raise UserError(f"the model's chat template fails: {message}") from error


@lru_cache(maxsize=8)
def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant says, for training; here it only prints."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # Jinja's own escapes HTML characters, which a model never saw.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
