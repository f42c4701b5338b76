"""Signatures of compiled functions that are not ops; ops all share `jit.DEFAULT_SIGNATURE`."""

SIGNATURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "executor.begin": ("intp", ("intp",) * 4),
    "executor.run_ops": ("intp", ("intp",) * 5),
    "executor.worker_loop": ("intp", ("intp",) * 3),
    "fibers.advance": ("intp", ("intp",) * 3),
    "fibers.place": ("intp", ("intp",) * 6),
    "fibers.run_groups": ("intp", ("intp",)),
    "fiber_races.watch": ("intp", ("intp",) * 6),
    "fiber_trace.record": ("intp", ("intp",) * 6),
}
