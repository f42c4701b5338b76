"""Sequences in files: records, checkpoints, what is saved and restored; llama.cpp's files."""
