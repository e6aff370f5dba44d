"""Typed configuration: defaults, presets (one YAML file each) and ``key=value`` overrides; unknown keys are errors."""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from clips4.config_renames import RENAMED, with_current_keys
from clips4.errors import UserError
from clips4.utils.text import has_controls, listing, printable, read_bytes

PRESETS = resources.files("clips4").joinpath("presets")
_YAML_BYTES, _YAML_DEPTH, _YAML_NODES = 2**18, 16, 10_000
_LARGEST = 2**53  # of a number; beyond it not every whole number has a float


Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
PerClass = Literal["mean", "nearest"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_plain(cls, value: Any, info: ValidationInfo) -> Any:
        is_switch = cls.model_fields[str(info.field_name)].annotation is bool
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, bool) and not is_switch:
                raise ValueError("true or false, where a number or a name belongs")
            if isinstance(part, str) and has_controls(part):
                raise ValueError("holds control characters")
        return value

    @field_validator("*")
    @classmethod
    def _check_size(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not -_LARGEST <= value <= _LARGEST:
            raise ValueError("is out of range")
        return value


class DataConfig(_Section):
    """Images and their two views."""

    long_side: int = Field(
        512,
        ge=64,
        description="long side to which training images are reduced, also for the teacher and the regions",
    )
    inference_side: int = Field(
        320, ge=64, description="long side at which the student encodes an image; close to the scale of its views"
    )
    inference_short_side: int = Field(
        0,
        ge=0,
        description="wide images are encoded larger than data.inference_side, at most by half, so that their "
        "short side has this many pixels; 0: no",
    )
    crop: int = Field(224, ge=32, description="side of a view in pixels, a multiple of student.stride")
    scale: tuple[PositiveShare, PositiveShare] = Field(
        (0.25, 1.0), description="range of the share of the image's area that a view covers"
    )
    flip_prob: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    jitter_prob: float = Field(0.8, ge=0, le=1, description="probability of color jitter")
    grayscale_prob: float = Field(0.2, ge=0, le=1, description="probability of a grayscale view")
    workers: int = Field(0, ge=0, description="number of loader processes; no result depends on it")


class RegionConfig(_Section):
    """Visually coherent regions, computed before training."""

    method: Literal["slic", "felzenszwalb", "gradient-ucm", "hed-ucm", "edges-ucm", "ready"] = Field(
        "slic", description="superpixels, regions of an ultrametric contour map (*-ucm), or region maps that are ready"
    )
    count: int = Field(48, ge=1, le=60000, description="regions per image: approximate for slic, otherwise a limit")
    threshold: Share = Field(0.0, description="*-ucm: regions are merged across boundaries up to this strength")
    small_share: Share = Field(
        0.002, description="*-ucm: regions below this share of the image merge earlier; 0: strength alone decides"
    )
    max_side: int = Field(
        640, ge=32, description="*-ucm: larger images are reduced to this long side, and their regions enlarged"
    )
    scales: tuple[Positive, ...] = Field((0.5, 1.0), min_length=1, description="hed-ucm: image scales, averaged")
    edges: str | None = Field(
        None,
        description="edges-ucm: folder of edge maps, STEM.png or STEM.npy, bright on contours; ready: folder of region "
        "maps, STEM.png, STEM.npz or STEM.json",
    )
    implementation: Literal["auto", "scikit-image", "opencv"] = Field(
        "auto", description="slic, felzenszwalb: library; auto: OpenCV (contrib) for felzenszwalb if installed"
    )

    @model_validator(mode="after")
    def _check_edges(self) -> "RegionConfig":
        if (self.method in ("edges-ucm", "ready")) != (self.edges is not None):
            raise ValueError("regions.edges goes together with regions.method=edges-ucm or ready; give both or neither")
        return self


class TeacherConfig(_Section):
    """The frozen vision-language model."""

    name: str = Field("conse", description="conse, a saved CLIP's folder, or a hub id owner/name[@revision]")
    templates: str = Field("simple", description="prompt templates: the name of a file in assets/templates")
    dense_attention: Literal["maskclip", "sclip", "clearclip", "naclip", "proxyclip", "sc-clip", "vanilla"] | None = (
        Field(None, description="CLIP: attention of the last block; maskclip if not given")
    )
    proxy: str | None = Field(
        None,
        description="folder or hub id of a DINOv2 or DINOv3 whose similarities of patches are used: the attention of "
        "proxyclip, the graph of --refine lposs",
    )
    confidence_dim: bool = Field(
        False,
        description="conse: adds its confidence as a dimension, which helps to find unknown classes",
    )
    hypernyms: float = Field(
        0.0, ge=0, description="conse: weight of wider names in those of its classes (a Chihuahua is a dog), e.g. 0.25"
    )
    precision: Literal["32-true", "bf16-true"] = Field("32-true", description="CLIP: weights and arithmetic")
    window: int = Field(
        512, ge=0, description="CLIP: images with a longer side are encoded in windows of this side; 0: never"
    )
    overlap: float = Field(0.5, ge=0, lt=1, description="CLIP: overlap of windows, as a share of their side")
    batch: int = Field(
        1, ge=1, description="images of one size that are encoded together before training; maps agree up to rounding"
    )
    calibrate: bool = Field(
        True,
        description="remove the common offset of pixel vectors and of text vectors; false: the teacher's raw space",
    )
    cache_gib: float = Field(
        20.0, ge=0, description="disk space for teacher maps; if all maps need more, they are computed on the fly"
    )
    cache_dims: int = Field(0, ge=0, description="dimensions of cached maps; 0: all (see docs/how-to/teachers.md)")
    cache_files: Literal["images", "shards"] = Field(
        "images",
        description="a file for the map of each image; or few large ones, which all ranks write before training",
    )


class StudentConfig(_Section):
    """The pixel embedding network."""

    backbone: Literal["efficientnet-lite0", "resnet50", "resnet101", "dino"] = Field(
        "efficientnet-lite0", description="network below the head; a residual student has that of its teacher"
    )
    weights: str = Field("builtin", description="builtin, random, a file (dino: a folder), or a hub id[@revision]")
    frozen: bool = Field(False, description="whether the backbone keeps its weights")
    output_stride: Literal[8, 16, 32] = Field(32, description="stride of a convolutional backbone's coarsest level")
    stride: Literal[4, 8, 16, 32] = Field(
        8, description="image pixels per pixel embedding, along each axis; 16 or 32 for a residual student"
    )
    width: int = Field(256, ge=16, multiple_of=8, description="channels of the head")


class SegmentConfig(_Section):
    """Spherical k-means of pixel embeddings."""

    clusters: Count | tuple[Count, Count] = Field(16, description="k-means clusters per view, or (rows, columns)")
    iterations: int = Field(10, ge=0, description="k-means iterations")


class PrototypeConfig(_Section):
    """Known and unknown class prototypes."""

    m: int = Field(24, ge=1, description="number of teacher segments that make the prototype of a known class")
    per_class: PerClass = Field(
        "mean",
        description="mean: their mean is the prototype of the class; nearest: each of the m is one, the nearest counts",
    )
    unknown: int = Field(20, ge=0, description="number of unknown prototypes")
    sample: int = Field(
        4096,
        ge=1,
        description="random segments to draw unknown prototypes from, kept as the bank for new names",
    )
    unknown_step: float = Field(
        0.05, ge=0, le=1, description="share of the way to its segments that an unknown prototype moves per step"
    )
    unknown_update: Literal["mean", "gradient"] = Field(
        "mean", description="gradient: by unknown_step down the gradient of the mean cosine distance to its segments"
    )


class ObjectiveConfig(_Section):
    """The three losses, or the loss of MaskCLIP+ for comparison."""

    mode: Literal["clips4", "maskclip-plus"] = Field(
        "clips4", description="maskclip-plus: train on pseudo labels of the teacher, with a frozen text classifier"
    )
    guided_share: Share = Field(
        0.1, description="maskclip-plus: share of the schedule with labels of the teacher, before the student's own"
    )
    confidence: Share = Field(0.0, description="maskclip-plus: pixels whose class has a lower probability are ignored")
    prompt_denoising: bool = Field(
        False, description="maskclip-plus: drop classes of which the teacher is confident nowhere in the view"
    )
    contrast_weight: float = Field(1.0, ge=0, description="lambda_t, weight of L_t; 0 turns it off")
    embedding_weight: float = Field(1.0, ge=0, description="lambda_e, weight of L_e; 0 turns it off")
    semantic_weight: float = Field(1.0, ge=0, description="lambda_s, weight of L_s; 0 turns it off")
    concentration: float = Field(10.0, gt=0, description="kappa of L_t, an inverse temperature")
    temperature: float = Field(0.07, gt=0, description="tau of L_s")
    exclude_own: bool = Field(False, description="L_t without the pixel's own segment, as in SegSort and HSG")
    contrast_pixels: int = Field(
        4096, ge=0, description="random pixels per step that L_t is averaged over, equally many per image; 0: all"
    )
    chunk_mib: int = Field(
        16, ge=1, description="memory limit in MiB of the pixel-by-segment matrix of L_t; no result depends on it"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> "ObjectiveConfig":
        if not (self.contrast_weight or self.embedding_weight or self.semantic_weight):
            raise ValueError("all three losses are turned off; give one of them a weight")
        return self


class ExtensionConfig(_Section):
    """Extensions beyond the paper: off by default, on in presets where they improve scores (docs/results.md)."""

    text_weight: float = Field(
        0.0, ge=0, description="L_s: weight of the same loss with text vectors instead of prototypes"
    )
    context: float = Field(0.0, ge=0, description="weight of the rest of the image in the class y_s of a segment")
    unknown_apart: bool = Field(
        False, description="L_s: a segment of an unknown class also learns its nearest known class"
    )
    exclude_same_class: bool = Field(
        False, description="L_t: S- excludes segments whose class y_s is that of the pixel's segment"
    )
    residual: bool = Field(
        False, description="the student is its teacher's map plus what a small head learns, in one pass of its network"
    )
    affinity_temperature: float = Field(
        0.2, ge=0, description="residual: tau of the upsampling along outlines in the trunk's features; 0: bilinear"
    )
    head_scale: Share = Field(
        1.0, description="residual: factor of what the head adds to the teacher's map, after training"
    )
    student_prototypes: bool = Field(
        False, description="prototypes are the student's own mean over the teacher's nearest segments"
    )
    text_prior: float = Field(
        0.0, ge=0, description="weight of the class's text vector beside its pixel prototype; not with em_iterations"
    )
    em_iterations: int = Field(0, ge=0, description="EM iterations that fit prototypes to the trained student; 0: none")
    prior_weight: float = Field(
        1.0, ge=0, description="weight of the teacher's prototype in the fit; 1: equal to all pixels of the class"
    )
    exclusive_prototypes: bool = Field(
        False, description="a segment counts for the class alone whose standardized cosine with it is largest"
    )
    unknown_cap: PositiveShare = Field(
        1.0, description="largest share of training pixels that may be unknown; 1: no limit"
    )
    reference_share: Share = Field(
        0.5, description="calibration: weight of the reference photographs' mean beside the training images' own"
    )
    prediction_context: float = Field(
        0.0, ge=0, description="prediction: weight of the rest of the image in the class of a pixel"
    )
    unknown_in_loss: bool = Field(
        True, description="L_s: unknown prototypes are among its classes; false: they only serve predictions"
    )
    unknown_in_fit: bool = Field(False, description="fit unknown prototypes in all iterations, not only at the end")
    unknown_share: PositiveShare = Field(
        1.0,
        description="unknown prototypes are drawn from this share of segments, farthest from the known",
    )


class TrainConfig(_Section):
    """The training loop."""

    steps: int = Field(1000, ge=1, description="number of steps")
    batch: int = Field(8, ge=1, description="images per step and device, two views each")
    accumulate: int = Field(1, ge=1, description="batches per step; their gradients are averaged")
    lr: float = Field(1e-3, gt=0, description="learning rate of the head")
    backbone_lr: float = Field(1e-4, ge=0, description="learning rate of the backbone; 0 freezes it")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with train.momentum, as in SegSort and HSG")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: momentum")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of AdamW, or of SGD as a part of the gradient")
    warmup: int = Field(20, ge=0, description="steps of linear warmup")
    poly_power: float = Field(0.9, ge=0, description="the learning rate falls as (1 - step / steps) ** poly_power")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients with a larger norm are scaled down to it")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="arithmetic of training")
    gradient_checkpointing: bool = Field(
        False, description="dino: keep less of the forward pass and compute it again, for less memory and more time"
    )
    compile: bool = Field(
        False, description="compile the student with torch.compile: a minute at the start, then faster steps"
    )
    holdout: Share = Field(
        0.0, description="share of images kept out of training for the quality report; 0: it uses training images"
    )
    start_from: str | None = Field(
        None, description="folder of a run whose student this one starts from: the stage before, of the same networks"
    )
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of a moving average of the weights, saved as the student; 0: none"
    )
    max_nonfinite_steps: int = Field(
        5, ge=1, description="the run stops after this many steps in a row with a loss or gradient that is not finite"
    )
    save_every: int = Field(250, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="number of checkpoints to keep")
    eval_every: int = Field(100, ge=0, description="steps between sample sheets, and scores with --validate; 0: never")
    stall_timeout: float = Field(120.0, gt=0, description="seconds of waiting for a batch before a warning")


