import os
import socket
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.data.image_folder import MIN_SIDE, find_images, load_training_image
from clips4.errors import UserError
from clips4.utils.images import SUFFIXES
from clips4.utils.output_folder.manifest import write_entry
from clips4.utils.output_folder.output import Item, Output
from tests.helpers import noise_image


def save(path: Path, height: int, width: int) -> Path:
    Image.fromarray(noise_image(height, width)).save(path)
    return path


def test_photograph_smaller_than_the_long_side_stays_as_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 40, 60)
    assert np.array_equal(load_training_image(path, 64), noise_image(40, 60))


@pytest.mark.parametrize(("height", "width", "shape"), [(100, 200, (64, 128, 3)), (200, 100, (128, 64, 3))])
def test_photograph_is_reduced_to_its_long_side(
    tmp_path: Path, height: int, width: int, shape: tuple[int, int, int]
) -> None:
    assert load_training_image(save(tmp_path / "a.png", height, width), 128).shape == shape


@pytest.mark.parametrize(("height", "width"), [(MIN_SIDE - 1, 100), (100, MIN_SIDE - 1), (1, 1)])
def test_too_small_a_photograph_is_refused_with_its_size(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(UserError, match=rf"a\.png: {width} x {height} pixels are too few"):
        load_training_image(save(tmp_path / "a.png", height, width), 64)


def test_photograph_of_the_least_size_is_taken(tmp_path: Path) -> None:
    assert load_training_image(save(tmp_path / "a.png", MIN_SIDE, MIN_SIDE), 64).shape == (MIN_SIDE, MIN_SIDE, 3)


def test_photograph_too_narrow_once_reduced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="400 x 40 pixels are too narrow"):
        load_training_image(save(tmp_path / "a.png", 40, 400), 128)


# ---------------------------------------------------------------------------------------------------------- finding


def touch(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return list(paths)


def test_folders_are_searched_through_in_sorted_order(tmp_path: Path) -> None:
    wanted = touch(tmp_path / "a.jpg", tmp_path / "b" / "c.PNG", tmp_path / "b" / "d" / "e.webp", tmp_path / "z.tif")
    touch(tmp_path / "notes.txt", tmp_path / ".hidden.jpg", tmp_path / "noext")
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == find_images(str(tmp_path)) == wanted


def test_files_are_taken_whatever_their_suffix_and_each_once(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a.jpg", tmp_path / "b.weird")
    assert find_images([b, a, b]) == [b, a]
    assert find_images([b, tmp_path]) == [b, a]
    assert find_images([tmp_path, str(a)]) == [a]


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_found_in_either_case(tmp_path: Path, suffix: str) -> None:
    paths = touch(tmp_path / f"A{suffix.upper()}", tmp_path / f"b{suffix}")
    assert find_images(tmp_path) == paths


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    (a,) = touch(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"gone: no such file or folder"):
        find_images([a, tmp_path / "gone"])


def test_no_image_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no image found; files end in"):
        find_images(tmp_path)
    with pytest.raises(UserError, match="nothing: no image found"):
        find_images([])


def test_a_list_names_images_from_its_own_folder_or_absolutely(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text(f"deep/a.png\n\n  {tmp_path / 'b.png'}\n")
    assert find_images(tmp_path / "list.txt") == [tmp_path / "deep/a.png", tmp_path / "b.png"]


def test_a_list_that_names_what_is_not_there_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ngone.png\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: .*gone\.png: no such file"):
        find_images(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        find_images(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(UserError, match="no image found"):
        find_images(tmp_path / "list.txt")


def test_find_images_linked_folders_are_searched_once(tmp_path: Path) -> None:
    one, two, three = touch(tmp_path / "in/one.jpg", tmp_path / "data/deep/two.jpg", tmp_path / "three.jpg")
    (tmp_path / "in/sub").symlink_to(tmp_path / "data")
    (tmp_path / "data/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/again").symlink_to(tmp_path / "data/deep")
    (tmp_path / "in/three.jpg").symlink_to(three)
    (tmp_path / "in/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.warns(UserWarning, match="linked folders are searched, too") as caught:
        found = find_images(tmp_path / "in")
    assert one in found
    assert [path.name for path in found if path.name == two.name] == ["two.jpg"]
    assert {path.name for path in found} == {"one.jpg", "two.jpg", "three.jpg", "gone.jpg"}, "jobs report gone.jpg"
    assert "links to folders that are searched already are left out" in str(caught[-1].message)
    with pytest.raises(UserError, match=r"gone\.jpg: no such file"):
        load_training_image(tmp_path / "in/gone.jpg", 64)


def test_find_images_counts_what_it_leaves_out(tmp_path: Path) -> None:
    (a,) = touch(tmp_path / "in/a.jpg")
    touch(tmp_path / "in/b.JXL", tmp_path / "in/c.jxl", tmp_path / "in/d.MP4", tmp_path / "in/notes.md")
    with pytest.warns(UserWarning, match=r"left out what is no image .*\(2 \.jxl, 1 \.mp4\)"):
        assert find_images(tmp_path / "in") == [a]


def test_find_images_pipes_and_sockets_are_named_and_not_waited_for(tmp_path: Path) -> None:
    (a,) = touch(tmp_path / "in/a.jpg")
    os.mkfifo(tmp_path / "in/b.jpg")
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tmp_path / "in/c.jpg"))
    named = r"left out what is no regular file, but a pipe, socket or device: .*b\.jpg, .*c\.jpg"
    with pytest.warns(UserWarning, match=named):
        assert find_images(tmp_path / "in") == [a]
    pipe = tmp_path / "in/b.jpg"
    assert find_images([pipe, "/dev/zero"]) == [pipe, Path("/dev/zero")]
    with pytest.raises(UserError, match=r"b\.jpg: not a regular file"):
        load_training_image(pipe, 64)
    (tmp_path / "list.txt").write_text("in/b.jpg")
    with pytest.raises(UserError, match=r"list\.txt, line 1: .*b\.jpg: not a regular file"):
        find_images(tmp_path / "list.txt")


def test_find_images_folder_without_permission_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (a,) = touch(tmp_path / "a.jpg")
    touch(tmp_path / "closed/b.jpg")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(UserWarning, match=r"closed: left out, cannot be searched \(Permission denied\)"):
        assert find_images(tmp_path) == [a]


def test_find_images_outputs_are_no_images(tmp_path: Path) -> None:
    (a,) = touch(tmp_path / "a.jpg")
    out = Output(tmp_path / "out", "segment", ["png"], "one")
    write_entry(out.folder, out.begin(Item(a, "a", "a"), ["png"], ["a.png"], {}))
    (output,) = touch(tmp_path / "out/a.png")
    with pytest.warns(UserWarning, match="not taken as images: 1 file that clips4 wrote"):
        assert find_images(tmp_path) == [a]
    with pytest.raises(UserError, match=r"a\.png: clips4 wrote it, and its outputs are never inputs"):
        find_images(tmp_path / "out")
    with pytest.raises(UserError, match="never inputs"):
        find_images([output])


def test_find_images_list_holds_names_that_are_not_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    touch(tmp_path / name, tmp_path / "b.jpg")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9.jpg\r\nb.jpg\r\n")
    assert find_images(tmp_path / "list.txt") == [tmp_path / name, tmp_path / "b.jpg"]
