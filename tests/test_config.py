from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from clips4.config import Config, ExtensionConfig, known_keys, load_config, parse_config, preset_names
from clips4.errors import UserError


@pytest.mark.parametrize("name", preset_names())
def test_load_config_every_preset_is_valid(name: str) -> None:
    assert isinstance(load_config(name), Config)


def test_cpu_is_the_preset_that_is_always_there() -> None:
    assert "cpu" in preset_names()
    assert load_config() == load_config("cpu")


def test_known_keys_are_those_of_the_sections() -> None:
    keys = known_keys()
    assert len(keys) == len(set(keys))
    assert {"train.steps", "objective.concentration", "data.crop"} <= set(keys)
    dumped = Config().model_dump()
    assert keys == [f"{section}.{key}" for section in dumped for key in dumped[section]]


# ------------------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.steps=7", "train", "steps", 7),
        ("train.lr=1e-4", "train", "lr", 1e-4),
        ("objective.exclude_own=true", "objective", "exclude_own", True),
        ("segments.clusters=9", "segments", "clusters", 9),
        ("segments.clusters=[3, 5]", "segments", "clusters", (3, 5)),
        ("data.scale=[0.1, 0.5]", "data", "scale", (0.1, 0.5)),
        ("student.weights=a/b=c.pth", "student", "weights", "a/b=c.pth"),
        ("regions.method=felzenszwalb", "regions", "method", "felzenszwalb"),
    ],
)
def test_override_sets_its_key_and_no_other(override: str, section: str, key: str, value: object) -> None:
    changed, plain = load_config("cpu", [override]).model_dump(), load_config("cpu").model_dump()
    assert changed[section][key] == value
    changed[section][key] = plain[section][key]
    assert changed == plain


def test_last_override_wins() -> None:
    assert load_config("cpu", ["train.steps=7", "train.batch=2", "train.steps=8"]).train.steps == 8


def test_override_is_laid_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("train: {steps: 5, batch: 3}\n")
    config = load_config(path, ["train.steps=6"])
    assert (config.train.steps, config.train.batch) == (6, 3)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("train.step=7", "train.steps"),
        ("train.stepps=7", "train.steps"),
        ("objective.consentration=7", "objective.concentration"),
        ("tran.steps=7", "train.steps"),
        ("student.bakbone=x", "student.backbone"),
    ],
)
def test_unknown_key_fails_with_the_nearest_name(override: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown key .*did you mean {nearest}\\?"):
        load_config("cpu", [override])


@pytest.mark.parametrize("override", ["zzzzqqqq=1", "=1", "train=1", "train.=1", "train.steps.x=1"])
def test_what_is_no_key_fails(override: str) -> None:
    with pytest.raises(UserError, match="unknown key"):
        load_config("cpu", [override])


@pytest.mark.parametrize("override", ["train.steps", "", "steps 7"])
def test_override_without_a_value_explains_the_syntax(override: str) -> None:
    with pytest.raises(UserError, match=r"write section\.key=value"):
        load_config("cpu", [override])


def test_override_that_is_no_yaml_is_named() -> None:
    with pytest.raises(UserError, match=r"segments\.clusters=\[1"):
        load_config("cpu", ["segments.clusters=[1"])


# ---------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=0",
        "train.steps=many",
        "train.steps=1.5",
        "train.steps=",
        "train.lr=0",
        "train.lr=-1",
        "train.lr=.nan",
        "train.precision=8-bit",
        "data.flip_prob=1.1",
        "data.crop=8",
        "data.scale=0.5",
        "data.scale=[0.5]",
        "objective.concentration=0",
        "objective.temperature=0",
        "objective.contrast_weight=-1",
        "student.output_stride=12",
        "student.stride=16",
        "regions.count=0",
        "regions.method=watershed",
        "prototypes.m=0",
        "prototypes.unknown_step=2",
        "segments.iterations=-1",
    ],
)
def test_bad_value_fails_in_one_line_that_names_the_key(override: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("cpu", [override])
    assert override.split("=")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["segments.clusters=0", "segments.clusters=-4", "segments.clusters=[0, 4]"])
def test_no_clusters_fail_before_anything_runs(override: str) -> None:
    with pytest.raises(UserError, match=r"segments\.clusters"):
        load_config("cpu", [override])


