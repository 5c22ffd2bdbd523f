"""Packages that only some formats need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from vp3d_cli.errors import MissingDependencyError


def import_extra(module: str, package: str, extra: str, format_name: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: such as ``"pyarrow"``.
        package: its name on the package index.
        extra: the extra of vp3d that installs it.
        format_name: the format that needs it.

    Raises:
        MissingDependencyError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"the format {format_name} needs the package {package}; install it: pip install 'vp3d[{extra}]'"
        ) from error
