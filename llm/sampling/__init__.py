"""Samplers: one file per sampler."""
