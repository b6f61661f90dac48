"""Models of other tools in, ours out: Hugging Face, GGUF, llama2.c, ONNX."""
