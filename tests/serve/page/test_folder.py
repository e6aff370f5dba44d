"""What does not need a browser; the page itself is in tests/integration/test_page_without_server.py."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import load_checkpoint
from clips4.serve.page import folder as module
from clips4.serve.page.folder import export_page
from tests.helpers import touch


class Graph:
    """Instead of a graph, whose export takes seconds."""

    def SerializeToString(self) -> bytes:  # noqa: N802
        return b"graph"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "checked_graph", lambda checkpoint: (Graph(), 0.0))
    monkeypatch.setattr(module, "runtime_files", lambda given: {"ort.js": b"runtime"})


def facts_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "model" / "run.json").read_text()))


@pytest.mark.usefixtures("fast")
def test_vectors_are_those_of_the_segmenter(tiny_run: Path, tmp_path: Path) -> None:
    report = export_page(tiny_run, tmp_path / "web", vocabulary=["dog", "Cat", "sofa"])
    facts = facts_of(tmp_path / "web")
    assert facts["names"] == ["cat", "cup", "grass", "dog", "sofa"]
    assert report.names == 5
    segmenter = Segmenter.load(tiny_run)
    query, prototypes = segmenter.query(facts["names"]), segmenter.prototypes
    assert prototypes is not None
    assert facts["sources"] == list(query.sources)
    exact = np.frombuffer((tmp_path / "web/model/vectors.f32").read_bytes(), "<f4").reshape(-1, facts["dims"])
    assert np.array_equal(exact, np.concatenate([query.vectors[:3], prototypes.query_unknown, prototypes.unknown]))
    half = np.frombuffer((tmp_path / "web/model/names.f16").read_bytes(), "<f2").reshape(-1, facts["dims"])
    assert np.abs(half - query.vectors[3:].numpy()).max() < 1e-3
    assert len(facts["suggested"]) == facts["unknown"] == 2
    assert "rows" not in facts
    assert "grouped" not in facts["rules"]


@pytest.mark.usefixtures("fast")
def test_vectors_of_several_prototypes_are_those_of_the_segmenter(nearest_run: Path, tmp_path: Path) -> None:
    export_page(nearest_run, tmp_path / "web", vocabulary=["dog", "sofa"])
    facts, query = facts_of(tmp_path / "web"), Segmenter.load(nearest_run).query(["cat", "cup", "grass", "dog", "sofa"])
    assert facts["rows"] == query.owner.bincount().tolist() == [3, 3, 3, 8, 8]
    assert facts["rules"]["grouped"] is True
    assert facts["exact"] == 9
    exact = np.frombuffer((tmp_path / "web/model/vectors.f32").read_bytes(), "<f4").reshape(-1, facts["dims"])
    assert np.array_equal(exact[:9], query.vectors[:9])
    half = np.frombuffer((tmp_path / "web/model/names.f16").read_bytes(), "<f2").reshape(-1, facts["dims"])
    assert np.abs(half - query.vectors[9:].numpy()).max() < 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
def test_earlier_page_is_replaced_and_has_another_cache(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "web"
    out.mkdir()  # an empty folder will do
    export_page(tiny_run, out, vocabulary=["dog"])
    before = (out / "service_worker.js").read_text()
    assert '"./"' in before
    assert 'VERSION = ""' not in before
    export_page(tiny_run, out, vocabulary=["dog"])
    assert (out / "service_worker.js").read_text() == before
    export_page(tiny_run, out, vocabulary=["sofa"])
    assert (out / "service_worker.js").read_text() != before


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("name", [".git/HEAD", "letter.txt", "index.html"])
def test_folder_with_other_files_is_refused_and_kept(name: str, tiny_run: Path, tmp_path: Path) -> None:
    (kept,) = touch(tmp_path / "web", name)
    with pytest.raises(UserError, match="holds other files"):
        export_page(tiny_run, tmp_path / "web", vocabulary=["dog"])
    assert kept.is_file()


@pytest.mark.usefixtures("fast")
def test_spoiled_student_of_its_own_network_is_exported_with_a_warning(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = replace(found := load_checkpoint(tiny_run), card={**found.card, "use": "teacher"})
    monkeypatch.setattr(module, "load_checkpoint", lambda run: spoiled)
    with pytest.warns(UserWarning, match="the page holds the student"):
        export_page(tiny_run, tmp_path / "web", vocabulary=["dog"])
    assert facts_of(tmp_path / "web")["classes"] == ["cat", "cup", "grass"]
