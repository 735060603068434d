"""Embeddings on this machine: all-MiniLM-L6-v2 through ONNX Runtime, no torch."""

from pilotis.adapters.onnx.embedder import OnnxEmbedder

__all__ = ["OnnxEmbedder"]
