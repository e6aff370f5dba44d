import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from clips4.inference.segmenter import Segmenter
from clips4.serve.http.api import Api
from clips4.serve.http.app import create_app
from clips4.serve.runs import from_runs, to_runs
from clips4.serve.server import make_api
from tests.serve.conftest import CLASSES, authorized, opened


def labels_of(found: dict[str, Any]) -> np.ndarray[Any, Any]:
    return from_runs(found["runs"], (found["height"], found["width"]))


def predicted(user: TestClient, image: dict[str, Any], body: dict[str, Any] = CLASSES) -> dict[str, Any]:
    response = user.post(f"/api/images/{image['id']}/labels", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_labels_of_upload_equal_those_of_the_segmenter(user: TestClient, images: Path, tiny_run: Path) -> None:
    path = images / "photo1.png"
    found = predicted(user, opened(user, path))
    result = Segmenter.load(tiny_run).segment(path, ["cat", "cup", "grass"])
    expected = np.where(result.labels >= 0, result.labels, -2 - (result.unknown_labels + 0))  # type: ignore[operator]
    assert np.array_equal(labels_of(found), expected)
    assert sum(each["share"] for each in found["legend"]) == pytest.approx(1)
    assert [each["name"] for each in found["legend"]][:3] == ["cat", "cup", "grass"]


def test_group_of_two_names_joins_their_pixels(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo0.png")
    alone = labels_of(predicted(user, image))
    group = {"classes": [{"name": "things", "queried": ["cat", "cup"]}, {"name": "grass"}]}
    joined = labels_of(predicted(user, image, group))
    assert np.array_equal(joined == 0, np.isin(alone, [0, 1]))
    assert np.array_equal(joined < 0, alone < 0)


def test_pixel_has_its_label_among_its_best_names(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo0.png")
    found = predicted(user, image)
    label = int(labels_of(found)[5, 7])
    why = user.post(f"/api/images/{image['id']}/pixel", json={**CLASSES, "x": 7, "y": 5}).json()
    assert why["best"][0]["name"] == next(each["name"] for each in found["legend"] if each["label"] == label)
    assert [each["cosine"] for each in why["best"]] == sorted((each["cosine"] for each in why["best"]), reverse=True)
    segments = user.get(f"/api/images/{image['id']}/segments").json()
    size = segments["height"], segments["width"]
    assert from_runs(segments["runs"], size)[5, 7] == why["segment"]
    assert segments["regions"][why["segment"]] == why["region"]


def test_similar_of_two_images_lists_both_but_not_the_segment_itself(user: TestClient, images: Path) -> None:
    first, second = (opened(user, images / f"photo{i}.png") for i in range(2))
    found = user.post(f"/api/images/{first['id']}/similar", json={"x": 3, "y": 4}).json()
    assert [each["image"] for each in found["maps"]] == [first["id"], second["id"]]
    own = found["maps"][0]
    assert max(own["values"]) == 255
    assert len(own["values"]) == own["width"] * own["height"]
    cosines = [each["cosine"] for each in found["nearest"]]
    assert cosines == sorted(cosines, reverse=True)


def example(user: TestClient, image: dict[str, Any], segment: int, name: str, **more: Any) -> Any:
    body = {**CLASSES, "image": image["id"], "segments": [segment], "name": name, **more}
    return user.post("/api/examples", json=body)


def test_example_changes_its_segment_and_undo_restores_all(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo2.png")
    before = labels_of(predicted(user, image))
    segments = user.get(f"/api/images/{image['id']}/segments").json()
    numbers = from_runs(segments["runs"], (segments["height"], segments["width"]))
    segment = int(np.bincount(numbers.ravel()).argmax())
    name = "cup" if (before[numbers == segment] == 0).mean() > 0.5 else "cat"
    assert example(user, image, segment, name).json()["examples"][0]["segments"] == [segment]
    after = labels_of(predicted(user, image))
    place = {"cat": 0, "cup": 1}[name]
    assert (after[numbers == segment] == place).mean() > 0.5 > (before[numbers == segment] == place).mean()
    assert user.delete("/api/examples").json()["examples"] == []
    assert np.array_equal(labels_of(predicted(user, image)), before)


def test_example_that_is_not_a_class_belongs_to_the_nearest_other(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo2.png")
    found = example(user, image, 0, "cat", negative=True).json()["examples"][0]
    assert found["negative_of"] == "cat"
    assert found["name"] in ("cup", "grass")
    alone = example(user, image, 0, "cat", negative=True, classes=[{"name": "cat"}])
    assert alone.status_code == 422
    assert "only class" in alone.json()["error"]


def test_class_of_examples_alone_needs_one(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo2.png")
    body = {"classes": [{"name": "cat"}, {"name": "blob", "queried": []}]}
    refused = user.post(f"/api/images/{image['id']}/labels", json=body)
    assert refused.status_code == 422
    example(user, image, 1, "blob")
    assert next(each for each in predicted(user, image, body)["legend"] if each["name"] == "blob")["share"] > 0


def test_edit_sets_its_segments_and_export_has_them(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo0.png")
    before = labels_of(predicted(user, image))
    segments = user.get(f"/api/images/{image['id']}/segments").json()
    numbers = from_runs(segments["runs"], (segments["height"], segments["width"]))
    assert (
        user.post(f"/api/images/{image['id']}/edits", json={"segments": [0, 1], "name": "grass"}).json()["edits"] == 1
    )
    user.post(f"/api/images/{image['id']}/edits", json={"segments": [2]})
    after = labels_of(predicted(user, image))
    assert (after[np.isin(numbers, [0, 1])] == 2).all()
    assert (after[numbers == 2] == -1).all()
    assert np.array_equal(after[numbers > 2], before[numbers > 2])
    exported = user.post("/api/export", json={**CLASSES, "images": [image["id"]], "format": "png"})
    values = np.array(Image.open(io.BytesIO(exported.content)))
    assert np.array_equal(values, np.where(after < 0, 255, after))
    for _ in range(2):
        user.delete(f"/api/images/{image['id']}/edits")
    assert np.array_equal(labels_of(predicted(user, image)), before)


@pytest.mark.parametrize("format", ["png", "coco", "labelme"])
def test_export_of_images_with_one_name_keeps_both(user: TestClient, images: Path, format: str) -> None:
    ids = [opened(user, images / "photo0.png")["id"] for _ in range(2)]
    exported = user.post("/api/export", json={**CLASSES, "images": ids, "format": format})
    assert exported.status_code == 200
    if format == "coco":
        document = json.loads(exported.content)
        assert [each["file_name"] for each in document["images"]] == ["photo0.png"] * 2
        assert {each["image_id"] for each in document["annotations"]} == {1, 2}
    else:
        suffix = {"png": "png", "labelme": "json"}[format]
        with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
            assert archive.namelist() == [f"photo0.{suffix}", f"photo0-2.{suffix}"]


def test_large_image_has_a_reduced_view_and_a_whole_export(user: TestClient, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.open(images / "photo0.png").resize((2000, 900)).save(path)
    image = opened(user, path)
    assert (image["width"], image["height"], image["view"]) == (2000, 900, [1600, 720])
    assert Image.open(io.BytesIO(user.get(f"/api/images/{image['id']}").content)).size == (1600, 720)
    exported = user.post("/api/export", json={**CLASSES, "images": [image["id"]], "format": "png"})
    assert Image.open(io.BytesIO(exported.content)).size == (2000, 900)


def test_teacher_of_the_run_predicts_apart(user: TestClient, images: Path) -> None:
    image = opened(user, images / "photo0.png")
    example(user, image, 0, "cat")
    found = predicted(user, image, {**CLASSES, "by": "teacher"})
    assert all(each["source"] != "examples" for each in found["legend"])


def test_saved_set_continues_and_segments_the_same(copied_run: Path, images: Path) -> None:
    segmenter = Segmenter.load(copied_run)
    api = make_api(segmenter, copied_run, [], "run", 60)
    with TestClient(create_app(api, prepare=False), base_url="http://127.0.0.1") as client:
        user = authorized(client, api)
        image = opened(user, images / "photo1.png")
        example(user, image, 0, "cup")
        body = {"classes": [{"name": "pet", "queried": ["cat"]}, {"name": "cup"}]}
        before = labels_of(predicted(user, image, body))
        saved = user.post("/api/sets", json={**body, "name": "mine"}).json()
        assert saved["sets"] == ["mine"]
        path = copied_run / "class-sets" / "mine.safetensors"
        assert str(path) in saved["command"]
        result = segmenter.segment(images / "photo1.png", str(path))
        assert np.array_equal(np.where(before < 0, -1, before), result.labels)
        other = authorized(client, api)
        again = other.post("/api/sets/mine").json()
        assert again["classes"] == [{"name": "pet", "queried": ["cat"]}, {"name": "cup", "queried": ["cup"]}]
        image = opened(other, images / "photo1.png")
        assert np.array_equal(labels_of(predicted(other, image, body)), before)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "a\0b", "x" * 65, " "])
def test_set_with_a_name_like_a_path_is_refused(user: TestClient, name: str, tiny_run: Path) -> None:
    assert user.post("/api/sets", json={**CLASSES, "name": name}).status_code == 422
    assert not (tiny_run / "class-sets").exists()


def test_sessions_of_two_users_do_not_mix(client: TestClient, api: Api, images: Path) -> None:
    first = authorized(client, api)
    image = opened(first, images / "photo0.png")
    example(first, image, 0, "cat")
    second = authorized(client, api)  # the same client with another session
    assert second.get("/api/images").json()["images"] == []
    assert second.get("/api/examples").json()["examples"] == []
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/segments"), ("DELETE", "/edits")):
        assert second.request(method, f"/api/images/{image['id']}{path}").status_code == 404
    assert second.post(f"/api/images/{image['id']}/labels", json=CLASSES).status_code == 404


def test_listed_images_open_by_number_alone(user: TestClient) -> None:
    listed = user.get("/api/images").json()["listed"]
    assert [each["name"] for each in listed] == ["photo0.png", "photo1.png", "photo2.png"]
    assert user.post("/api/listed/1").json()["name"] == "photo1.png"
    for wrong in ("3", "-1", "x", "1.5", "²", "../photo0.png"):
        assert user.post(f"/api/listed/{wrong}").status_code in (404, 422)


def test_clip_is_tracked_corrected_and_exported(user: TestClient, images: Path) -> None:
    ids = [opened(user, images / f"photo{i}.png")["id"] for i in (0, 0, 1, 1)]
    clip = user.post("/api/clips", json={"images": ids}).json()
    address, size = f"/api/videos/{clip['id']}", (clip["height"], clip["width"])
    mask = np.zeros(size, np.int32)
    mask[: size[0] // 2, : size[1] // 2] = 1

    def track(frame: int) -> dict[str, Any]:
        response = user.post(f"{address}/track", json={"frame": frame, "runs": to_runs(mask)})
        assert response.status_code == 200, response.text
        end = time.monotonic() + 30
        while (facts := user.get(address).json())["state"] == "tracking" and time.monotonic() < end:
            time.sleep(0.02)
        return dict(facts)

    facts = track(0)
    assert (facts["state"], facts["tracked"]) == ("done", [0, 1, 2, 3])
    second = from_runs(user.get(f"{address}/masks/1").json()["runs"], size)
    assert (second == mask).mean() > 0.8  # the same image again
    mask[:] = 0
    mask[-20:, -20:] = 3
    track(2)
    assert np.array_equal(from_runs(user.get(f"{address}/masks/1").json()["runs"], size), second)
    assert np.array_equal(from_runs(user.get(f"{address}/masks/2").json()["runs"], size), mask)
    with zipfile.ZipFile(io.BytesIO(user.get(f"{address}/export").content)) as archive:
        assert archive.namelist() == [f"{number:05d}.png" for number in range(4)]
    assert user.get(f"{address}/frames/9").status_code == 422
    assert user.delete(f"{address}/track").json()["tracked"] == [0, 1, 2, 3]
    assert user.delete(address).status_code == 200
    assert user.get(address).status_code == 404


def test_track_without_an_object_is_refused(user: TestClient, images: Path) -> None:
    ids = [opened(user, images / "photo0.png")["id"] for _ in range(2)]
    clip = user.post("/api/clips", json={"images": ids}).json()
    pixels = clip["width"] * clip["height"]
    for body in ({"frame": 0, "runs": [0, pixels]}, {"frame": 2, "runs": [1, pixels]}, {"frame": 0, "runs": [1, 5]}):
        assert user.post(f"/api/videos/{clip['id']}/track", json=body).status_code == 422
