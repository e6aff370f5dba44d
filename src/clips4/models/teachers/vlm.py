"""What the CLIP and SigLIP teachers share: normalized images in windows, text in batches."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips4.config import TeacherConfig
from clips4.errors import UserError
from clips4.models.sliding_window import encode_in_windows, to_patches
from clips4.models.teachers.model_files import PREPROCESSING, ModelFiles
from clips4.models.teachers.text.tokenizer import unknown_terms

TEXT_BATCH = 256
_DTYPES = {"32-true": torch.float32, "bf16-true": torch.bfloat16}


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, and how it normalizes images.

    Attributes:
        name: what ``load_teacher`` takes to get it again.
        fingerprint: of its weights, see ``model_files.ModelFiles``.
        mean, std: of the images' channels.
    """

    name: str
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, files: ModelFiles, mean: Sequence[float], std: Sequence[float]) -> "Origin":
        """From a folder; ``mean`` and ``std`` are the architecture's own, used where the folder has none."""
        preprocessing = files.read_json(PREPROCESSING)
        return cls.checked(files, preprocessing.get("image_mean", mean), preprocessing.get("image_std", std))

    @classmethod
    def checked(cls, files: ModelFiles, mean: object, std: object) -> "Origin":
        """With what the folder's files state.

        Raises:
            UserError: not three numbers each.
        """
        found: list[tuple[float, ...]] = []
        for values in (mean, std):
            numbers = tuple(values) if isinstance(values, (list, tuple)) else ()
            if len(numbers) != 3 or not all(isinstance(each, (int, float)) for each in numbers):
                raise UserError(
                    f"teacher {files.name}: the mean and the standard deviation of its images are not three numbers "
                    "each; copy or download its configuration again"
                )
            found.append(numbers)
        return cls(files.name, files.fingerprint, *found)


