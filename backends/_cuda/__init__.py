"""The CUDA backend: drivers, device and the lowering that only CUDA has."""
