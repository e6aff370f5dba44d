"""CLIP's tokenizer against the published byte pairs, and every wrong one refused."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clips4.data.class_names import builtin_class_files, load_classes
from clips4.errors import UserError
from clips4.models.teachers.text.tokenizer import VOCABULARY, clean, clip_tokens, load_clip_tokenizer, unknown_terms
from tests.helpers import provable
from tests.models.teachers.models import stand_in_merges, write_tokenizer
from tests.reference import byte_pairs

DATA = Path(os.environ.get("CLIPS4_DATA", Path(__file__).parents[5] / "shared/data"))
PUBLISHED = DATA / "clip_vocabulary/bpe_simple_vocab_16e6.txt.gz"

AWKWARD = [
    "a photo of a cat.",
    "A Photo of a CAT",
    "",
    " ",
    "  spaces\tand\nlines   between  ",
    "non\u00a0breaking\u2003and\u3000wide spaces",
    "don't we'll they've I'm he'd it's you're",
    "DON'T 'S''s 's' 'tis ''' rock'n'roll",
    "hyphen-ated under_scored slash/ed",
    "1234567890 3.14 1,000 ½ ² ٣ Ⅷ",
    "naïve café Ångström Straße ÉCOLE İstanbul ΣΊΣΥΦΟΣ",
    "e\u0301 and é, composed or not",
    "日本語の写真 한국어 русский עברית العربية हिन्दी",
    "emoji 😀👩‍👩‍👧🏽 flags 🇫🇷 ❤️",
    "&lt;b&gt; &amp;amp; &#39;quoted&#39; &eacute; &notanentity;",
    "“curly” ‘quotes’ — dashes… ﬁligree ﬂow",
    "ｆｕｌｌ ｗｉｄｔｈ！",
    "schÃ¶n mojibake â€” mended",
    "<|startoftext|> inside <|endoftext|> text <|endoftext|>",
    "<start_of_text> is no mark",
    "!!! ... ?!? $$$ #hashtag @name 100% a+b=c {}[]()<>|\\^~`",
    "zero\u200bwidth\u200dand\ufeffmarks \x00\x07control",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "x" * 500,
    "word " * 100,
    "😀" * 60,
]


@cache
def tokenizer_of(merges: tuple[tuple[str, str], ...]) -> Any:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), merges)
        return load_clip_tokenizer(Path(folder), "test")


@cache
def published() -> tuple[tuple[str, str], ...]:
    if not PUBLISHED.is_file():
        pytest.skip(f"NOT TESTED: the published vocabulary is not at {PUBLISHED}")
    return byte_pairs.read_merges(PUBLISHED)


@pytest.mark.parametrize("text", AWKWARD)
def test_tokens_equal_the_published_vocabularys(text: str) -> None:
    merges = published()
    assert clip_tokens(tokenizer_of(merges), [text], 77) == [byte_pairs.encode(text, merges, 77)]


def test_known_tokens_of_the_published_vocabulary() -> None:
    tokens = clip_tokens(tokenizer_of(published()), ["a photo of a cat", "hello world!"], 77)
    assert tokens == [[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 3306, 1002, 256, 49407]]


def test_unknown_terms_of_the_published_vocabulary() -> None:
    tokenizer = tokenizer_of(published())
    shipped = [word for name in builtin_class_files() for terms in load_classes(name).aliases for word in terms]
    assert unknown_terms(tokenizer, [clean(word) for word in shipped]) == []
    nonsense = ["xqzt", "hjkl cat", "a vbnm-dog", "猫", "собака"]
    assert unknown_terms(tokenizer, nonsense) == ["xqzt", "hjkl", "vbnm", "猫", "собака"]
    assert unknown_terms(tokenizer, ["boeing 747", "x-ray", "tv", "atm", "foal", ""]) == []


def small_sentence_pieces() -> Any:
    """A tokenizer as SigLIP 2's: byte pairs over text whose spaces are ▁, letters outside its vocabulary as bytes."""
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = [*"▁abcdefghijklmnopqrstuvwxyz"]
    merges = [("c", "a"), ("ca", "t"), ("▁", "cat"), ("l", "a"), ("m", "p"), ("la", "mp"), ("▁", "lamp"), ("▁", "a")]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_unknown_terms_of_sentence_pieces() -> None:
    tokenizer = small_sentence_pieces()
    assert unknown_terms(tokenizer, ["cat", "a cat, lamp", "catlamp"]) == []
    assert unknown_terms(tokenizer, ["cat xqzt", "猫", "qwe-lamp"]) == ["xqzt", "猫", "qwe"]


@provable
@given(st.text(max_size=60))
def test_any_text_has_the_tokens_of_the_literal_version(text: str) -> None:
    merges = stand_in_merges()
    assert clip_tokens(tokenizer_of(merges), [text], 77) == [byte_pairs.encode(text, merges, 77)]


def test_long_text_keeps_its_end_mark() -> None:
    (tokens,) = clip_tokens(tokenizer_of(stand_in_merges()), ["cat " * 200], 77)
    assert len(tokens) == 77
    assert (tokens[0], tokens[-1]) == (49406, 49407)
    assert set(tokens[1:-1]) == {2368}


def test_clean_text_with_entities_and_odd_spaces_is_plain() -> None:
    assert clean("  Caf&eacute;\n &amp;amp; “Bar” ") == 'café & "bar"'


def damage_two_tokens(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def damage_order(folder: Path) -> None:
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({token: VOCABULARY - 1 - i for token, i in vocabulary.items()}))


def damage_no_merges(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\n")


def damage_text(folder: Path) -> None:
    (folder / "vocab.json").write_text("no vocabulary")


def damage_json(folder: Path) -> None:
    (folder / "vocab.json").unlink()
    (folder / "tokenizer.json").write_text("{}")


def damage_nothing_there(folder: Path) -> None:
    for file in ("vocab.json", "merges.txt"):
        (folder / file).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_two_tokens, r"knows \d tokens, CLIP's 49408"),
        (damage_order, "its tokenizer gives"),
        (damage_no_merges, "its tokenizer gives"),
        (damage_text, "cannot be read"),
        (damage_json, "its tokenizer"),
        (damage_nothing_there, "has no tokenizer"),
    ],
)
def test_tokenizer_that_is_not_clips_is_refused_in_one_line(tmp_path: Path, damage: Any, message: str) -> None:
    write_tokenizer(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        load_clip_tokenizer(tmp_path, "mine")
    assert "\n" not in str(caught.value)
    assert "teacher mine: " in str(caught.value)


@pytest.mark.parametrize(
    "files",
    [
        {"vocab.json": '{"a": 0, "b</w>": 1}', "merges.txt": "#version: 0.2\na b</w>\n"},  # a panic of Rust
        {"vocab.json": '{"a": -1}', "merges.txt": "a"},
        {"vocab.json": "[]", "merges.txt": ""},
        {"tokenizer.json": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}'},
        {"tokenizer.json": "[" * 100_000},
    ],
)
def test_damaged_tokenizer_raises_one_line(files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="teacher x: its tokenizer") as caught:
        load_clip_tokenizer(tmp_path, "x")
    assert "\n" not in str(caught.value)
