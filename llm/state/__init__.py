"""Caches and sequences."""
