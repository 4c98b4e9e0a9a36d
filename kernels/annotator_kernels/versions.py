"""Versions of what is installed, told without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(distribution: str) -> str:
    """Version of an installed Python package, by its metadata (nothing is imported), or "absent"."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"
