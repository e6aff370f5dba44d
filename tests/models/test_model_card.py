from pathlib import Path

from clips4.config import load_config
from clips4.models.model_card import write_model_card

NAMES = ['"]; import os #', "a`b", "```", "<b>x</b>", "c | d", "[x](y)", "a\\"]


def test_write_model_card_hostile_names_leave_code_and_table_as_they_are(tmp_path: Path) -> None:
    card = {
        "classes": {name: [name] for name in NAMES},
        "embed_dim": 8,
        "step": 1,
        "config": load_config("cpu", ["student.weights=random"]).model_dump(mode="json"),
        "versions": {"torch": "<img src=x>"},
    }
    write_model_card(tmp_path / "README.md", card, {}, None, 3)
    lines = (tmp_path / "README.md").read_text("utf-8").split("\n")
    (code,) = (line for line in lines if "classes=[" in line)
    found = eval(code[code.index("classes=") + len("classes=") : code.rindex(")")])
    assert found == NAMES[:3]
    assert "`" not in code
    (row,) = (line for line in lines if line.startswith("| known classes"))
    assert row.replace("\\|", "").count("|") == 3
    assert "<" not in row
    assert not any("<img" in line for line in lines)
