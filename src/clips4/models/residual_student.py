"""The residual student: its teacher's own map plus what a small head has learned, in one pass of the teacher's network.

    z = affinity( normalize( b + h ) ),        h = W_2 relu( LayerNorm( A c5 + B c4 + G g ) )

b is the teacher's pixel map, in a calibrated space normalize(b - mu_x) in its place;
c5 and c4 are the two coarsest levels of its network and g the image's global feature. W_2
starts at 0, so an untrained student is its teacher (He et al., CVPR 2016, start residual branches likewise). Not in the
paper, whose student is a network of its own; docs/results.md compares the two.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.config import Config
from clips4.method.calibration import directions
from clips4.models.affinity import upsample_by_affinity
from clips4.models.calibrated_teacher import CalibratedTeacher
from clips4.models.student import Embedder, empty_student
from clips4.models.teacher_trunk import TeacherTrunk, empty_trunk, trunk_of
from clips4.models.teachers.base import Teacher


class ResidualHead(nn.Module):
    """h, what is added to the teacher's map: a layer at each position, of local and global features; 0 at first.

    Args:
        channels: of c5, c4 and the global feature.
        width: of the hidden layer.
        embed_dim: D.
    """

    def __init__(self, channels: tuple[int, int, int], width: int, embed_dim: int):
        super().__init__()
        self.inputs = nn.ModuleList(nn.Linear(each, width, bias=False) for each in channels)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, embed_dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, c5: Tensor, c4: Tensor, context: Tensor) -> Tensor:
        """(B, C5, h, w), (B, C4, h, w) and (B, G) -> (B, D, h, w)."""
        rows = [c5.movedim(1, -1), c4.movedim(1, -1), context[:, None, None]]
        # each input at unit variance, so that none outweighs the others
        hidden = torch.stack(
            torch.broadcast_tensors(
                *(layer(F.layer_norm(x.float(), x.shape[-1:])) for layer, x in zip(self.inputs, rows, strict=True))
            )
        ).sum(0)
        return self.project(F.relu(self.norm(hidden))).movedim(-1, 1)


class ResidualStudent(Embedder):
    """A student that starts as its teacher.

    Attributes:
        pixel_offset: (D,) mu_x of a calibrated space; None for the raw space.
        head_scale: factor of h in [0, 1]: 1 is the student, 0 its teacher, for a run that was spoiled.

    Args:
        trunk: of the teacher; it stays frozen.
        stride: pixels of the image per pixel embedding.
        width: of the head.
        affinity_temperature: of ``affinity.upsample_by_affinity``; at 0 the map is resized bilinearly.
    """

    backbone: TeacherTrunk
    pixel_offset: Tensor | None
    head_scale: float

    def __init__(
        self,
        trunk: TeacherTrunk,
        stride: int = 16,
        width: int = 256,
        affinity_temperature: float = 0.2,
    ):
        head = ResidualHead((trunk.channels[3], trunk.channels[2], trunk.context_dim), width, trunk.embed_dim)
        super().__init__(trunk, trunk.embed_dim, stride, width, frozen=True, head=head)
        self.register_buffer("pixel_offset", None, persistent=False)  # kept with the run's calibration
        self.head_scale = 1.0  # kept with the run's prototypes
        self._temperature = affinity_temperature

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) in [0, 1] -> levels of the trunk, fine to coarse; sides are resized to whole cells of its map.

        Raises:
            ValueError: not (B, 3, H, W).
        """
        if images.ndim == 4:
            height, width = (whole_cells(side, self.backbone.cell) for side in images.shape[-2:])
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
        return super().levels(images)

    def embed(self, levels: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Levels of the trunk -> z (B, D, *size), unit vectors along D, float32."""
        c4, c5 = levels[-2:]
        with torch.no_grad():
            pixel_map, context = self.backbone.pixel_map(levels)
        at_map = F.avg_pool2d(c4, self.backbone.strides[3] // self.backbone.strides[2])
        if self.pixel_offset is not None:
            pixel_map = directions(pixel_map, self.pixel_offset.view(-1, 1, 1), 1)
        learned = self.head_scale * self.head(c5, at_map, context).float()
        z = F.normalize(pixel_map.float() + learned, dim=1)
        if self._temperature:
            return upsample_by_affinity(z, c4, size, self._temperature)
        return F.normalize(F.interpolate(z, size, mode="bilinear", align_corners=False), dim=1)


def whole_cells(side: int, cell: int) -> int:
    """The multiple of ``cell`` nearest to a side, ties to an even number of cells; at least one.

    Integer arithmetic equal to ``round(side / cell) * cell``, which the ONNX exporter cannot express.
    """
    cells = (side + cell // 2 - 1 + (side // cell) % 2) // cell
    return torch.sym_max(cells, 1) * cell


def build_residual_student(config: Config, teacher: Teacher) -> ResidualStudent:
    """The student of a configuration on a copy of its teacher's trunk.

    Raises:
        UserError: the teacher has no trunk.
    """
    return _on(deepcopy(trunk_of(teacher)).float(), config)


def affinity_network(teacher: Teacher, stride: int = 16) -> ResidualStudent:
    """A teacher alone, read as its residual student reads it before training: z = affinity(b), finer than the map b.

    Args:
        teacher: with a trunk, which is shared, not copied; its space counts where it is calibrated.
        stride: pixels of the image per position.

    Raises:
        UserError: the teacher has no trunk.
    """
    network = ResidualStudent(trunk_of(teacher), stride).eval()
    network.head_scale = 0.0
    if isinstance(teacher, CalibratedTeacher):
        network.pixel_offset = teacher.space.pixel_offset
    return network


def _on(trunk: TeacherTrunk, config: Config) -> ResidualStudent:
    return ResidualStudent(trunk, config.student.stride, config.student.width, config.extensions.affinity_temperature)


def empty_student_of(config: Config, embed_dim: int, architecture: Mapping[str, Any] | None = None) -> Embedder:
    """The student of a run, residual or not, with weights to be loaded from a checkpoint; reads no file.

    Args:
        config: of the run.
        embed_dim: D.
        architecture: ``backbone.architecture`` of the student that was saved.

    Raises:
        KeyError: it needs an architecture and there is none.
    """
    if not config.extensions.residual:
        return empty_student(config.student, embed_dim, architecture)
    if architecture is None:
        raise KeyError("backbone")
    return _on(empty_trunk(dict(architecture)), config)
