"""The API's own description (OpenAPI 3.1), made from the routes and the types of the rooms.

Litestar lists the routes; msgspec describes the types exactly as they are decoded; the errors, which routes
share, are added here.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from valetkey.api.examples import ANSWERS
from valetkey.api.problems import MEDIA_TYPE, TITLES, Problem
from valetkey.api.routes import OPEN, UNDER_API
from valetkey.api.routes.events import NDJSON
from valetkey.decision.codes import PROBLEM_TYPES
from valetkey.journal.event import Event
from valetkey.journal.segment import product_version

PREFIX = "/api/v1"
_REFERENCE = "#/components/schemas/{name}"

_STATUS_OF_CODE = {
    "INVALID": 400,
    "NOT_AUTHENTICATED": 401,
    "NOT_PERMITTED": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "TOO_SLOW": 408,
    "TOO_LARGE": 413,
    "MEDIA_TYPE_REFUSED": 415,
    "HOST_UNKNOWN": 421,
    "UNEXPECTED": 500,
    "UNAVAILABLE": 503,
}


def describe() -> bytes:
    """The document as JSON. Takes a moment: make it once."""
    routes: list[Any] = [Router(PREFIX, route_handlers=UNDER_API), *OPEN]
    # A throwaway application: the one that serves has no routes for documents of its own.
    application = Litestar(
        routes,
        dependencies={name: Provide(lambda: None, sync_to_thread=False) for name in ("desk", "actor")},
        openapi_config=OpenAPIConfig(
            title="Valetkey control API",
            version=product_version(),
            description="Share the use of an API key, not the key.",
            use_handler_docstrings=True,
            components=Components(
                security_schemes={
                    "token": SecurityScheme(type="http", scheme="bearer", description="An API token.")
                }
            ),
        ),
        logging_config=None,
    )
    document: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(application.openapi_schema.to_schema())
    )
    handlers = _handlers(application)
    document["components"]["schemas"] |= _schemas(handlers.values())
    document["components"]["responses"] = {code: _problem(code) for code in _STATUS_OF_CODE}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete(operation, path, method, handlers[path, method.upper()])
    return msgspec.json.encode(document)


def _handlers(application: Litestar) -> dict[tuple[str, str], HTTPRouteHandler]:
    found = {}
    for route in application.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and handler.resolve_include_in_schema():
                for method in handler.http_methods:
                    found[route.path_format, str(method)] = handler
    return found


def _schemas(handlers: Any) -> dict[str, Any]:
    """Every type that goes in or out, as msgspec decodes and encodes it."""
    kinds: set[Any] = {Problem, Event}
    asked: set[str] = set()
    for handler in handlers:
        signature = handler.parsed_fn_signature
        kinds |= _structs(signature.return_type.annotation)
        if "data" in signature.parameters:
            body = _structs(signature.parameters["data"].annotation)
            kinds |= body
            asked |= {kind.__name__ for kind in body}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)[1]
    for name in asked:
        schemas[name]["additionalProperties"] = False
    return schemas


def _structs(annotation: Any) -> set[Any]:
    inner = (annotation, *get_args(annotation))
    return {kind for kind in inner if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}


def _complete(operation: dict[str, Any], path: str, method: str, handler: HTTPRouteHandler) -> None:
    """Add what Litestar cannot know: errors, who may ask, examples of answers, the form of the stream."""
    room = handler.fn.__module__.rpartition(".")[2]
    operation["operationId"] = f"{room}-{handler.fn.__name__.replace('_', '-')}"
    operation["tags"] = [room]
    if path.startswith(PREFIX):
        operation["security"] = [{"token": []}]
    signature = handler.parsed_fn_signature
    if "requestBody" in operation:
        operation["requestBody"]["required"] = not signature.parameters["data"].has_default
    answers = operation["responses"] = {
        status: answer for status, answer in operation["responses"].items() if status.startswith("2")
    }
    for answer in answers.values():
        answer.pop("headers", None)
        answer["description"] = operation["description"]
        kind = signature.return_type.annotation
        if path.endswith("/stream"):
            answer["content"] = {NDJSON: {"schema": {"$ref": _REFERENCE.format(name="Event")}}}
        elif path.endswith("/openapi.json"):
            answer["content"] = {"application/json": {"schema": {"type": "object"}}}
        elif kind in ANSWERS:
            answer["content"]["application/json"]["examples"] = {"usual": {"value": ANSWERS[kind]}}
    for code in _codes(path, method):
        answers[str(_STATUS_OF_CODE[code])] = {"$ref": f"#/components/responses/{code}"}


def _codes(path: str, method: str) -> list[str]:
    codes = [
        "INVALID",
        "TOO_SLOW",
        "TOO_LARGE",
        "MEDIA_TYPE_REFUSED",
        "HOST_UNKNOWN",
        "UNEXPECTED",
        "UNAVAILABLE",
    ]
    if path.startswith(PREFIX):
        codes += ["NOT_AUTHENTICATED", "NOT_FOUND"]
        if method != "get":
            codes += ["NOT_PERMITTED", "CONFLICT"]
    return codes


def _problem(code: str) -> dict[str, Any]:
    example = Problem(
        type=f"{PROBLEM_TYPES}{code.lower()}",
        title=TITLES[code],
        status=_STATUS_OF_CODE[code],
        code=code,
        detail="What is wrong, in one sentence.",
        next_step="What to do about it.",
    )
    schema = {"$ref": _REFERENCE.format(name="Problem")}
    return {
        "description": TITLES[code],
        "content": {
            MEDIA_TYPE: {"schema": schema, "examples": {"usual": {"value": msgspec.to_builtins(example)}}}
        },
    }
