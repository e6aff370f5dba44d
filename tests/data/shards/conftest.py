import pytest

from tests.data.shards.helpers import write_shards


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Five shards of odd sizes, one of them empty; 21 samples."""
    return write_shards(tmp_path_factory.mktemp("shards"), [7, 3, 0, 10, 1])
