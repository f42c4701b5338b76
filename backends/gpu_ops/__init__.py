"""Operations of the GPU backends, one file each, found by name; see `gpu_lower.operation`."""
