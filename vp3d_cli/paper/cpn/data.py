"""Training samples of the Cascaded Pyramid Network: augmented crops and target heatmaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vp3d_cli.detect.cpn.detector import BORDER_BGR, GROW_XY, to_input
from vp3d_cli.detect.cpn.heatmaps import GLOBAL_KERNELS, draw_targets
from vp3d_cli.detect.cpn.network import STRIDE
from vp3d_cli.detect.crops import crop_transform, extract_crop, transform_points
from vp3d_cli.errors import InputError
from vp3d_cli.paper.cpn.coco import LabelledPerson
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FrameBGR


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of crops (Chen et al. 2018, section 4.1); colours as in the authors' code.

    Attributes:
        rotation_deg: largest rotation in either direction.
        zoom: smallest and largest scale.
        colour: largest relative change of each channel in either direction.
        flip: mirror half of the crops.
    """

    rotation_deg: float = 45.0
    zoom: tuple[float, float] = (0.7, 1.35)
    colour: float = 0.2
    flip: bool = True


NO_AUGMENTATION = Augmentation(0.0, (1.0, 1.0), 0.0, False)

Sample = tuple[Tensor, Tensor, Tensor]


class Samples(Dataset[Sample]):
    """Endless sequence of samples; sample n is always the same, so that a run can be resumed.

    Every person occurs once in each round of ``len(people)`` samples, in a new order.
    """

    def __init__(
        self, people: Sequence[LabelledPerson], input_wh: tuple[int, int], augmentation: Augmentation, seed: int
    ) -> None:
        self._people = list(people)
        self._input_wh = input_wh
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(self, number: int) -> Sample:
        """Create sample n.

        Returns:
            image: (3, H, W) network input.
            targets: (4, 17, H / 4, W / 4) heatmaps for GlobalNet's levels from coarse to fine; RefineNet uses the last.
            visibility: (17,) 0, 1 or 2; 0 for keypoints outside the crop.
        """
        turn, place = divmod(number, len(self._people))
        order = np.random.default_rng((self._seed, turn)).permutation(len(self._people))
        rng = np.random.default_rng((self._seed, turn, place))
        return make_sample(self._people[order[place]], self._input_wh, self._augmentation, rng)


def make_sample(
    person: LabelledPerson, input_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> Sample:
    """Create a sample of a person, see :meth:`Samples.__getitem__`."""
    mirror = augmentation.flip and bool(rng.random() < 0.5)
    matrix = crop_transform(
        person.box_xyxy,
        input_wh,
        GROW_XY,
        zoom=float(rng.uniform(*augmentation.zoom)),
        angle=math.radians(augmentation.rotation_deg) * float(rng.uniform(-1, 1)),
        mirror=mirror,
    )
    points = transform_points(matrix, person.keypoints)
    visibility = person.visibility.copy()
    if mirror:
        swap = list(COCO17.flip_order)
        points, visibility = points[swap], visibility[swap]
    visibility[~((points >= 0) & (points < input_wh)).all(axis=1)] = 0
    image = to_input(extract_crop(read_image(person), matrix, input_wh, BORDER_BGR)[None])[0]
    map_hw = input_wh[1] // STRIDE, input_wh[0] // STRIDE
    drawn = visibility > 0
    targets = np.stack([draw_targets(points, drawn, map_hw, kernel) for kernel in GLOBAL_KERNELS])
    gains = 1 + augmentation.colour * rng.uniform(-1, 1, (3, 1, 1))
    return image * torch.from_numpy(gains).float(), torch.from_numpy(targets), torch.from_numpy(visibility)


def read_image(person: LabelledPerson) -> FrameBGR:
    """Read the image of a person.

    Raises:
        InputError: it cannot be decoded.
    """
    image: FrameBGR | None = cv2.imread(str(person.image), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{person.image}: cannot be read as an image")
    return image
