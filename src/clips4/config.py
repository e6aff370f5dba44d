"""Typed configuration: defaults, presets (one YAML each) and ``key=value`` overrides. Unknown keys fail."""

import difflib
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clips4.config_renames import RENAMED, with_current_keys
from clips4.errors import UserError

PRESETS = resources.files("clips4").joinpath("presets")


Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(_Section):
    """Pictures and the two views of each."""

    long_side: int = Field(
        512,
        ge=64,
        description="training pictures are reduced to this long side; the teacher and the regions see them so",
    )
    inference_side: int = Field(
        320, ge=64, description="long side at which the student reads a picture; near the scale of its training views"
    )
    crop: int = Field(224, ge=32, description="side of a view in pixels; a multiple of the student's stride")
    scale: tuple[PositiveShare, PositiveShare] = Field(
        (0.25, 1.0), description="share of the picture's area that a view covers"
    )
    aspect: tuple[Positive, Positive] = Field(
        (0.75, 1.333), description="width / height of the crop, before it is squared"
    )
    flip_prob: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    jitter: tuple[Share, Share, Share, Annotated[float, Field(ge=0, le=0.5)]] = Field(
        (0.4, 0.4, 0.4, 0.1), description="brightness, contrast, saturation, hue"
    )
    jitter_prob: float = Field(0.8, ge=0, le=1)
    grayscale_prob: float = Field(0.2, ge=0, le=1, description="probability of a gray view")
    workers: int = Field(0, ge=0, description="loader processes; the result does not depend on it")


class RegionConfig(_Section):
    """Visually coherent regions."""

    method: Literal["slic", "felzenszwalb", "gradient-ucm", "hed-ucm", "edges-ucm"] = "slic"
    count: int = Field(48, ge=1, le=60000, description="regions per picture: about so many (slic), else at most")
    threshold: Share = Field(0.0, description="*-ucm: boundaries of mean strength up to this are gone")
    small_share: Share = Field(
        0.002, description="*-ucm: regions of a lesser share of the picture merge the sooner; 0: by strength alone"
    )
    max_side: int = Field(
        640, ge=32, description="*-ucm: larger pictures are reduced to this long side, and their regions enlarged"
    )
    scales: tuple[Positive, ...] = Field((0.5, 1.0), min_length=1, description="hed-ucm: sizes read and averaged")
    edges: str | None = Field(
        None, description="edges-ucm: folder of edge maps, STEM.png or STEM.npy, bright on contours"
    )
    implementation: Literal["auto", "scikit-image", "opencv"] = Field(
        "auto", description="slic, felzenszwalb: whose; auto takes OpenCV (contrib) where it is installed"
    )

    @model_validator(mode="after")
    def _edges_for_edges(self) -> "RegionConfig":
        if (self.method == "edges-ucm") != (self.edges is not None):
            raise ValueError("regions.edges names a folder for regions.method=edges-ucm, and for no other")
        return self


class TeacherConfig(_Section):
    """The frozen vision-language model."""

    name: str = Field("conse", description="conse, a saved CLIP's folder, or a hub id owner/name[@revision]")
    templates: str = Field("simple", description="prompt templates, a file of assets/templates")
    dense_attention: Literal["maskclip", "sclip", "clearclip", "naclip", "vanilla"] | None = Field(
        None, description="how CLIP's last block is read; maskclip where not given"
    )
    confidence_dim: bool = Field(
        False,
        description="conse: how sure it is becomes a dimension more, which unknown prototypes tell and no name does",
    )
    precision: Literal["32-true", "bf16-true"] = Field("32-true", description="of CLIP's weights and arithmetic")
    window: int = Field(
        512, ge=0, description="CLIP reads pictures with a longer side in windows of this side; 0 reads all whole"
    )
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that the next covers again")
    cache_gib: float = Field(
        20.0, ge=0, description="where the maps of all pictures need more than this, they are computed on the fly"
    )
    cache_dims: int = Field(0, ge=0, description="dimensions kept of cached maps; 0 keeps all (see docs/teachers.md)")


class StudentConfig(_Section):
    """The pixel embedding network."""

    backbone: Literal["efficientnet-lite0", "resnet50", "resnet101", "dino"] = "efficientnet-lite0"
    weights: str = Field("builtin", description="builtin, random, a file (dino: a folder), or a hub id[@revision]")
    frozen: bool = Field(False, description="the backbone is not trained")
    output_stride: Literal[8, 16, 32] = Field(32, description="stride of a convolutional backbone's coarsest level")
    stride: Literal[4, 8] = Field(8, description="pixels of the picture per pixel embedding")
    width: int = Field(256, ge=16, multiple_of=8, description="channels of the head")


