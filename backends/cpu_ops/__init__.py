"""Operations of the CPU backend that have a file of their own: `lower(lowering, node)`."""
