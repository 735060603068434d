"""/v1/documents: send, list, look at, delete."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from pilotis.adapters.kreuzberg import media_type
from pilotis.api import examples
from pilotis.api.access import Reader, Writer
from pilotis.api.bodies import Text, too_large
from pilotis.api.problems import describe, problem, problem_json, unknown_field
from pilotis.api.upload import Upload, read_form
from pilotis.api.views import document_view, json_response
from pilotis.batch import ingest
from pilotis.batch.names import clean_name
from pilotis.errors import Invalid, PilotisError, Refused

router = APIRouter(prefix="/v1/documents", tags=["documents"])

FIELDS = ("collection", "metadata")
MAX_METADATA_DEPTH = 20
"""What nests deeper the database takes, and then it can neither be copied nor shown."""

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One file or many, of any format that is read: the part's filename names the document.",
                        },
                        "collection": {
                            "type": "string",
                            "minLength": 1,
                            "description": "Where they belong; left out, `default`.",
                        },
                        "metadata": {"type": "string", "description": "A JSON object, to filter by."},
                    },
                },
                "example": {"file": "@keys.md", "collection": "handbook", "metadata": '{"team": "platform"}'},
            }
        },
    }
}


class ListQuery(BaseModel):
    """What a list can be narrowed by."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    collection: Text | None = None
    """Of one collection only."""
    state: Literal["received", "parsing", "embedding", "indexed", "failed"] | None = None
    """Only those that stand there."""
    limit: Annotated[int, Query(ge=1, le=1000)] = 100
    """How many, 1 to 1000."""
    after: Text | None = None
    """The `next` of the page before."""


@router.post(
    "",
    summary="Send documents",
    status_code=202,
    openapi_extra=_FORM,
    responses=examples.responses(
        {"documents": [examples.DOCUMENT | {"state": "received", "changed": True}], "refused": []}, status=202
    ),
    response_class=Response,
)
async def send(request: Request, caller: Writer) -> Response:
    """Stored durably once the answer is 202; then look at the document until its state is `indexed` or `failed`.

    The same content under the same name does no work (`changed` is false); changed content replaces the old one, which stays
    searchable until then. Of several files, those that cannot be taken are listed under `refused` and the others are stored.
    """
    app = request.app.state
    with TemporaryDirectory(dir=app.service.spool, prefix="upload-") as folder:
        uploads, fields = await read_form(request, Path(folder), max_file_bytes=app.env.max_file_bytes)
        _check_form(uploads, fields)
        collection, metadata = fields.get("collection", "default"), _metadata(fields.get("metadata"))
        stored: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        names: set[str] = set()
        for upload in uploads:
            try:
                _check_upload(upload, names, app.env.max_file_bytes)
                document, changed = await ingest.receive(
                    upload.path,
                    app.env,
                    app.service.deps,
                    bu=caller.bu,
                    collection=collection,
                    name=upload.name,
                    media_type=media_type(upload.name, upload.head()),
                    metadata=metadata,
                )
            except Refused as error:
                if len(uploads) == 1:
                    raise
                refused.append({"name": upload.name, "problem": _problem(error, request)})
            else:
                stored.append(document_view(document) | {"changed": changed})
    if not stored:
        return problem(422, "invalid", f"none of the {len(refused)} files can be taken", documents=[], refused=refused)
    return json_response({"documents": stored, "refused": refused}, 202)


@router.get(
    "",
    summary="List documents, newest first",
    responses=examples.responses({"documents": [examples.DOCUMENT], "next": None}),
    response_class=Response,
)
async def find(request: Request, caller: Reader, query: Annotated[ListQuery, Query()]) -> Response:
    found = await request.app.state.service.deps.documents.find(
        caller.bu, collection=query.collection, state=query.state, limit=query.limit, after=query.after
    )
    following = found[-1].id if len(found) == query.limit else None
    return json_response({"documents": [document_view(document) for document in found], "next": following})


