"""A provider of Terraform that knows schemas and makes nothing: enough for `terraform validate`, with no network and no binary.

    python terraform_provider.py SCHEMAS.json NAME     serves until its input ends; its first line is for TF_REATTACH_PROVIDERS

The protocol is Terraform's plug-in protocol, version 5 (docs/plugin-protocol of hashicorp/terraform). A schema is
{"attributes": {name: "string"}, "blocks": {name: schema}}; an attribute that must be given ends in "!", one that only is told in "=",
one that is written and never stored in "~".
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

SECTIONS = {"resources": 2, "data": 3, "ephemeral": 8}
LIST = 2
SILENT = ("ValidateResourceTypeConfig", "ValidateDataSourceConfig", "ValidateEphemeralResourceConfig", "Configure", "Stop")


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def content(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def attribute(name: str, kind: str) -> bytes:
    """Protobuf's Schema.Attribute: optional and told by the provider, unless its mark says otherwise."""
    mark = kind[-1] if kind[-1] in "!=~" else ""
    flags = {"!": [4], "=": [6], "~": [5, 10], "": [5, 6]}[mark]
    given = content(1, name.encode()) + content(2, json.dumps(type_of(kind.rstrip("!=~"))).encode())
    return given + b"".join(number(flag, 1) for flag in flags)


def type_of(text: str) -> Any:
    """list(string) as ["list", "string"]."""
    outer, bracket, inner = text.partition("(")
    return [outer, type_of(inner.removesuffix(")"))] if bracket else text


def block(schema: Mapping[str, Any]) -> bytes:
    found = b"".join(content(2, attribute(name, kind)) for name, kind in schema.get("attributes", {}).items())
    for name, inner in schema.get("blocks", {}).items():
        found += content(3, content(1, name.encode()) + content(2, block(inner)) + number(3, LIST))
    return found


def schema(found: Mapping[str, Any]) -> bytes:
    return content(2, block(found))


def schemas(known: Mapping[str, Any]) -> bytes:
    """GetProviderSchema.Response."""
    answer = content(1, schema(known["provider"]))
    for section, field in SECTIONS.items():
        for name, found in known.get(section, {}).items():
            answer += content(field, content(1, name.encode()) + content(2, schema(found)))
    return answer


def handlers(known: Mapping[str, Any]) -> list[Any]:
    """The provider's service, and the one by which plug-ins open further streams, of which there are none."""
    answer = schemas(known)
    answers: dict[str, Any] = {"GetSchema": lambda *_: answer, "PrepareProviderConfig": lambda asked, _: asked}
    answers |= dict.fromkeys(SILENT, lambda *_: b"")
    unary = {name: grpc.unary_unary_rpc_method_handler(told) for name, told in answers.items()}
    none = grpc.stream_stream_rpc_method_handler(lambda asked, _: (one for one in asked if False))
    return [
        grpc.method_handlers_generic_handler("tfplugin5.Provider", unary),
        grpc.method_handlers_generic_handler("plugin.GRPCBroker", {"StartStream": none}),
    ]


def main(arguments: Iterable[str]) -> None:
    path, name = arguments
    known = json.loads(Path(path).read_text())["provider"]
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        server = grpc.server(ThreadPoolExecutor(8), handlers=handlers(known))
        server.add_insecure_port(f"unix:{address}")
        server.start()
        found = {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True}
        print(json.dumps({name: {**found, "Addr": {"Network": "unix", "String": address}}}), flush=True)
        sys.stdin.read()
        server.stop(0).wait()


if __name__ == "__main__":
    main(sys.argv[1:])
