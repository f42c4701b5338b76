"""Operations of the NumPy backend that have a file of their own: `run(run, node, *inputs)`."""
