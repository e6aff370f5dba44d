"""The student as an ONNX file: writing, reading back, running, quantizing."""
