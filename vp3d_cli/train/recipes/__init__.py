"""Recipes: the training configurations of the bundled weights and of the paper, by name."""

from __future__ import annotations

from pathlib import Path

from vp3d_cli.errors import ConfigError

_FOLDER = Path(__file__).parent


def list_recipes() -> dict[str, Path]:
    """List recipe files by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def find_recipe(name_or_path: str) -> Path:
    """Find a recipe by name, or a TOML file by path.

    Raises:
        ConfigError: there is no such recipe or file.
    """
    recipes = list_recipes()
    path = recipes.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise ConfigError(f"no recipe or TOML file {name_or_path!r}; recipes: {', '.join(recipes)}")
    return path
