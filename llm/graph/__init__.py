"""Graphs of named nodes and their execution."""
