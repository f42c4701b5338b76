"""Operations of the GPU backends, one file each, found by name; see `_gpu_lower.operation`."""
