"""Language models: files, tokenizers, graphs, caches, sampling and the public API."""

if __name__ == "llm":  # found by its folder name: the repository root is on sys.path
    raise ImportError("llm/ is imported as jitllm.llm: use `python -P` or start Python elsewhere")
