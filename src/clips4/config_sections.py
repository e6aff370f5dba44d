"""The sections of a configuration: every setting with its type, range, default and description."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from clips4.utils.text import has_controls

_LARGEST = 2**53  # of a number; beyond it not every whole number has a float

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
PerClass = Literal["mean", "nearest"]


class Section(BaseModel):
    """Settings that belong together: unknown keys, and values of another kind or out of range, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_plain(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        is_switch = kind is bool or bool in get_args(kind)
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


class DataConfig(Section):
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


class RegionConfig(Section):
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


class TeacherConfig(Section):
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


class StudentConfig(Section):
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


class SegmentConfig(Section):
    """Spherical k-means of pixel embeddings."""

    clusters: Count | tuple[Count, Count] = Field(16, description="k-means clusters per view, or (rows, columns)")
    iterations: int = Field(10, ge=0, description="k-means iterations")


class PrototypeConfig(Section):
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


class ObjectiveConfig(Section):
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


class ExtensionConfig(Section):
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


class TrainConfig(Section):
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
    compile: bool | Literal["auto", "cuda-graphs"] = Field(
        False,
        description="compile the student with torch.compile, a minute or two at the start; auto: times both and takes "
        "the faster one; cuda-graphs: also replays a pass as one graph, on CUDA",
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
