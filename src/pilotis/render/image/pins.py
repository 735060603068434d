"""The images of others, each pinned by the digest of its index, which covers every architecture.

To renew one: `docker buildx imagetools inspect IMAGE:TAG --format '{{ .Manifest.Digest }}'`, and write tag and digest here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pin:
    """An image: what it is called, which version was taken, and its digest (SHA-256, hex)."""

    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}@sha256:{self.digest}"


PYTHON = Pin(
    "docker.io/library/python", "3.12.15-slim-bookworm", "54c85f3c47607a77f32adec749d3c81d1348bf25833671f512b26a9b6d778cb3"
)
POSTGRES = Pin("docker.io/pgvector/pgvector", "0.8.6-pg16", "ccc6e83d6e35e931dc7c5def2022729d5a6c370318d099181995567ff1fb4d6b")
REDIS = Pin("docker.io/library/redis", "7.4.11-alpine", "ff02b58f971e7d7d156a1267e283fcbbeee91773b6aa36c49dac28ecfe28eadf")
HAPROXY = Pin("docker.io/library/haproxy", "3.2.7-alpine", "3b80483d47e1c7d1fc7eb4b9104f33d9a51259769be299eb675524dca2bc8157")
PROMETHEUS = Pin("docker.io/prom/prometheus", "v3.5.0", "63805ebb8d2b3920190daf1cb14a60871b16fd38bed42b857a3182bc621f4996")
ALERTMANAGER = Pin("docker.io/prom/alertmanager", "v0.28.1", "27c475db5fb156cab31d5c18a4251ac7ed567746a2483ff264516437a39b15ba")
GRAFANA = Pin("docker.io/grafana/grafana", "12.0.2", "b5b59bfc7561634c2d7b136c4543d702ebcc94a3da477f21ff26f89ffd4214fa")
COLLECTOR = Pin(
    "docker.io/otel/opentelemetry-collector-contrib",
    "0.128.0",
    "1ab0baba0ee3695d823c46653d8a6e8894896e668ce8bd7ebe002e948d827bc7",
)