class VisionLanguageTeacher(nn.Module):
    """A frozen model with a text tower and a vision transformer (a Teacher).

    Args:
        model: transformers' model, weights loaded.
        tokenizer: of its text tower.
        settings: ``precision``, ``window`` and ``overlap`` are used here.
        origin: where the model comes from.
        dense_attention: name of the last block's dense attention.
        patch_size: pixels per patch side.
        embed_dim: D.

    Attributes:
        text_settings: the part of ``settings`` that text vectors depend on.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: TeacherConfig,
        origin: Origin,
        dense_attention: str,
        patch_size: int,
        embed_dim: int,
    ):
        super().__init__()
        self.name, self.embed_dim, self.patch_stride = origin.name, embed_dim, patch_size
        self._dtype = _DTYPES[settings.precision]
        self._window, self._overlap = settings.window, settings.overlap
        self.model, self._tokenizer = model.to(self._dtype), tokenizer
        self.register_buffer("_mean", torch.tensor(origin.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(origin.std).view(1, 3, 1, 1), persistent=False)
        self.text_settings: dict[str, object] = {"model": origin.fingerprint, "precision": settings.precision}
        self.settings: dict[str, object] = {
            **self.text_settings,
            "reading": dense_attention,  # the key of earlier versions, for their caches
            "window": settings.window,
            "overlap": settings.overlap,
            "mean": list(origin.mean),
            "std": list(origin.std),
        }
        self.eval().requires_grad_(False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.embed_dim} dimensions, stride {self.patch_stride})"

    # ------------------------------------------------------------------------------------------------------- pixels

    @torch.no_grad()
    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D, h, w) float32, unit vectors along D.

        Sides are resized to the nearest multiple of the patch; h and w are how many patches that are. Images with a
        side longer than ``window`` are encoded in overlapping windows, whose unit vectors are averaged.
        """
        return F.normalize(self._in_windows(images, self._encode), dim=1)

    @torch.no_grad()
    def encode_pixels_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``encode_pixels``, and the unit keys (B, W, h, w) of the same positions, for key smoothing."""
        both = self._in_windows(images, self._encode_with_keys)
        pixel_map, keys = both.split([self.embed_dim, both.shape[1] - self.embed_dim], dim=1)
        return F.normalize(pixel_map, dim=1), F.normalize(keys, dim=1)

    def _in_windows(self, images: Tensor, encode: Any) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images (B, 3, H, W), got {tuple(images.shape)}")
        pixels = ((to_patches(images.float(), self.patch_stride) - self._mean) / self._std).to(self._dtype)
        return encode_in_windows(pixels, encode, self.patch_stride, self._window, self._overlap)

    def _encode(self, pixels: Tensor) -> Tensor:
        return self._as_map(pixels, F.normalize(self._tokens(pixels)[0].float(), dim=-1))

    def _encode_with_keys(self, pixels: Tensor) -> Tensor:
        tokens, keys = self._tokens(pixels, with_keys=True)
        assert keys is not None
        return self._as_map(pixels, torch.cat([F.normalize(part.float(), dim=-1) for part in (tokens, keys)], dim=-1))

    def _as_map(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, C, h, w)."""
        return tokens.transpose(1, 2).unflatten(2, self._grid(pixels))

    def _grid(self, pixels: Tensor) -> tuple[int, int]:
        height, width = pixels.shape[-2:]
        return height // self.patch_stride, width // self.patch_stride

    @abstractmethod
    def _tokens(self, pixels: Tensor, with_keys: bool = False) -> tuple[Tensor, Tensor | None]:
        """Normalized pixels (B, 3, H, W) -> patch tokens in the joint space (B, N, D), and keys (B, N, W) if wanted."""

    # --------------------------------------------------------------------------------------------------------- text

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) float32 unit rows; encoded in batches of like length."""
        if not len(prompts):
            return self._mean.new_zeros(0, self.embed_dim)
        tokens = self._tokenize(prompts)
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        rows: Tensor = self._mean.new_empty(len(tokens), self.embed_dim)
        for start in range(0, len(order), TEXT_BATCH):
            chosen = order[start : start + TEXT_BATCH]
            longest = len(tokens[chosen[-1]])
            padded = [tokens[index] + [tokens[index][-1]] * (longest - len(tokens[index])) for index in chosen]
            ids = torch.tensor(padded, device=self._mean.device)
            rows[chosen] = F.normalize(self._text_features(ids).float(), dim=1)
        return rows

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        """The words of texts that its text model does not know, see ``tokenizer.unknown_terms``."""
        return unknown_terms(self._tokenizer, [self._clean(text) for text in texts])

    @abstractmethod
    def _clean(self, text: str) -> str:
        """A text as its tokenizer expects it."""

    @abstractmethod
    def _tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt; shorter ones are padded by their last."""

    @abstractmethod
    def _text_features(self, ids: Tensor) -> Tensor:
        """(B, T) token ids -> (B, D)."""


def model_class(files: ModelFiles, name: str) -> Any:
    """A model class that only newer versions of transformers have.

    Raises:
        UserError: the installed version lacks it.
    """
    import transformers

    try:
        return getattr(transformers, name)
    except AttributeError:
        raise UserError(
            f"teacher {files.name}: transformers {transformers.__version__} has no {name}; install a newer one: "
            "pip install -U transformers"
        )


def load_complete(
    model_class: Any, files: ModelFiles, config: Any = None, weights: Mapping[str, Tensor] | None = None
) -> Any:
    """transformers' model with every weight from the folder's safetensors.

    Args:
        model_class: of transformers.
        files: of the model.
        config, weights: given where the folder has them in another format.

    Raises:
        UserError: damaged or missing weights; transformers alone would draw missing ones at random.
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what it warns of is an error here
    logging.disable_progress_bar()
    try:
        given = {} if weights is None else {"config": config, "state_dict": dict(weights)}
        model, report = model_class.from_pretrained(
            None if given else str(files.folder),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **given,
        )
    except Exception as error:  # of damaged configurations, almost anything
        reason = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"teacher {files.name}: its weights cannot be loaded ({type(error).__name__}: {reason}); "
            "copy or download the folder again"
        )
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        towers = {"vision_model": "no vision tower", "text_model": "no text tower"}
        lacks = towers.get(missing[0].split(".")[0], "not all of its weights")
        raise UserError(
            f"teacher {files.name}: has {lacks} ({missing[0]}, {len(missing)} in all); take a model with both"
        )
    return model
