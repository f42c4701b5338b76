"""Architectures: one file per `general.architecture`."""
