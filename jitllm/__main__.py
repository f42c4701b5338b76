"""The command line: `jitllm` and `python -m jitllm`."""

import sys

from jitllm.llm.cli import main

if __name__ == "__main__":
    sys.exit(main())
