"""The CPU backend: lowering, plan, threads and memory."""
