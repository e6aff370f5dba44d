"""Files are checked before ONNX Runtime opens them."""

from pathlib import Path
from typing import Any

import pytest

from clips4.errors import UserError
from clips4.models.onnx.metadata import check_graph, seal

onnx = pytest.importorskip("onnx")


def graph(**tensor: Any) -> bytes:
    """A graph of one constant, with the metadata by which clips4's files are known."""
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    for key, value in tensor.items():
        setattr(weight, key, value)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [y], [weight]))
    onnx.helper.set_model_props(model, {"clips4.card": "{}"})
    return bytes(model.SerializeToString())


def test_seal_is_readable_as_the_last_metadata_entry(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(seal(graph()))
    check_graph(tmp_path / "m.onnx")
    assert [entry.key for entry in onnx.load(tmp_path / "m.onnx").metadata_props] == ["clips4.card", "clips4.sha256"]


def test_check_graph_any_changed_or_missing_byte_raises(tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", seal(graph())
    for place in range(len(data)):
        for changed in (data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :], data[:place]):
            path.write_bytes(changed)
            with pytest.raises(UserError, match="export the run again"):
                check_graph(path)


def test_check_graph_data_in_another_file_raises(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(seal(graph(data_location=1)))
    with pytest.raises(UserError, match="data in other files, which are never read"):
        check_graph(tmp_path / "m.onnx")
