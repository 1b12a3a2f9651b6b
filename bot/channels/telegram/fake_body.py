"""Bodies of requests: JSON, urlencoded forms, multipart forms with files."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl


class BodyRefused(ValueError):
    """The body cannot be read."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart form."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    values: dict[str, Any]
    uploads: dict[str, Upload]


_PARAMETER = re.compile(rb';\s*(name|filename)="((?:[^"\\]|\\.)*)"')


def parse_body(content_type: bytes, body: bytes, query: str = "") -> Form:
    """Return the parameters of a request, those of its query included; raise BodyRefused."""
    values: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
    if not body:
        return Form(values, {})
    kind = content_type.partition(b";")[0].strip().lower()
    try:
        if kind == b"application/json":
            return Form(values | _parse_json(body), {})
        if kind == b"multipart/form-data":
            return _parse_multipart(values, _boundary(content_type), body)
        return Form(values | dict(parse_qsl(body.decode(), keep_blank_values=True)), {})
    except UnicodeDecodeError as error:
        raise BodyRefused("strings must be encoded in UTF-8") from error


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise BodyRefused("can't parse JSON object") from error
    if not isinstance(parsed, dict):
        raise BodyRefused("expected a JSON object")
    return parsed


def _boundary(content_type: bytes) -> bytes:
    _, found, rest = content_type.partition(b"boundary=")
    if not found:
        raise BodyRefused("boundary of multipart/form-data not found")
    return rest.partition(b";")[0].strip().strip(b'"')


def _parse_multipart(values: dict[str, Any], boundary: bytes, body: bytes) -> Form:
    uploads = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, found, content = part.partition(b"\r\n\r\n")
        if not found:
            raise BodyRefused("a part of multipart/form-data has no header")
        names = {key: value.decode() for key, value in _PARAMETER.findall(head)}
        name, filename = names.get(b"name", ""), names.get(b"filename")
        if filename is None:
            values[name] = content.decode()
        else:
            uploads[name] = Upload(filename, content)
    return Form(values, uploads)
