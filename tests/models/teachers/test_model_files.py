"""Models from the hub, against a local stand-in of it over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clips4.errors import UserError
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.model_files import find_model, is_model_name
from clips4.utils.hub import own_file, shard_names
from tests.helpers import photograph
from tests.models.teachers.hub_server import HubServer, use_server
from tests.models.teachers.models import write_clip

REPOSITORY = "owner/clip-vit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "model"
    write_clip(path)
    return path


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The stand-in with one model, an empty cache, and the hub's library pointed at both."""
    from huggingface_hub import constants

    with HubServer() as running:
        running.add(REPOSITORY, folder)
        use_server(running, tmp_path / "hub", monkeypatch)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        yield running


def commit_of(server: HubServer) -> str:
    return server.branches[REPOSITORY]["main"]


def fails(name: str = REPOSITORY) -> str:
    with pytest.raises(UserError) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_model_is_downloaded_whole_and_pinned_to_its_commit(server: HubServer, folder: Path) -> None:
    files = find_model(REPOSITORY)
    assert files.name == f"{REPOSITORY}@{commit_of(server)}"
    assert files.fingerprint == commit_of(server)
    assert {path.name for path in files.folder.iterdir()} == {path.name for path in folder.iterdir()} - {"README.md"}
    for path in files.folder.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()
    teacher = load_teacher(REPOSITORY)
    assert teacher.name == files.name
    assert teacher.settings["model"] == commit_of(server)


def test_what_is_cached_is_not_fetched_again(server: HubServer) -> None:
    first = find_model(REPOSITORY)
    before = len(server.requests)
    assert find_model(REPOSITORY) == first
    asked = [(method, path.rsplit("/", 1)[-1]) for method, path, _ in server.requests[before:] if "resolve" in path]
    assert set(asked) <= {("HEAD", "config.json")}, "only whether the branch has moved"
    before = len(server.requests)
    assert find_model(first.name) == first
    assert not [path for _, path, _ in server.requests[before:] if "resolve" in path], "a commit never moves"


