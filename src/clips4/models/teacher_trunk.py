"""A teacher's own image network as the trunk of a student: feature levels and the teacher's pixel map in one pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.errors import UserError
from clips4.models.backbones.base import Backbone
from clips4.models.backbones.efficientnet import EfficientNetLite0Classifier
from clips4.models.teachers.attention.dense_attention import DenseAttention, apply_last_block, entering_tokens

Triple = tuple[float, float, float]

FULL_CONFIDENCE = 0.5  # |f| at which the confidence of ConSE is 1; .3 to .7 were tried (docs/journal.md)
CONSE, CLIP = "conse", "clip"


class TeacherTrunk(Backbone):
    """A backbone whose last level also holds the teacher's pixel map.

    Attributes:
        embed_dim: D of the teacher.
        context_dim: G, dimensions of the image's global feature.
        cell: pixels per position of the pixel map; the sides of images are multiples of it.
    """

    embed_dim: int
    context_dim: int
    cell: int

    def pixel_map(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Levels -> the teacher's pixel map (B, D, h, w), unit along D, and global features (B, G)."""
        raise NotImplementedError


def conse_map(probabilities: Tensor, class_vectors: Tensor, top_k: int, confidence_dim: bool) -> Tensor:
    """The convex combination of class vectors at every position; see ``teachers.conse``.

    Args:
        probabilities: (B, K, h, w) of the classes.
        class_vectors: (K, D).
        top_k: how many of the most probable classes are combined.
        confidence_dim: add the confidence as a last dimension.

    Returns:
        (B, D or D + 1, h, w), unit along the dimensions.
    """
    values, classes = probabilities.topk(top_k, dim=1)  # (B, T, h, w)
    weights = torch.zeros_like(probabilities).scatter_(1, classes, values / values.sum(1, keepdim=True))
    mean = torch.einsum("bkhw,kd->bdhw", weights, class_vectors)
    if not confidence_dim:
        return F.normalize(mean, dim=1)
    confidence = (mean.norm(dim=1, keepdim=True) / FULL_CONFIDENCE).clamp(max=1)
    return torch.cat([F.normalize(mean, dim=1) * confidence, (1 - confidence.square()).sqrt()], dim=1)


class ConseTrunk(TeacherTrunk):
    """EfficientNet-Lite0 with its classifier, read densely as ConSE; the network of the teacher "conse".

    Args:
        class_vectors: (K, D) of the classifier's classes, centered.
        top_k: how many of the most probable classes are combined at a position.
        temperature: softmax temperature of the classifier's dense logits.
        confidence_dim: add the confidence as the last dimension.
        classifier: with its weights; by default one whose weights are loaded later.
    """

    class_vectors: Tensor

    def __init__(
        self,
        class_vectors: Tensor,
        top_k: int,
        temperature: float,
        confidence_dim: bool,
        classifier: EfficientNetLite0Classifier | None = None,
    ):
        super().__init__()
        self.classifier = classifier or EfficientNetLite0Classifier(classes=len(class_vectors))
        backbone = self.classifier.backbone
        self.channels, self.strides, self.mean, self.std = (
            backbone.channels,
            backbone.strides,
            backbone.mean,
            backbone.std,
        )
        self.top_k, self.temperature, self.confidence_dim = top_k, temperature, confidence_dim
        self.embed_dim, self.cell = class_vectors.shape[1] + confidence_dim, backbone.strides[-1]
        self.context_dim = self.classifier.head.out_channels
        self.register_buffer("class_vectors", class_vectors)

    @property
    def architecture(self) -> dict[str, Any]:
        return {
            "teacher": CONSE,
            "class_vectors": list(self.class_vectors.shape),
            "top_k": self.top_k,
            "temperature": self.temperature,
            "confidence_dim": self.confidence_dim,
        }

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.classifier.backbone(images)

    def probabilities(self, features: Tensor) -> Tensor:
        """(B, 1280, h, w) ``head_features`` of the classifier -> (B, K, h, w)."""
        return (self.classifier.classify(features) / self.temperature).softmax(1)

    def pixel_map(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        features = self.classifier.head_features(levels[-1])
        probabilities = self.probabilities(features)
        return conse_map(probabilities, self.class_vectors, self.top_k, self.confidence_dim), features.mean((2, 3))


class ClipTrunk(TeacherTrunk):
    """The vision transformer of a CLIP with dense attention in its last block.

    Its levels are the patches after a third and two thirds of the blocks, before the last block, and after it. Images
    are encoded whole, without the teacher's windows.

    Args:
        vision: the tower of a ``CLIPModel``.
        projection: to the joint space.
        dense_attention: of the last block.
        mean, std: of the images' channels.
    """

    def __init__(
        self, vision: nn.Module, projection: nn.Linear, dense_attention: DenseAttention, mean: Triple, std: Triple
    ):
        super().__init__()
        self.vision, self.projection, self.dense_attention = vision, projection, dense_attention
        config = self._config
        width, self.cell = config.hidden_size, config.patch_size
        self.channels, self.strides, self.mean, self.std = (width,) * 4, (self.cell,) * 4, mean, std
        self.embed_dim, self.context_dim = projection.out_features, width

    @property
    def _config(self) -> Any:
        return self.vision.config

    @property
    def architecture(self) -> dict[str, Any]:
        return {
            "teacher": CLIP,
            "vision": {**self._config.to_diff_dict(), "projection_dim": self.embed_dim},
            "dense_attention": self.dense_attention,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        grid = images.shape[-2] // self.cell, images.shape[-1] // self.cell
        tokens = entering_tokens(self.vision, images)
        layers: Any = self.vision.get_submodule("encoder.layers")
        dense = apply_last_block(layers[-1], tokens[-1], self.dense_attention, grid)
        chosen = [tokens[len(tokens) // 3], tokens[2 * len(tokens) // 3], tokens[-1]]
        a, b, c, d = (each.transpose(1, 2).unflatten(2, grid) for each in [*(x[:, 1:] for x in chosen), dense])
        return a, b, c, d

    def pixel_map(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        norm = self.vision.get_submodule("post_layernorm")
        tokens = self.projection(norm(levels[-1].movedim(1, -1)))
        return F.normalize(tokens.float(), dim=-1).movedim(-1, 1), levels[-1].mean((2, 3))


def trunk_of(teacher: object) -> TeacherTrunk:
    """The teacher's trunk.

    Raises:
        UserError: the teacher has none that a student could share.
    """
    trunk = getattr(teacher, "trunk", None)
    if not isinstance(trunk, TeacherTrunk):
        name = getattr(teacher, "name", type(teacher).__name__)
        raise UserError(
            f"extensions.residual: the network of teacher {name} cannot be the student's; use conse or a CLIP, "
            f"or train a student with a network of its own: preset cpu"
        )
    return trunk


def empty_trunk(architecture: dict[str, Any]) -> TeacherTrunk:
    """A trunk with weights to be loaded from a checkpoint.

    Raises:
        KeyError: not the architecture of a trunk.
    """
    values = dict(architecture)
    teacher = values.pop("teacher")
    if teacher == CONSE:
        return ConseTrunk(torch.zeros(values.pop("class_vectors")), **values)
    if teacher == CLIP:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        mean, std, dense_attention = tuple(values["mean"]), tuple(values["std"]), values["dense_attention"]
        model: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**values["vision"]))
        return ClipTrunk(model.vision_model, model.visual_projection, dense_attention, mean, std)
    raise KeyError("teacher")
