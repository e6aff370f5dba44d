"""The student as an ONNX file: export, metadata, runtime, quantization; nothing that training needs."""