class Config(_Section):
    """All settings of a run. Images and class names are given separately.

    Args:
        data: images and views; every section has its own keys, see docs/reference/configuration.md.
        regions: how regions are found.
        teacher: which teacher, and how it reads images and names.
        student: the network that is trained.
        segments: spherical k-means.
        prototypes: of the classes.
        objective: the three losses.
        extensions: beyond the paper.
        train: steps, batch, learning rate, checkpoints.

    Raises:
        pydantic.ValidationError: an unknown key or an invalid value.

    Example:
        >>> Config(train={"steps": 200, "batch": 4})
        Config(train.steps=200, train.batch=4)
    """

    data: DataConfig = DataConfig()
    regions: RegionConfig = RegionConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    segments: SegmentConfig = SegmentConfig()
    prototypes: PrototypeConfig = PrototypeConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    extensions: ExtensionConfig = ExtensionConfig()
    train: TrainConfig = TrainConfig()

    def __repr__(self) -> str:
        """The settings that are not the defaults."""
        changed = [
            f"{section}.{key}={getattr(getattr(self, section), key)!r}"
            for section in type(self).model_fields
            for key, field in type(getattr(self, section)).model_fields.items()
            if getattr(getattr(self, section), key) != field.default
        ]
        return f"Config({listing(changed, 8)})"

    __str__ = __repr__

    @model_validator(mode="after")
    def _check_stride(self) -> "Config":
        if self.extensions.residual and self.student.stride < 16:
            raise ValueError(
                f"extensions.residual: student.stride = {self.student.stride} is finer than the teacher's; set it to 16"
            )
        if not self.extensions.residual and self.student.stride > 8:
            raise ValueError(f"student.stride = {self.student.stride} needs extensions.residual; set it to 4 or 8")
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> "Config":
        if self.prototypes.per_class == "nearest" and self.objective.mode != "clips4":
            raise ValueError(
                f"prototypes.per_class = 'nearest': objective.mode = {self.objective.mode!r} has no prototypes; leave "
                "out one of them"
            )
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that the weights depend on, given the same number of images per step.

        Returns:
            section -> key -> value, without the keys of later versions that are at their default, so that hashes of
            earlier runs stay.

        Example:
            >>> "steps" in Config().decisive()["train"]
            True
        """
        values = self.model_dump(mode="json")
        for section, keys in _INDIFFERENT.items():
            for key in keys:
                del values[section][key]
        for section, key in _LATER:
            if values[section][key] == type(getattr(self, section)).model_fields[key].default:
                del values[section][key]
        return values


_INDIFFERENT = {
    "data": ("workers", "inference_side", "inference_short_side"),
    "teacher": ("cache_gib", "cache_files", "batch"),
    "objective": ("chunk_mib",),
    "extensions": ("prediction_context",),
    "train": (
        *("batch", "gradient_checkpointing", "max_nonfinite_steps", "save_every", "keep_checkpoints"),
        *("eval_every", "stall_timeout"),
    ),
}
_LATER = (("prototypes", "per_class"), ("teacher", "proxy"), ("train", "compile"))


def preset_names() -> list[str]:
    """List the presets that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in PRESETS.iterdir() if path.name.endswith(".yaml"))


