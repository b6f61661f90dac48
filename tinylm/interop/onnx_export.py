"""An ONNX graph with KV cache that ONNX Runtime runs: standard operators only, float32, opset 18.

Inputs:  input_ids int64 (B, T); past_key_values.{i}.key and .value float32 (B, G, P, D), P = 0 to begin.
Outputs: logits float32 (B, T, V); present.{i}.key and .value float32 (B, G, P + T, D), the next call's past.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.backends.numpy_backend import position_table, rotations
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, DataError
from tinylm.interop.checkpoint import Checkpoint
from tinylm.interop.tokenizer_json import check_writable, sentencepiece_json
from tinylm.modelfile import weight_shapes
from tinylm.tokenizer import Tokenizer

__all__ = ["check_onnx", "write_onnx"]

_OPSET = 18
_IR_VERSION = 10  # what ONNX Runtime 1.18 and later read
_MAX_BYTES = 1_900_000_000  # protobuf files end at 2 GB


def check_onnx(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """Return notes on an export; DataError if the graph would not fit one file or the tokenizer no tokenizer.json."""
    check_writable(tokenizer, "onnx")
    size = 4 * sum(math.prod(shape) for shape in weight_shapes(config).values())
    if size > _MAX_BYTES:
        raise DataError(f"onnx: {size:,} bytes of float32 weights; one ONNX file holds {_MAX_BYTES:,}")
    return []


def write_onnx(checkpoint: Checkpoint, path: Path, dtype: str) -> None:
    """Write the graph to `path` and the tokenizer to `tokenizer.json` in the same folder."""
    del dtype  # float32
    try:
        import onnx
    except ImportError:
        raise ConfigError("ONNX export needs the onnx package; pip install 'tinylm[interop]'") from None
    graph = _ModelGraph(onnx, checkpoint)
    model = onnx.helper.make_model(
        graph.build(),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="tinylm",
    )
    facts = {
        "tinylm.config": json.dumps(checkpoint.config.model_dump(mode="json"), sort_keys=True),
        "tinylm.provenance": json.dumps(checkpoint.provenance, sort_keys=True, default=str),
        "tinylm.specials": json.dumps(
            {"bos_id": checkpoint.bos_id, "eos_id": checkpoint.eos_id, "add_bos": checkpoint.add_bos}
        ),
    }
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    document = checkpoint.tokenizer
    if checkpoint.tokenizer_kind == "sentencepiece":
        document = sentencepiece_json(document)
    path.with_name("tokenizer.json").write_bytes(document)


class _Builder:
    """Adds nodes one by one; every method returns the name of its result."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: tuple[str, ...], outputs: int, **attributes: Any) -> list[str]:
        names = [f"{kind}_{len(self.nodes)}_{j}" for j in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def rename(self, value: str, name: str) -> str:
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name]))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"float_{value!r}", np.float32(value))  # type: ignore[arg-type]

    def integers(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def integer(self, value: int) -> str:
        return self.constant(f"int_{value}", np.array(value, np.int64))


class _ModelGraph(_Builder):
    def __init__(self, onnx: Any, checkpoint: Checkpoint) -> None:
        super().__init__(onnx)
        self.config = checkpoint.config
        self.weights = checkpoint.weights

    def build(self) -> Any:
        config, helper = self.config, self.onnx.helper
        float32, int64 = self.onnx.TensorProto.FLOAT, self.onnx.TensorProto.INT64
        inputs = [helper.make_tensor_value_info("input_ids", int64, ["batch", "sequence"])]
        outputs = [helper.make_tensor_value_info("logits", float32, ["batch", "sequence", config.vocab_size])]
        for i in range(config.n_layers):
            for what in ("key", "value"):
                shape: list[Any] = ["batch", config.n_kv_heads, "past", config.head_width]
                inputs.append(helper.make_tensor_value_info(f"past_key_values.{i}.{what}", float32, shape))
                grown = [*shape[:2], "total", shape[3]]
                outputs.append(helper.make_tensor_value_info(f"present.{i}.{what}", float32, grown))
        self._forward()
        return helper.make_graph(self.nodes, "tinylm", inputs, outputs, list(self.constants.values()))

    def _forward(self) -> None:
        config = self.config
        past = self.op("Gather", self.op("Shape", "past_key_values.0.key"), self.integer(2))
        count = self.op("Gather", self.op("Shape", "input_ids"), self.integer(1))
        total = self.op("Add", past, count)
        positions = self.op("Range", past, total, self.integer(1))  # (T)
        embedding = self.weight("tok_embeddings.weight")
        x = self.op("Gather", embedding, "input_ids")  # (B, T, C)
        table = position_table(config, self.weights)
        if table is not None:
            x = self.op("Add", x, self.op("Gather", self.constant("positions", table), positions))
        self._masks(positions, total)
        self._turns(positions)
        for i in range(config.n_layers):
            attended = self._attention(i, self._norm(f"layers.{i}.attn_norm", x))
            if config.parallel_residual:
                x = self.op("Add", self.op("Add", x, attended), self._feed_forward(i, x))
            else:
                x = self.op("Add", x, attended)
                x = self.op("Add", x, self._feed_forward(i, x))
        x = self._norm("norm", x)
        head = embedding if config.tied_embeddings else self.weight("head.weight")
        logits = self.op("MatMul", x, self.op("Transpose", head, perm=[1, 0]))
        if config.logit_softcap:
            cap = self.number(config.logit_softcap)
            logits = self.op("Mul", cap, self.op("Tanh", self.op("Div", logits, cap)))
        self.rename(logits, "logits")

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def _masks(self, positions: str, total: str) -> None:
        """Bool (T, P + T): what each new position may look at, everywhere and within the local window."""
        seen = self.op("Range", self.integer(0), total, self.integer(1))
        distance = self.op("Sub", self.op("Unsqueeze", positions, self.integers(1)), seen)
        self.visible = self.op("GreaterOrEqual", distance, self.integer(0))
        if self.config.local_window:
            near = self.op("Less", distance, self.integer(self.config.local_window))
            self.visible_near = self.op("And", self.visible, near)

    def _turns(self, positions: str) -> None:
        if self.config.position == "rope":
            cos, sin = rotations(self.config)
            self.cos = self.op("Gather", self.constant("cos", cos), positions)  # (T, rotary_dim / 2)
            self.sin = self.op("Gather", self.constant("sin", sin), positions)

    def _norm(self, name: str, x: str) -> str:
        if self.config.norm == "rmsnorm":
            return self._rms_norm(f"{name}.weight", x)
        width = self.config.d_model
        bias = self.weights.get(f"{name}.bias", np.zeros(width, np.float32))
        return self.op(
            "LayerNormalization",
            x,
            self.weight(f"{name}.weight"),
            self.constant(f"{name}.bias", bias),
            axis=-1,
            epsilon=self.config.norm_eps,
        )

    def _rms_norm(self, weight: str, x: str) -> str:
        mean = self.op("ReduceMean", self.op("Mul", x, x), self.integers(-1), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.number(self.config.norm_eps)))
        return self.op("Mul", self.op("Div", x, root), self.weight(weight))

    def _linear(self, name: str, x: str) -> str:
        rows = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)  # (in, out), as MatMul wants it
        y = self.op("MatMul", x, rows)
        return self.op("Add", y, self.weight(f"{name}.bias")) if f"{name}.bias" in self.weights else y

    def _heads(self, name: str, x: str, norm: str) -> str:
        """Project and split into heads: (B, heads, T, D), with QK-norm where the model has it."""
        split = self.op("Reshape", self._linear(name, x), self.integers(0, 0, -1, self.config.head_width))
        if norm and self.config.qk_norm:
            split = self._rms_norm(norm, split)
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def _rotate(self, x: str) -> str:
        if self.config.position != "rope":
            return x
        half = self.config.rotary_dim // 2
        rest = self.config.head_width - 2 * half
        sizes = self.integers(half, half, rest) if rest else self.integers(half, half)
        first, second, *others = self.ops("Split", (x, sizes), 3 if rest else 2, axis=-1)
        turned = (
            self.op("Sub", self.op("Mul", first, self.cos), self.op("Mul", second, self.sin)),
            self.op("Add", self.op("Mul", second, self.cos), self.op("Mul", first, self.sin)),
        )
        return self.op("Concat", *turned, *others, axis=-1)

    def _attention(self, i: int, x: str) -> str:
        config = self.config
        layer = f"layers.{i}.attn"
        q = self._rotate(self._heads(f"{layer}.wq", x, f"{layer}.q_norm.weight"))
        k = self._rotate(self._heads(f"{layer}.wk", x, f"{layer}.k_norm.weight"))
        v = self._heads(f"{layer}.wv", x, "")
        k = self.rename(self.op("Concat", f"past_key_values.{i}.key", k, axis=2), f"present.{i}.key")
        v = self.rename(self.op("Concat", f"past_key_values.{i}.value", v, axis=2), f"present.{i}.value")
        group = config.n_heads // config.n_kv_heads  # query heads that share one key/value head
        q = self.op("Reshape", q, self.integers(0, config.n_kv_heads, group, -1, config.head_width))
        k_columns = self.op("Transpose", self.op("Unsqueeze", k, self.integers(2)), perm=[0, 1, 2, 4, 3])
        scores = self.op("Mul", self.op("MatMul", q, k_columns), self.number(1 / math.sqrt(config.head_width)))
        near = config.local_window and i in config.local_layers
        visible = self.visible_near if near else self.visible
        shares = self.op("Softmax", self.op("Where", visible, scores, self.number(-math.inf)), axis=-1)
        mixed = self.op("MatMul", shares, self.op("Unsqueeze", v, self.integers(2)))  # (B, G, group, T, D)
        joined = self.op("Reshape", mixed, self.integers(0, config.n_heads, -1, config.head_width))
        rows = self.op("Reshape", self.op("Transpose", joined, perm=[0, 2, 1, 3]), self.integers(0, 0, -1))
        return self._linear(f"{layer}.wo", rows)

    def _feed_forward(self, i: int, x: str) -> str:
        x = self._norm(f"layers.{i}.mlp_norm", x)
        up = self._linear(f"layers.{i}.mlp.w_up", x)
        match self.config.activation:
            case "swiglu":
                gate = self._linear(f"layers.{i}.mlp.w_gate", x)
                hidden = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
            case "relu2":
                positive = self.op("Relu", up)
                hidden = self.op("Mul", positive, positive)
            case "gelu":
                hidden = self._gelu(up, self.op("Erf", self.op("Mul", up, self.number(math.sqrt(0.5)))))
            case "gelu_tanh":
                cube = self.op("Mul", self.op("Mul", up, up), up)
                inner = self.op("Add", up, self.op("Mul", cube, self.number(0.044715)))
                hidden = self._gelu(up, self.op("Tanh", self.op("Mul", inner, self.number(math.sqrt(2 / math.pi)))))
        return self._linear(f"layers.{i}.mlp.w_down", hidden)

    def _gelu(self, x: str, bend: str) -> str:
        return self.op("Mul", self.op("Mul", x, self.number(0.5)), self.op("Add", bend, self.number(1.0)))