@router.get(
    "/{document_id}",
    summary="One document: where it stands, and why it failed",
    responses=examples.responses(examples.DOCUMENT),
    response_class=Response,
)
async def get(request: Request, caller: Reader, document_id: str) -> Response:
    return json_response(document_view(await request.app.state.service.deps.documents.get(caller.bu, document_id)))


@router.delete(
    "/{document_id}",
    summary="Delete a document with its passages and vectors",
    status_code=204,
    responses=examples.responses(None, status=204),
    response_class=Response,
)
async def delete(request: Request, caller: Writer, document_id: str) -> Response:
    """Once the answer is 204, nothing of it is found any more."""
    await ingest.forget(document_id, request.app.state.service.deps, bu=caller.bu)
    return Response(status_code=204)


@router.post(
    "/{document_id}/retry",
    summary="Let a document that failed begin again",
    status_code=202,
    responses=examples.responses(examples.DOCUMENT, status=202),
    response_class=Response,
)
async def retry(request: Request, caller: Writer, document_id: str) -> Response:
    """Does nothing to one that did not fail."""
    deps = request.app.state.service.deps
    if await deps.backlog.retry(caller.bu, [document_id]):
        await deps.queue.nudge("ingest")
    return json_response(document_view(await deps.documents.get(caller.bu, document_id)), 202)


@router.post(
    "/{document_id}/cancel",
    summary="Give up a document that waits to be indexed",
    responses=examples.responses(examples.DOCUMENT),
    response_class=Response,
)
async def cancel(request: Request, caller: Writer, document_id: str) -> Response:
    """It counts as failed, and may be retried; what an older version of it shows stays found. Does nothing to one that is finished."""
    deps = request.app.state.service.deps
    await deps.backlog.cancel(caller.bu, [document_id], reason="cancelled by its owner")
    return json_response(document_view(await deps.documents.get(caller.bu, document_id)))


def _check_form(uploads: list[Upload], fields: dict[str, str]) -> None:
    for name in fields:
        if name == "file":
            raise Invalid("the part 'file' has no filename, so it is no file", remedy="send it as curl does: -F file=@PATH")
        if name not in FIELDS:
            raise unknown_field(name, ("file", *FIELDS), where="form")
    if not uploads:
        raise Invalid("the form holds no file", remedy="send at least one part named 'file' with a filename")


def _check_upload(upload: Upload, names: set[str], max_file_bytes: int) -> None:
    name = clean_name(upload.name)
    if upload.size > max_file_bytes:
        raise too_large(
            repr(name),
            max_file_bytes,
            f"{upload.size:,} bytes",
            remedy="split the file, or raise limits.max_file_mib in the contract",
        )
    if name in names:
        raise Invalid(f"{name!r} is in this form twice", remedy="give each file a name of its own", code="invalid_name")
    names.add(name)


def _metadata(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"'metadata' is not JSON: {error}", remedy='send an object, as {"team": "platform"}') from None
    if not isinstance(metadata, dict):
        raise Invalid("'metadata' is not a JSON object", remedy='send an object, as {"team": "platform"}')
    if _depth(metadata) > MAX_METADATA_DEPTH:
        raise Invalid(
            f"'metadata' nests deeper than {MAX_METADATA_DEPTH}", remedy="send a flat object", code="invalid_metadata"
        )
    return metadata


def _depth(value: Any) -> int:
    deep, level = 0, [value]
    while level := [held for held in level if isinstance(held, dict | list)]:
        deep += 1
        level = [inner for held in level for inner in (held.values() if isinstance(held, dict) else held)]
    return deep


def _problem(error: PilotisError, request: Request) -> dict[str, Any]:
    status, code, detail, remedy = describe(error, request.scope["request_id"])
    told: dict[str, Any] = json.loads(problem_json(status, code, detail, remedy=remedy))
    return told
