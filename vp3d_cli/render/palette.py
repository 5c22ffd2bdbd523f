"""Colours of people (light tone left, dark tone right) and of the scene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

Color = tuple[int, int, int]  # BGR, 0..255


@dataclass(frozen=True)
class PersonColors:
    """The three colours of one person, BGR.

    Attributes:
        left: light tone, limbs of the person's left side.
        right: dark tone, limbs of the right side.
        core: head, trunk and labels.
    """

    left: Color
    right: Color
    core: Color

    def side(self, joint: str) -> Color:
        """Colour of a joint by its name."""
        if joint.startswith("left_"):
            return self.left
        return self.right if joint.startswith("right_") else self.core


def bgr(web: str) -> Color:
    """Convert ``"#rrggbb"`` to BGR."""
    red, green, blue = (int(web[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red


@lru_cache(maxsize=1024)
def mix(color: Color, other: Color, share: float) -> Color:
    """Mix ``share`` of ``other`` into ``color``."""
    b, g, r = (round(c + (o - c) * share) for c, o in zip(color, other, strict=True))
    return b, g, r


# Neighbouring people differ much in hue; the first two (blue and orange) also for colour-blind viewers. Left and right
# differ in lightness, which remains in grey prints.
_FAMILIES = tuple(
    PersonColors(bgr(left), bgr(right), bgr(core))
    for left, right, core in (
        ("#4cc3ff", "#1d46d6", "#2f80ed"),  # blue
        ("#ffc145", "#d9480f", "#f5851f"),  # orange
        ("#86e05f", "#0f7a4d", "#34a85a"),  # green
        ("#e69bf7", "#7a26c7", "#a955e0"),  # violet
        ("#ff9db6", "#bf174d", "#ee4474"),  # rose
        ("#62ead6", "#0b6b73", "#1faaa8"),  # teal
        ("#f4de5c", "#87670b", "#c8a120"),  # ochre
        ("#c6d0dc", "#465468", "#7b8ba1"),  # slate
    )
)

WHITE: Color = (255, 255, 255)
INK: Color = bgr("#1f2732")  # text and outlines


@dataclass(frozen=True)
class Theme:
    """Colours of the 3D scene around the people, BGR.

    Attributes:
        sky: above the horizon, and where the floor fades out.
        floor: below the people.
        grid: lines on the floor.
        caption: text.
        tones: dots of the legend for left and right.
    """

    sky: Color
    floor: Color
    grid: Color
    caption: Color
    tones: tuple[Color, Color]


LIGHT = Theme(bgr("#f3f5f8"), bgr("#dde2e9"), bgr("#a9b4c2"), bgr("#5c6876"), (bgr("#c7ced7"), bgr("#37414d")))
DARK = Theme(bgr("#14181e"), bgr("#2a313b"), bgr("#4a5563"), bgr("#a3afbd"), (bgr("#d5dce5"), bgr("#5f6b7b")))
THEMES = {"light": LIGHT, "dark": DARK}


def person_colors(person_id: int) -> PersonColors:
    """Colours of a person; the eight palettes repeat."""
    return _FAMILIES[(person_id - 1) % len(_FAMILIES)]