def known_keys() -> list[str]:
    """List all keys as ``section.key``."""
    sections = Config.model_fields
    return [
        f"{section}.{key}"
        for section in sections
        for key in sections[section].annotation.model_fields  # type: ignore[union-attr]
    ]


def load_config(preset: str | Path = "cpu", overrides: Sequence[str] = ()) -> Config:
    """Load a preset or a YAML file, and apply overrides.

    Args:
        preset: one of ``preset_names()``, or the path of a YAML file.
        overrides: ``section.key=value`` strings; values are YAML. Later ones win.

    Returns:
        The validated configuration. Old keys (``RENAMED`` and ``FIXED`` of ``config_renames``) give a FutureWarning.

    Raises:
        UserError: an unknown preset or key, or an invalid value; the message suggests the nearest key.

    Example:
        >>> load_config("cpu", ["train.steps=200"]).train.steps
        200
    """
    if str(preset) in preset_names():
        text = PRESETS.joinpath(f"{preset}.yaml").read_text("utf-8")
    elif Path(preset).is_file():
        try:
            text = read_bytes(Path(preset), _YAML_BYTES).decode()
        except UnicodeDecodeError:
            raise UserError(f"{preset}: not a UTF-8 text file; write the configuration as YAML")
    else:
        raise UserError(f"unknown preset {str(preset)!r}; give one of {', '.join(preset_names())}, or a YAML file")
    values = _read_yaml(text, str(preset)) or {}
    if not isinstance(values, dict):
        raise UserError(f"{preset}: has no sections; write section: and below it key: value")
    for section, keys in values.items():
        if keys is not None and not isinstance(keys, dict):
            raise UserError(f"{preset}: section {section!r} has no keys; write key: value below it")
    sections = _renamed({section: dict(keys or {}) for section, keys in values.items()}, str(preset))
    for override in overrides:
        _apply(sections, override)
    return parse_config(sections, str(preset))


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """The same configuration with ``section.key=value`` strings applied.

    Raises:
        UserError: an unknown key or an invalid value.
    """
    sections = config.model_dump()
    for override in overrides:
        _apply(sections, override)
    return parse_config(sections, "settings")


