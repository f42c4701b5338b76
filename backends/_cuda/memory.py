"""Matrices on a CUDA device, in the packed layout of `jitllm.kernels.packed`."""

from dataclasses import dataclass
from math import prod

import numpy as np

from jitllm.backends._cpu.memory import mapping, pack_matrix
from jitllm.backends._cpu.threads import ThreadPool
from jitllm.backends._gpu.device import Device, whole_words
from jitllm.backends._gpu.memory import Matrix
from jitllm.backends.base import Weight
from jitllm.kernels import packed


@dataclass(frozen=True, slots=True)
class PackedMatrix(Matrix):
    """Blocks of 16 rows: a matrix, or a stack of them one after the other."""

    @property
    def matrix_bytes(self) -> int:
        """Bytes of one matrix."""
        return packed.matrix_bytes(self.type_name, self.n, self.k)

    @property
    def n_bytes(self) -> int:
        """Bytes on the device."""
        return whole_words(prod(self.shape[:-2]) * self.matrix_bytes)


def upload_packed(device: Device, threads: ThreadPool, weight: Weight) -> PackedMatrix:
    """Pack a tensor, one matrix at a time, and copy it to the device."""
    shape = PackedMatrix(None, weight.type_name, tuple(weight.shape))
    data, room = np.ascontiguousarray(weight.data).reshape(-1), mapping(shape.matrix_bytes)
    memory, count = device.allocate(shape.n_bytes), prod(shape.shape[:-2])
    try:
        for i in range(count):
            source = data.ctypes.data + i * (data.nbytes // count)
            size = shape.n, shape.k
            pack_matrix(threads, weight.type_name, size, source, room.ctypes.data)
            memory.upload(room[: shape.matrix_bytes], i * shape.matrix_bytes)
    except BaseException:
        memory.free()
        raise
    return PackedMatrix(memory, shape.type_name, shape.shape)
