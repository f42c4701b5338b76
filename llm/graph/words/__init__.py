"""Words of the graph language that have a file of their own, one for each operation."""