def saved_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate the values of a saved run; one that was saved before teachers were calibrated is in the raw space.

    Raises:
        UserError: see ``parse_config``.
    """
    teacher = values.get("teacher")
    if isinstance(teacher, Mapping):
        values = {**values, "teacher": {"calibrate": False, **teacher}}
    return parse_config(values, source)


def _renamed(sections: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Rename old keys, with a warning for each."""
    current, old_keys, fixed = with_current_keys(sections, source)
    for key in fixed:
        warnings.warn(f"{source}: {key} is fixed at this value; leave it out", FutureWarning, stacklevel=3)
    for old in old_keys:
        warnings.warn(f"{source}: {old} is now called {RENAMED[old]}", FutureWarning, stacklevel=3)
    return current


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's plain values: 010, 1_000, 1:30, on and 2020-01-01 are text for the schema."""


_Loader.yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("null", "~|null|Null|NULL|", "~nN"),
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, *([""] if _tag == "null" else [])]
    )


def _read_yaml(text: str, source: str) -> Any:
    """The values of a YAML text of limited size, depth and repetition."""
    try:
        if len(text) > _YAML_BYTES:
            raise ValueError(f"longer than {_YAML_BYTES} characters")
        tree = yaml.compose(text, _Loader)
        if tree is not None and _count_nodes(tree, {}) > _YAML_NODES:
            raise ValueError("its aliases repeat too much")
        return yaml.load(text, _Loader)  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: invalid YAML ({printable(str(error).splitlines()[0][:120])})")
    except (TypeError, LookupError, AttributeError, ArithmeticError):  # of the loader's constructors
        raise UserError(f"{source}: invalid YAML (a value is not what its tag says)")


