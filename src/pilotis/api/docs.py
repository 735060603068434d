"""The API's own page: its OpenAPI document as plain HTML, with an example to paste for each operation. Needs no network."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup, escape

router = APIRouter(include_in_schema=False)

_BACKTICKS = re.compile(r"`([^`\n]+)`")


@router.get("/")
async def root() -> RedirectResponse:
    return RedirectResponse("/docs")


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    schema = request.app.openapi()
    base = str(request.base_url).rstrip("/")
    return HTMLResponse(_template().render(info=schema["info"], operations=[*_operations(schema, base)]))


@cache
def _template() -> Template:
    pages = Environment(loader=PackageLoader("pilotis.api"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters["code"] = _code
    return pages.get_template("docs.html")


def _code(text: str) -> Markup:
    """Escaped text, with what stands between backticks as code."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before


def _operations(schema: dict[str, Any], base: str) -> list[dict[str, Any]]:
    return [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "description": operation.get("description", ""),
            "parameters": operation.get("parameters", []),
            "body": _content(operation.get("requestBody", {})),
            "responses": {status: _response(response) for status, response in operation.get("responses", {}).items()},
            "curl": _curl(method.upper(), base + path, operation),
        }
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def _content(part: dict[str, Any]) -> dict[str, Any] | None:
    for media_type, content in part.get("content", {}).items():
        properties = content.get("schema", {}).get("properties", {})
        return {"media_type": media_type, "fields": properties, "required": content.get("schema", {}).get("required", [])}
    return None


def _response(response: dict[str, Any]) -> dict[str, Any]:
    examples = [content["example"] for content in response.get("content", {}).values() if "example" in content]
    shown = [example if isinstance(example, str) else json.dumps(example, ensure_ascii=False, indent=2) for example in examples]
    return {"description": response.get("description", ""), "examples": shown}


def _curl(method: str, url: str, operation: dict[str, Any]) -> str:
    parts = [f"curl -s {'' if method == 'GET' else f'-X {method} '}'{url}'"]
    if operation.get("security"):
        parts.append('-H "authorization: Bearer $KEY"')
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        if media_type == "multipart/form-data":
            parts += [f"-F '{name}={value}'" for name, value in content.get("example", {}).items()]
        else:
            example = json.dumps(content.get("example", {}), ensure_ascii=False).replace("'", "'\\''")
            parts += [f"-H 'content-type: {media_type}'", f"-d '{example}'"]
    return " \\\n  ".join(parts)