def test_cut_connection_is_resumed_where_it_broke(server: HubServer, folder: Path) -> None:
    size = (folder / "model.safetensors").stat().st_size
    server.cut_after = size // 2
    files = find_model(REPOSITORY)
    assert (files.folder / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    ranges = [r for method, path, r in server.requests if method == "GET" and path.endswith("model.safetensors")]
    assert len(ranges) == 2
    assert ranges[0] is None
    start = int(str(ranges[1]).removeprefix("bytes=").split("-")[0])
    assert 0 < start <= size // 2
    assert start > size // 2 - (1 << 16)


def test_download_that_breaks_off_for_good_raises_and_complete_parts_are_kept(
    server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (folder / "model.safetensors").stat().st_size
    server.cut_after, server.dies = size // 3, True
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)
        line = fails()
    assert "model.safetensors is not whole in its cache" in line
    assert "run it once with a network" in line
    server.revive()
    before = len(server.requests)
    files = find_model(REPOSITORY)
    assert (files.folder / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert [path for _, path, _ in server.requests[before:] if path.endswith("model.safetensors")]
    assert not [path for _, path, _ in server.requests[before:] if path.endswith(f"{files.fingerprint}/config.json")]


def test_without_network_what_is_cached_is_used(server: HubServer, folder: Path) -> None:
    first = find_model(REPOSITORY)
    server.stop()
    assert find_model(REPOSITORY) == first
    assert find_model(first.name) == first


def test_without_network_and_nothing_cached_one_line_advises(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    line = fails()
    assert "the hub cannot be reached and nothing of it is cached" in line
    assert "run it once with a network, or give the path of a folder that save_pretrained wrote" in line
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in fails()
    assert "nothing of it is cached" in fails(f"{REPOSITORY}@{'0' * 40}")


def test_branch_that_moved_gives_its_new_commit_and_the_old_one_stays(
    server: HubServer, folder: Path, tmp_path: Path
) -> None:
    old = find_model(REPOSITORY)
    write_clip(tmp_path / "new", seed=1)
    server.add(REPOSITORY, tmp_path / "new")
    assert find_model(REPOSITORY).fingerprint == commit_of(server) != old.fingerprint
    assert find_model(old.name) == old


def test_find_model_of_another_branch_is_its_commit(server: HubServer, tmp_path: Path) -> None:
    write_clip(tmp_path / "new", seed=1)
    commit = server.add(REPOSITORY, tmp_path / "new", branch="v2")
    assert find_model(f"{REPOSITORY}@v2").fingerprint == commit


def test_what_the_hub_does_not_have_raises(server: HubServer, folder: Path, tmp_path: Path) -> None:
    assert "neither a local folder nor a model on the hub" in fails("owner/nothing")
    assert "has no revision 'gone' (any more)" in fails(f"{REPOSITORY}@gone")
    assert f"has no revision '{'1' * 40}'" in fails(f"{REPOSITORY}@{'1' * 40}")
    server.gated.add(REPOSITORY)
    assert "access is granted on request" in fails()
    files = dict(next(iter(server.files[REPOSITORY].values())))
    index = b'{"weight_map": {"a": "b.safetensors"}}'
    pickled: dict[str, Any] = {"model.safetensors": None, "pytorch_model.bin": b"x"}
    shards: dict[str, Any] = {"model.safetensors": None, "model.safetensors.index.json": index}
    for name, changes, words in [
        ("owner/pickled", pickled, "pickled weights (.bin, .pt) are never loaded"),
        ("owner/bare", {"config.json": None}, "has no config.json"),
        ("owner/shards", shards, "has no b.safetensors, though its index lists it"),
    ]:
        changed: dict[str, Any] = {**files, **changes}
        server.files[name] = {"2" * 40: {file: data for file, data in changed.items() if data is not None}}
        server.branches[name] = {"main": "2" * 40}
        assert words in fails(name)
    assert server.asked("GET", "pytorch_model.bin") == 0


def test_only_what_is_needed_is_fetched(server: HubServer, folder: Path) -> None:
    files = next(iter(server.files[REPOSITORY].values()))
    files |= {"pytorch_model.bin": b"x" * 100, "open_clip_pytorch_model.safetensors": b"x" * 100, "README.md": b"x"}
    find_model(REPOSITORY)
    fetched = {path.rsplit("/", 1)[-1] for method, path, _ in server.requests if method == "GET" and "resolve" in path}
    assert fetched == {"config.json", "model.safetensors", "vocab.json", "merges.txt"}


def test_error_that_is_no_connections_is_not_hidden(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PermissionError(13, "no right to write there")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    with pytest.raises(PermissionError):
        find_model(REPOSITORY)


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("owner/name", True),
        ("owner/name.v2@main", True),
        ("owner/name@refs/pr/1", True),
        ("./folder", True),
        ("/somewhere/else", True),
        ("clip", False),
        ("conse2", False),
        ("owner/na me", False),
        ("@main", False),
    ],
)
def test_is_model_name_accepts_paths_and_hub_ids(name: str, may_be: bool) -> None:
    assert is_model_name(name) is may_be


def test_command_line_downloads_and_segments(folder: Path, tmp_path: Path) -> None:
    """Through the environment alone, as a user would."""
    photograph().save(tmp_path / "a.png")
    with HubServer() as running:
        running.add(REPOSITORY, folder)
        environment = {**os.environ, "HF_ENDPOINT": running.endpoint, "HF_HOME": str(tmp_path / "home")}
        arguments = ["segment", "--teacher-only", REPOSITORY, str(tmp_path / "a.png"), "--classes", "cat,cup"]
        arguments += ["--out", str(tmp_path / "out"), "--save", "png", "--dense-attention", "sclip", "--key-smoothing"]
        arguments += ["--prompt-denoising", "--refine", "pamr", "--templates", "maskclip-85", "--device", "cpu"]
        command = [sys.executable, "-m", "clips4", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert "%" not in done.stderr, "no progress bar where the output is no terminal"
        assert running.asked("GET", "model.safetensors") == 1
    assert [path.name for path in (tmp_path / "out").glob("*.*") if path.is_file()] == ["a.png"]


def test_own_file_link_out_of_the_folder_or_pipe_raises_and_a_hub_cache_link_is_followed(tmp_path: Path) -> None:
    for name in ("model", "models--a/snapshots/c", "models--a/blobs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "models--a/blobs/1").write_text("{}")
    snapshot, model = tmp_path / "models--a/snapshots/c", tmp_path / "model"
    (snapshot / "config.json").symlink_to("../../blobs/1")
    assert own_file(snapshot, "config.json") == snapshot / "config.json"
    assert own_file(model, "config.json") is None
    for folder, target in ((model, "../secret"), (model, "/etc/passwd"), (snapshot, "../../../secret")):
        (folder / "x.json").unlink(missing_ok=True)
        (folder / "x.json").symlink_to(target)
        with pytest.raises(UserError, match="a link that leads out of its folder"):
            own_file(folder, "x.json")
    os.mkfifo(model / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        own_file(model, "pipe")


@pytest.mark.parametrize("names", [["../x.safetensors"], ["/x.safetensors"], [5], [["x"]], ["x.bin"], [5, "x"], []])
def test_shard_names_other_places_or_kinds_raise(tmp_path: Path, names: list[object]) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(number): name for number, name in enumerate(names)}}))
    with pytest.raises(UserError, match=r"index\.json: lists"):
        shard_names(index)
