"""A snapshot of the public interface: names and signatures. A change here is a change for users: see CHANGELOG.md."""

import inspect
from typing import Any

import pytest

import clips4

SIGNATURES = {
    "ClassList": "(names, aliases, ids=())",
    "Config": "(*, data=..., regions=..., teacher=..., student=..., segments=..., prototypes=..., objective=..., "
    "extensions=..., train=...)",
    "InferenceOptions": "(scales=(1.0,), flip=False, window=None, overlap=0.5, refine=None)",
    "export_onnx": "(run, out, calibration=None, text=False)",
    "load_classes": "(classes)",
    "load_config": "(preset='cpu', overrides=())",
    "load_teacher": "(teacher)",
    "propagate_masks": "(frames, mask, features, recipe=None, device='auto')",
    "push_to_hub": "(run, repository, private=True, token=None)",
    "save_pretrained": "(run, folder, repository=None)",
    "train": "(paths, classes, run, config=None, resume=False, device='auto', progress=None, callback=None, "
    "teacher=None, report=True, preset=None, settings=(), labels=None)",
}
METHODS = {
    "Segmenter.cluster": "(self, images=None, k=8, seed=0, options=None)",
    "Segmenter.discover": "(self, images, names=5, examples=4, progress=None)",
    "Segmenter.embed": "(self, images=None, options=None)",
    "Segmenter.from_pretrained": "(name, revision=None, device='auto', precision='auto', options=None, "
    "backend='torch', use='auto')",
    "Segmenter.from_teacher": "(name, config=None, device='auto', refinement=..., options=None, space=None)",
    "Segmenter.load": "(run, device='auto', precision='auto', options=None, backend='torch', use='auto')",
    "Segmenter.segment": "(self, images=None, classes=None, unknown=True, vectors='prototypes', background=None, "
    "options=None)",
    "Segmenter.set_image": "(self, image, options=None)",
    "Segmenter.to": "(self, device)",
    "Segmentation.areas": "(self)",
    "Segmentation.mask": "(self, name)",
    "Segmentation.overlay": "(self, legend=True)",
    "Segmentation.plot": "(self, axes=None, alpha=0.55, legend=True)",
    "Segmentation.probabilities": "(self, scale=40.0)",
    "Segmentation.save": "(self, folder, stem='picture', kinds=('png', 'overlay', 'json'), source='')",
    "Segmentation.to_coco": "(self, source='picture')",
    "Teacher.encode_pixels": "(self, images)",
    "Teacher.encode_text": "(self, prompts)",
}


def shape(function: Any) -> str:
    """The signature without annotations, long defaults as ``...``."""
    signature = inspect.signature(function)
    parameters = [
        each.replace(annotation=each.empty, default=each.default if len(repr(each.default)) < 30 else Ellipsis)
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty)).replace("Ellipsis", "...")


def test_all_names_are_the_snapshot() -> None:
    others = {"Segmentation", "Segmenter", "Teacher", "UserError", "__version__"}
    assert set(clips4.__all__) == SIGNATURES.keys() | others
    assert clips4.__all__ == sorted(clips4.__all__)
    for name in clips4.__all__:
        assert getattr(clips4, name) is not None


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_the_snapshot(name: str) -> None:
    assert shape(getattr(clips4, name)) == SIGNATURES[name]


@pytest.mark.parametrize("name", METHODS)
def test_method_signature_is_the_snapshot(name: str) -> None:
    owner, method = name.split(".")
    assert shape(getattr(getattr(clips4, owner), method)) == METHODS[name]


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segmenter'"):
        clips4.segmenter  # noqa: B018
