"""Signatures of compiled functions that are not ops; ops all share `jit.DEFAULT_SIGNATURE`."""

SIGNATURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "executor.run_ops": ("intp", ("intp",) * 7),
    "executor.worker_loop": ("intp", ("intp", "intp", "intp")),
}
