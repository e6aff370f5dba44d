"""The estimate of a teacher's space."""

from clips4.training.space import reference_images, vocabulary


def test_reference_images_are_files_of_scikit_image() -> None:
    paths = reference_images()
    assert len(paths) >= 4
    assert all(path.is_file() and "skimage" in path.parts for path in paths)


def test_vocabulary_names_are_different() -> None:
    names = vocabulary().names
    assert len(set(names)) == len(names) > 400
