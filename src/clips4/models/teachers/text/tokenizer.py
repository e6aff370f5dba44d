"""CLIP's tokenizer, checked: a wrong one silently gives vectors of other text. And words that any tokenizer lacks."""

import html
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clips4.errors import UserError

VOCABULARY = 49408
# "a photo of a cat" as the published byte-pair vocabulary encodes it, with the marks of beginning and end
# what stands between the words of a name: spaces, digits and ASCII punctuation
_BETWEEN = re.compile(r"[\s\d!-/:-@\[-`{-~]+")
_PROBE, _PROBE_TOKENS = "a photo of a cat", [49406, 320, 1125, 539, 320, 2368, 49407]


def clean(text: str) -> str:
    """CLIP's text cleaning before the byte pairs: fix encodings, undo HTML twice, join spaces, lower case."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


def load_clip_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of a folder, as CLIP published it.

    From a folder without a vocabulary, transformers silently makes a tokenizer of two tokens; it is refused here, like
    any tokenizer other than CLIP's.

    Raises:
        UserError: not CLIP's tokenizer.
    """
    from transformers import CLIPTokenizer

    fix = "put tokenizer.json, or vocab.json and merges.txt, of a CLIP beside its weights"
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        raise UserError(f"teacher {name}: has no tokenizer; {fix}")
    with tokenizer_errors(name, fix):
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        known, tokens = len(tokenizer), tokenizer(_PROBE)["input_ids"]
    if known != VOCABULARY:
        raise UserError(f"teacher {name}: its tokenizer knows {known} tokens, CLIP's {VOCABULARY}; {fix}")
    if tokens != _PROBE_TOKENS:
        raise UserError(f"teacher {name}: its tokenizer gives {tokens} for {_PROBE!r}, CLIP's {_PROBE_TOKENS}; {fix}")
    return tokenizer


def load_own_tokenizer(folder: Path, name: str, vocabulary: int) -> Any:
    """The tokenizer that a model brings along as ``tokenizer.json``, whatever its kind.

    Args:
        folder: of the model.
        name: of the teacher, for messages.
        vocabulary: tokens that its text tower has vectors of.

    Raises:
        UserError: no ``tokenizer.json``, one that cannot be read, or one with another number of tokens.
    """
    from transformers import AutoTokenizer

    fix = "copy or download the folder again"
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"teacher {name}: has no tokenizer.json; {fix}")
    with tokenizer_errors(name, fix):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if len(tokenizer) != vocabulary:
        raise UserError(
            f"teacher {name}: its tokenizer knows {len(tokenizer)} tokens, its text tower {vocabulary}; {fix}"
        )
    return tokenizer


@contextmanager
def tokenizer_errors(name: str, fix: str) -> Iterator[None]:
    """Whatever reading a tokenizer raises becomes one line about the teacher ``name``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exceptions, and panics of Rust, which are none
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise UserError(f"teacher {name}: its tokenizer cannot be read ({type(error).__name__}: {reason}); {fix}")


def clip_tokens(tokenizer: Any, texts: Sequence[str], length: int) -> list[list[int]]:
    """Token ids of texts, begin and end marks included, cut to ``length`` with the end mark kept."""
    return tokenizer([clean(text) for text in texts], truncation=True, max_length=length)["input_ids"]


def unknown_terms(tokenizer: Any, texts: Sequence[str], letters_a_piece: float = 1.4) -> list[str]:
    """The words of texts that a tokenizer has no entries for, in order.

    A word that is in no vocabulary becomes the token for unknown ones, single bytes, or crumbs of one or two letters,
    and its vector means nothing. So a word counts as unknown if it has fewer letters than pieces, or at least three
    letters and at most ``letters_a_piece`` of them in a piece on average. The defaults call none of the 5,300 shipped
    names and nouns unknown; a larger vocabulary has longer pieces, and calls fewer words unknown.

    Args:
        tokenizer: of transformers; WordPiece, byte pairs or SentencePiece.
        texts: cleaned as the text model's input is.
        letters_a_piece: 1 for WordPiece ("foal" is ``f ##oa ##l``), more for byte pairs of three times as many entries.

    Example:
        "xqzt" is ``x ##q ##z ##t`` in WordPiece and ``x q zt`` in CLIP's byte pairs.
    """

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def is_unknown(term: str) -> bool:
        pieces = len(tokens(f"a {term}")) - before  # within a text, as in a prompt
        crumbs = 3 <= len(term) <= letters_a_piece * pieces
        return crumbs or pieces > len(term) or tokenizer.unk_token_id in tokens(term)

    before = len(tokens("a"))
    terms = dict.fromkeys(term for text in texts for term in _BETWEEN.split(text) if term)
    return [term for term in terms if is_unknown(term)]
