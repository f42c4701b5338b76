"""The compiler of GPU kernels: from Python to PTX, or to code that simulates GPU threads."""
