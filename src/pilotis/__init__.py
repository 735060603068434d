"""Pilotis: a RAG service that is shipped with its own deployment."""

__version__ = "0.1.0"