class SegmentConfig(_Section):
    """Spherical k-means."""

    clusters: Count | tuple[Count, Count] = Field(16, description="k-means clusters per view, or (rows, columns)")
    iterations: int = Field(10, ge=0)
    location_weight: float = Field(0.5, ge=0)


class PrototypeConfig(_Section):
    """Known and unknown class prototypes."""

    m: int = Field(24, ge=1, description="teacher segments averaged to a known class's prototype")
    unknown: int = Field(20, ge=0, description="number of unknown prototypes")
    sample: int = Field(
        4096, ge=1, description="segments of the whole set, drawn at random, that unknown prototypes are drawn from"
    )
    unknown_step: float = Field(
        0.05, ge=0, le=1, description="how far an unknown prototype moves to its segments per step"
    )


class ObjectiveConfig(_Section):
    """The three losses; or MaskCLIP+'s one, for comparison."""

    mode: Literal["clips4", "maskclip-plus"] = Field(
        "clips4", description="maskclip-plus trains on the teacher's pseudo labels, the text classifier frozen"
    )
    guided_share: Share = Field(
        0.1, description="maskclip-plus: part of the schedule with the teacher's labels; then the student's own"
    )
    confidence: Share = Field(0.0, description="maskclip-plus: pixels whose class is less probable are left out")
    prompt_denoising: bool = Field(
        False, description="maskclip-plus: no label of a class that the teacher is sure of nowhere in the view"
    )
    contrast_weight: float = Field(1.0, ge=0, description="lambda_t; 0 switches L_t off")
    embedding_weight: float = Field(1.0, ge=0, description="lambda_e")
    semantic_weight: float = Field(1.0, ge=0, description="lambda_s")
    concentration: float = Field(10.0, gt=0, description="kappa")
    temperature: float = Field(0.07, gt=0, description="tau")
    exclude_own: bool = Field(False, description="the variant of SegSort and HSG of L_t")
    contrast_pixels: int = Field(
        4096, ge=0, description="pixels per step that L_t is averaged over, as many of each picture; 0 takes all"
    )
    chunk_mib: int = Field(
        16, ge=1, description="memory in MiB that the pixel-by-segment matrix of L_t may take; nothing depends on it"
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> "ObjectiveConfig":
        if not (self.contrast_weight or self.embedding_weight or self.semantic_weight):
            raise ValueError("all three losses are switched off; give one a weight")
        return self


class ExtensionConfig(_Section):
    """What goes beyond the paper; all off by default, on in presets where measurement says so (docs/results.md)."""

    text_weight: float = Field(
        0.0, ge=0, description="within L_s, weight of the same loss with text vectors in the place of prototypes"
    )
    context: float = Field(0.0, ge=0, description="weight of the rest of the image in a segment's class y_s")
    unknown_apart: bool = Field(
        False, description="a segment of an unknown class also learns which known class is nearest to it"
    )
    exclude_same_class: bool = Field(
        False, description="segments of a pixel's class y_s leave S-, so that L_t does not separate what is alike"
    )
    em_iterations: int = Field(
        0, ge=0, description="EM iterations that fit prototypes to the trained student's pixels; 0: the teacher's"
    )
    em_temperature: float = Field(0.03, gt=0, description="tau of that fit")
    prior_weight: float = Field(
        1.0, ge=0, description="weight of the teacher's prototype in that fit; 1: as much as all pixels of a class"
    )
    unknown_in_fit: bool = Field(False, description="unknown prototypes take part in all iterations of that fit")
    unknown_share: PositiveShare = Field(
        1.0, description="share of the segments, farthest from the known prototypes, that unknown ones are drawn from"
    )


class TrainConfig(_Section):
    """The loop."""

    steps: int = Field(1000, ge=1)
    batch: int = Field(8, ge=1, description="pictures per step and device, two views each")
    accumulate: int = Field(1, ge=1, description="batches per step, whose gradients are averaged")
    lr: float = Field(1e-3, gt=0, description="learning rate of the head")
    backbone_lr: float = Field(1e-4, ge=0, description="learning rate of the backbone; 0 freezes it")
    weight_decay: float = Field(1e-4, ge=0)
    warmup: int = Field(20, ge=0, description="steps of linear warm-up")
    poly_power: float = Field(0.9, ge=0, description="rate falls as (1 - step / steps) ** power")
    max_grad_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    seed: int = Field(0, ge=0)
    ema: float = Field(
        0.0, ge=0, lt=1, description="keep a moving average of the weights with this decay and save it as the student"
    )
    max_nonfinite_steps: int = Field(
        5, ge=1, description="steps in a row that may be skipped for a loss or gradient that is not finite"
    )
    save_every: int = Field(250, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept")
    eval_every: int = Field(
        0, ge=0, description="steps between sample pictures, and scores where a labelled set is given; 0 for never"
    )
    stall_timeout: float = Field(120.0, gt=0, description="seconds after which a wait for the next batch is told of")


class Config(_Section):
    """Everything a run depends on, but for its pictures and class names."""

    data: DataConfig = DataConfig()
    regions: RegionConfig = RegionConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    segments: SegmentConfig = SegmentConfig()
    prototypes: PrototypeConfig = PrototypeConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    extensions: ExtensionConfig = ExtensionConfig()
    train: TrainConfig = TrainConfig()

    def decisive(self) -> dict[str, Any]:
        """The settings that weights depend on, given the same number of pictures per step."""
        values = self.model_dump(mode="json")
        for section, keys in _INDIFFERENT.items():
            for key in keys:
                del values[section][key]
        return values


_INDIFFERENT = {
    "data": ("workers", "inference_side"),
    "teacher": ("cache_gib",),
    "objective": ("chunk_mib",),
    "train": ("batch", "max_nonfinite_steps", "save_every", "keep_checkpoints", "eval_every", "stall_timeout"),
}


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in PRESETS.iterdir() if path.name.endswith(".yaml"))


def known_keys() -> list[str]:
    """All keys as ``section.key``."""
    sections = Config.model_fields
    return [
        f"{section}.{key}"
        for section in sections
        for key in sections[section].annotation.model_fields  # type: ignore[union-attr]
    ]


def load_config(preset: str | Path = "cpu", overrides: Sequence[str] = ()) -> Config:
    """A preset (or a YAML file) with overrides.

    Args:
        preset: a name of ``preset_names()`` or a path.
        overrides: ``section.key=value`` strings; values are YAML.

    Raises:
        UserError: unknown preset, key or value; the message names the nearest key.
    """
    if str(preset) in preset_names():
        text = PRESETS.joinpath(f"{preset}.yaml").read_text("utf-8")
    elif Path(preset).is_file():
        try:
            text = Path(preset).read_text("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{preset}: not a text file in UTF-8; write the configuration as YAML")
    else:
        raise UserError(f"unknown preset {str(preset)!r}; give one of {', '.join(preset_names())}, or a YAML file")
    values = _read_yaml(text, str(preset)) or {}
    if not isinstance(values, dict):
        raise UserError(f"{preset}: holds no sections; write section: and below it key: value")
    for section, keys in values.items():
        if keys is not None and not isinstance(keys, dict):
            raise UserError(f"{preset}: section {section!r} holds no keys; write key: value below it")
    sections = _renamed({section: dict(keys or {}) for section, keys in values.items()}, str(preset))
    for override in overrides:
        _apply(sections, override)
    return parse_config(sections, str(preset))


def _renamed(sections: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The same under the keys of today; each old key is warned of."""
    current, old_keys = with_current_keys(sections)
    for old in old_keys:
        warnings.warn(f"{source}: {old} is now called {RENAMED[old]}", FutureWarning, stacklevel=3)
    return current


def _read_yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not readable as YAML ({str(error).splitlines()[0]})")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override!r}: write section.key=value, e.g. train.steps=200")
    if key in RENAMED:
        warnings.warn(f"--set {override}: {key} is now called {RENAMED[key]}", FutureWarning, stacklevel=3)
        key = RENAMED[key]
    if key not in known_keys():
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.4)
        raise UserError(f"--set {override!r}: there is no key {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
    section, name = key.split(".")
    values.setdefault(section, {})[name] = _read_yaml(value, f"--set {override}")


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """A Config from plain values.

    Raises:
        UserError: the first thing that is wrong, in one line.
    """
    try:
        return Config.model_validate(with_current_keys(values).values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.4)
        if first["type"] == "extra_forbidden":
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{source}: there is no key {key!r}{hint}")
        raise UserError(f"{source}: {key} = {first['input']!r}: {first['msg'].lower()}")