@pytest.mark.parametrize("override", ["data.scale=[-0.5, 0.5]", "data.scale=[0, 1]", "data.scale=[0.5, 1.5]"])
def test_ranges_that_no_crop_can_be_drawn_from_fail(override: str) -> None:
    with pytest.raises(UserError, match=override.split("=")[0]):
        load_config("cpu", [override])


def test_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Config().train.steps = 3  # type: ignore[misc]


# ----------------------------------------------------------------------------------------------------------- files


def test_configuration_comes_back_from_its_own_dump() -> None:
    config = load_config("cpu", ["segments.clusters=[3, 5]", "train.steps=7"])
    assert parse_config(config.model_dump(mode="json"), "card") == config
    assert parse_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))), "card") == config


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_config(path) == Config()


def test_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'gpu9000'; give one of .*cpu"):
        load_config("gpu9000")


def test_unknown_key_in_a_file_fails_with_file_and_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("train: {stepps: 5}\n")
    with pytest.raises(UserError, match=r"own\.yaml: unknown key 'train\.stepps'; did you mean train\.steps\?"):
        load_config(path)


def test_unknown_section_in_a_file_fails(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("training: {steps: 5}\n")
    with pytest.raises(UserError, match=r"own\.yaml: unknown key 'training'"):
        load_config(path)


@pytest.mark.parametrize("overrides", [[], ["train.steps=3"]])
@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "train: [1, 2]\n", "train: {steps: [\n", "a: b: c\n"])
def test_file_of_another_form_is_the_users_error(tmp_path: Path, text: str, overrides: list[str]) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"own\.yaml") as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", [[], ["train.steps=3"]])
def test_section_without_keys_is_never_a_crash(tmp_path: Path, overrides: list[str]) -> None:
    """``train:`` with nothing under it, as is left when all its lines are commented out."""
    path = tmp_path / "own.yaml"
    path.write_text("train:\n#  steps: 5\n")
    try:
        steps = load_config(path, overrides).train.steps
    except UserError:
        return
    assert steps == (3 if overrides else Config().train.steps)


def test_file_that_is_no_text_is_the_users_error(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(b"\xff\xfe\x00train")
    with pytest.raises(UserError, match=r"own\.yaml"):
        load_config(path)


@pytest.mark.parametrize("preset", ["paper", "multi-gpu"])
def test_paper_presets_hold_no_extension(preset: str) -> None:
    config = load_config(preset)
    assert config.extensions == ExtensionConfig()
    assert config.regions.method == "hed-ucm"


def test_config_keys_that_do_not_fit_together_are_named_in_a_short_line() -> None:
    with pytest.raises(UserError) as caught:
        load_config("recommended", ["student.stride=8"])
    assert len(str(caught.value)) < 200
    assert "extensions.residual: student.stride = 8" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "train: !!int x",
        "train: !!bool x",
        "train: !!timestamp x",
        "train: 2020-99-99",
        "train: {steps: .inf}",
        "train: {lr: 1e999}",
        "train: {lr: .nan}",
        "train: {steps: true}",
        "train: {steps: on}",
        "train: {steps: 1:30}",
        "train: {steps: 1e30}",
        'teacher: {name: "a\\0b"}',
        "data: {jitter: [true, 0, 0, 0]}",
        "train: !!python/name:os.system",
        "[" * 2000,
        "- " * 2000,
        "a: &a [*a]",
        "a: &a [1, 1]\nb: &b [*a, *a]\n" + "".join(f"k{i}: &k{i} [{'*b, ' * 400}]\n" for i in range(20)),
        "a" * 300_000,
    ],
)
def test_load_config_hostile_yaml_raises_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError, match=r"p\.yaml") as caught:
        load_config(tmp_path / "p.yaml")
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_several_prototypes_in_a_mode_without_any_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"per_class = 'nearest': objective\.mode = 'maskclip-plus' has no prototypes"):
        load_config("cpu", ["prototypes.per_class=nearest", "objective.mode=maskclip-plus"])


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("prototypes", "per_class", "nearest"), ("teacher", "proxy", "dino/"), ("train", "compile", True)],
)
def test_decisive_key_of_a_later_version_counts_only_where_it_is_set(section: str, key: str, value: object) -> None:
    assert key not in load_config("cpu").decisive()[section]
    assert load_config("cpu", [f"{section}.{key}={str(value).lower()}"]).decisive()[section][key] == value
