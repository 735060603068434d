"""The service on a cluster: plain YAML, put together by kustomize, one folder per env."""

from __future__ import annotations

from pilotis.render.kubernetes.folder import files

__all__ = ["files"]
