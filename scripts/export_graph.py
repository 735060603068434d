"""Write the ONNX graph of a sentence-transformers BERT model whose weights stay in its published `model.safetensors`.

    python scripts/export_graph.py MODEL_FOLDER GRAPH.onnx      in an environment with torch, transformers and onnx

The graph (128 KB for all-MiniLM-L6-v2) holds the operations; every weight is ONNX external data: a file name, an offset and a
length into the safetensors file, whose bytes are the tensors' own. So the service ships the graph, uses the published file as it
is, verified by its published digest, and needs neither torch nor onnx.

Inputs, int64 (texts, tokens): input_ids, attention_mask, token_type_ids. Output, float32 (texts, tokens, dimension): hidden.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import AutoModel

WEIGHTS = "model.safetensors"
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
OUTPUT = "hidden"


class HiddenStates(torch.nn.Module):  # type: ignore[misc]  # torch is not where the types are checked
    """The encoder, returning its last hidden states alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return found.last_hidden_state


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path, metavar="MODEL_FOLDER")
    options.add_argument("graph", type=Path, metavar="GRAPH.onnx")
    given = options.parse_args()
    model = exported(given.model)
    tensors = point_into(given.model / WEIGHTS, model)
    given.graph.parent.mkdir(parents=True, exist_ok=True)
    given.graph.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{given.graph}: {given.graph.stat().st_size} bytes; {tensors} tensors point into {WEIGHTS}")


def exported(folder: Path) -> onnx.ModelProto:
    """Trace the model. Constants are not folded: folding would copy transposed weights into the graph."""
    module = HiddenStates(AutoModel.from_pretrained(folder, attn_implementation="eager").eval())
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in INPUTS)
    axes = {name: {0: "texts", 1: "tokens"} for name in [*INPUTS, OUTPUT]}
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.onnx"
        torch.onnx.export(
            module,
            example,
            str(whole),
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
            do_constant_folding=False,
        )
        return onnx.load(str(whole))


def point_into(weights: Path, model: onnx.ModelProto) -> int:
    """Replace the bytes of every initialiser by its place in the safetensors file; return how many there are.

    A safetensors file is the header's length (8 bytes, little-endian), the header (JSON), then the tensors' bytes.
    """
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        for tensor in model.graph.initializer:
            entry = header[tensor.name.removeprefix("model.")]
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            file.seek(start)
            if list(tensor.dims) != entry["shape"] or tensor.raw_data != file.read(end - start):
                raise SystemExit(f"{tensor.name} is not stored in {weights} as the graph needs it")
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", weights.name), ("offset", start), ("length", end - start)):
                tensor.external_data.add(key=key, value=str(value))
    return len(model.graph.initializer)


if __name__ == "__main__":
    main()
