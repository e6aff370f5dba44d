"""Runs on the hub: what is published, how it comes back, and what may go wrong, against a local stand-in."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, close_session
from huggingface_hub.errors import HfHubHTTPError

from clips4 import Segmenter, push_to_hub, save_pretrained
from clips4.errors import UserError
from clips4.models.checkpoint import load_checkpoint
from clips4.models.hub import fetch_run
from tests.helpers import photograph
from tests.models.teachers.hub_server import HubServer, use_server

REPOSITORY = "owner/pets"
RECORD: dict[str, Any] = {
    "task": "language",
    "dataset": "coco128",
    "split": "val",
    "protocol": {"id": "clips4-v1"},
    "command": "clips4 evaluate language /home/jane-doe/run",
    "run": "/home/jane-doe/run",
    "rows": [
        {"row": "teacher by text", "miou": 0.08, "miou_present": 0.09, "pixel_accuracy": 0.14},
        {"row": "student by prototypes", "miou": 0.11, "miou_present": 0.1321, "pixel_accuracy": 0.1962},
    ],
}


@pytest.fixture(scope="module")
def published(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a score, as it is published; read only."""
    root = tmp_path_factory.mktemp("published")
    run = Path(shutil.copytree(tiny_run, root / "run"))
    (run / "scores").mkdir()
    (run / "scores/coco128.json").write_text(json.dumps(RECORD))
    return save_pretrained(run, root / "pets", REPOSITORY)