def _count_nodes(node: yaml.Node, sizes: dict[int, int], depth: int = 0) -> int:
    """Nodes below one, each as often as aliases repeat it."""
    if depth > _YAML_DEPTH:
        raise ValueError(f"nested more than {_YAML_DEPTH} levels deep")
    if id(node) not in sizes:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [each for child in children for each in (child if isinstance(child, tuple) else (child,))]
        sizes[id(node)] = 1 + sum(_count_nodes(each, sizes, depth + 1) for each in flat)
    return sizes[id(node)]


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"setting {override!r}: write section.key=value, e.g. train.steps=200")
    section, _, name = key.partition(".")
    source = f"setting {override}"
    for part, keys in _renamed({section: {name: _read_yaml(text, source)}}, source).items():
        for each, given in keys.items():
            if f"{part}.{each}" not in known_keys():
                raise UserError(f"setting {override!r}: unknown key {key!r}{_did_you_mean(key)}")
            values.setdefault(part, {})[each] = given


def _did_you_mean(key: str) -> str:
    near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate plain values.

    Args:
        values: section -> key -> value; old keys are renamed, and those that became constants left out.
        source: where the values come from, for the message.

    Raises:
        UserError: an unknown key or an invalid value; the message names the first one. Likewise a key that became a
            constant, with another value.
    """
    try:
        return Config.model_validate(with_current_keys(values, source).values)
    except ValidationError as error:
        first = error.errors()[0]
        key = printable(".".join(str(part) for part in first["loc"]))[:80]
        given = printable(repr(first["input"]))[:80]
        if first["type"] == "extra_forbidden":
            raise UserError(f"{source}: unknown key {key!r}{_did_you_mean(key)}")
        if first["type"] == "value_error":
            # of several keys together the message names them
            name = f"{key} = {given}: " if len(first["loc"]) > 1 else ""
            raise UserError(f"{source}: {name}{first['msg'].removeprefix('Value error, ')}")
        raise UserError(f"{source}: {key} = {given}: {first['msg'].lower()}")
