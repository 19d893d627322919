"""Image towers as other programs run them: written as ONNX once, then compiled by OpenVINO or ONNX Runtime."""
