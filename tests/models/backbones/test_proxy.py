"""The self-supervised backbone beside a teacher: its features, and what is refused."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clips4.config import Config
from clips4.errors import UserError
from clips4.inference.encoding.tta import InferenceOptions
from clips4.inference.segmenter import Segmenter
from clips4.models.pretrained import load_dino, load_proxy
from tests.helpers import conse, generator, photograph
from tests.models.backbones.test_dino_vit import make_model


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    make_model("dinov2").save_pretrained(folder)
    return folder


def test_features_are_the_last_level_of_normalized_images(dino: Path) -> None:
    images = torch.rand(2, 3, 28, 42, generator=generator(0))
    backbone = load_dino(str(dino)).eval()
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (backbone.mean, backbone.std))
    with torch.no_grad():
        wanted = F.normalize(backbone((images - mean) / std)[-1], dim=1)
    proxy = load_proxy(str(dino))
    torch.testing.assert_close(proxy(images), wanted)
    assert proxy(images).shape == (2, 32, 2, 3)
    assert proxy.stride == 14
    assert not any(parameter.requires_grad for parameter in proxy.parameters())


def test_fingerprint_is_of_the_weights_alone(dino: Path, tmp_path: Path) -> None:
    make_model("dinov2").save_pretrained(tmp_path / "same")
    make_model("dinov2", hidden_size=16).save_pretrained(tmp_path / "other")
    same, other = (load_proxy(str(tmp_path / name)).fingerprint() for name in ("same", "other"))
    assert load_proxy(str(dino)).fingerprint() == same != other


def test_missing_proxy_is_reported_in_one_line() -> None:
    with pytest.raises(UserError, match="backbone weights '/nowhere': no such folder; give the folder of a DINOv2"):
        load_proxy("/nowhere")


def test_lposs_of_a_teacher_with_a_proxy_has_the_proxys_graph(dino: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clips4.inference.segmenter.load_teacher", lambda _: conse())
    config = Config.model_validate({"teacher": {"proxy": str(dino)}})
    image, options = photograph(96, 128), InferenceOptions(refine="lposs")
    guided = Segmenter.from_teacher("conse", config, "cpu", options=options)
    alone = Segmenter.from_teacher("conse", device="cpu", options=options)
    encoded = guided.encode_image(image)
    features = guided.graph_features(encoded)
    assert features is not None
    assert features.shape == (32, 7, 9)
    assert guided.graph_features(encoded) is features  # from the cache
    assert alone.graph_features(encoded) is None
    vectors = guided.query("cat,sofa,grass").vectors
    scores = [each.classify(encoded, vectors, how)[1] for each in (guided, alone) for how in ("lposs", None)]
    assert torch.equal(scores[1], scores[3])
    assert not torch.allclose(scores[0], scores[2])
    assert not torch.allclose(scores[0], scores[1])
    assert alone.segment(image, "cat,sofa,grass").labels.shape == (96, 128)