@pytest.fixture
def server(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The stand-in with one run, and the hub's library pointed at it with an empty cache."""
    with HubServer() as running:
        running.add(REPOSITORY, published)
        use_server(running, tmp_path / "hub", monkeypatch)
        yield running


def fails(name: str, revision: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        Segmenter.from_pretrained(name, revision, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_published_is_complete_and_nothing_else(published: Path, tiny_run: Path) -> None:
    files = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    assert files == {"card.json", "student.safetensors", "README.md", "scores/coco128.json"}
    own, theirs = load_checkpoint(tiny_run), load_checkpoint(published)
    assert theirs.config == own.config
    assert theirs.step == own.step
    for name, value in own.student.state_dict().items():
        assert torch.equal(theirs.student.state_dict()[name], value)


def test_run_comes_back_from_the_hub_bit_for_bit(server: HubServer, tiny_run: Path) -> None:
    own, theirs = Segmenter.load(tiny_run, device="cpu"), Segmenter.load(REPOSITORY, device="cpu")
    assert torch.equal(own.embed(photograph()), theirs.embed(photograph()))
    assert theirs.names == own.names
    fetched = {path.rsplit("/", 1)[-1] for method, path, _ in server.requests if method == "GET" and "resolve" in path}
    assert fetched == {"card.json", "student.safetensors"}, "nothing is fetched that is not read"


def test_revision_is_a_branch_or_a_commit(server: HubServer, published: Path, tmp_path: Path) -> None:
    first = server.branches[REPOSITORY]["main"]
    changed = Path(shutil.copytree(published, tmp_path / "changed"))
    (changed / "README.md").write_text("another")
    second = server.add(REPOSITORY, changed, "next")
    assert fetch_run(REPOSITORY).name == fetch_run(f"{REPOSITORY}@{first}").name == first
    assert fetch_run(REPOSITORY, "next").name == fetch_run(f"{REPOSITORY}@next").name == second
    assert "not both" in fails(f"{REPOSITORY}@next", "main")
    assert "no revision 'gone'" in fails(REPOSITORY, "gone")


def test_without_network_what_is_cached_is_used(server: HubServer) -> None:
    folder = fetch_run(REPOSITORY)
    server.stop()
    close_session()  # a connection that is open is served to its end
    assert fetch_run(REPOSITORY) == folder
    line = fails("owner/other")
    assert "run owner/other: the hub cannot be reached and nothing of it is cached" in line
    assert "give the path of a run's folder" in line


def test_what_the_hub_refuses_is_one_line(server: HubServer, tmp_path: Path) -> None:
    assert "neither a local folder nor a model on the hub" in fails("owner/nothing")
    server.gated.add(REPOSITORY)
    assert "access is granted on request" in fails(REPOSITORY)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/config.json").write_text("{}")
    server.add("owner/clip", tmp_path / "clip")
    assert "has no card.json, so it is no run that clips4 published" in fails("owner/clip")
    (tmp_path / "clip/card.json").write_text("{}")
    server.add("owner/half", tmp_path / "clip")
    assert "has no student.safetensors" in fails("owner/half")


def test_damaged_download_is_known(server: HubServer) -> None:
    files = server.files[REPOSITORY][server.branches[REPOSITORY]["main"]]
    files["student.safetensors"] = files["student.safetensors"][:-1] + b"x"
    assert "damaged checkpoint" in fails(REPOSITORY)


def test_mistyped_path_is_none_of_the_hubs_business(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert "holds no checkpoint" in fails("runs/pats")
    assert not server.requests


def test_model_card_is_valid_and_states_what_it_must(published: Path) -> None:
    card = ModelCard.load(published / "README.md")
    assert card.data.library_name == "clips4"
    assert card.data.pipeline_tag == "image-segmentation"
    values = {result.metric_type: result.metric_value for result in card.data.eval_results or []}
    assert values == {"miou": 11.0, "miou_present": 13.21, "pixel_accuracy": 19.62}, "the student's, in percent"
    text = " ".join(card.text.split())
    for said in (
        f'Segmenter.load("{REPOSITORY}")',
        "The teacher is a stand-in",
        "US 2024/0378859 A1",
        "| training images | 3, unlabeled",
        "3: cat, cup, grass",
        "protocol `clips4-v1`",
        "| student by prototypes | 13.21 | 11.00 | 19.62 |",
        "CLIP-S$^4$",
    ):
        assert said in text
    assert "$" not in text.replace("S$^4$", "")


def test_no_path_of_this_machine_is_published(copied_run: Path, tmp_path: Path) -> None:
    newest = sorted((copied_run / "checkpoints").iterdir())[-1]
    card = json.loads((newest / "card.json").read_text())
    card["config"]["teacher"]["name"] = "/home/jane-doe/models/my-clip"
    card["config"]["student"]["weights"] = "~/resnet.safetensors"
    (newest / "card.json").write_text(json.dumps(card))
    (copied_run / "score.json").write_text(json.dumps(RECORD))
    (copied_run / "other.json").write_text('{"path": "/home/jane-doe"}')
    folder = save_pretrained(copied_run, tmp_path / "out")
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"jane-doe" not in path.read_bytes(), path
            assert str(tmp_path).encode() not in path.read_bytes(), path
    assert load_checkpoint(folder).config.teacher.name == "my-clip"


def test_other_peoples_folders_are_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="holds other files"):
        save_pretrained(tiny_run, tmp_path)
    with pytest.raises(UserError, match="is the run itself"):
        save_pretrained(tiny_run, tiny_run)
    with pytest.raises(UserError, match="holds no checkpoint"):
        save_pretrained(tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    save_pretrained(tiny_run, tmp_path / "out")
    save_pretrained(tiny_run, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg", "out"]


def test_push_creates_the_repository_and_uploads_what_is_published(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    class Done:
        commit_url = "https://hub/owner/pets/commit/1"

    def upload(self: HfApi, *, repo_id: str, folder_path: Path, commit_message: str) -> Done:
        seen["files"] = sorted(path.name for path in folder_path.iterdir())
        seen["card"] = (folder_path / "README.md").read_text()
        return Done()

    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **options: seen.update(name=name, **options))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert push_to_hub(tiny_run, REPOSITORY) == Done.commit_url
    assert seen["name"] == REPOSITORY
    assert seen["private"] is True
    assert seen["exist_ok"] is True
    assert seen["files"] == ["README.md", "card.json", "student.safetensors"]
    assert f'Segmenter.load("{REPOSITORY}")' in seen["card"]


def test_push_without_right_or_network_is_one_line(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, server: HubServer
) -> None:
    with pytest.raises(UserError, match="give a repository as owner/name"):
        push_to_hub(tiny_run, "pets")
    with pytest.raises(UserError, match="the hub refused"):  # the stand-in takes no POST
        push_to_hub(tiny_run, REPOSITORY, token="hf_x")
    server.stop()
    with pytest.raises(UserError, match="the hub cannot be reached"):
        push_to_hub(tiny_run, REPOSITORY, token="hf_x")
    assert issubclass(HfHubHTTPError, OSError), "so a plain OSError line would hide what to do"


def test_torch_hub_loads_from_a_checkout(tiny_run: Path) -> None:
    root = str(Path(__file__).parents[2])
    segmenter = torch.hub.load(root, "segmenter", str(tiny_run), device="cpu", source="local")
    student = torch.hub.load(root, "student", str(tiny_run), source="local")
    own = Segmenter.load(tiny_run, device="cpu")
    assert torch.equal(segmenter.embed(photograph()), own.embed(photograph()))
    assert student(torch.rand(1, 3, 40, 56)).shape == (1, 384, 5, 7)
