"""CLIP's byte-pair encoding, as OpenAI published it: word by word, the merge of lowest rank first."""

import gzip
import html
from itertools import pairwise
from pathlib import Path

import ftfy
import regex

BEGIN, END = 49406, 49407
_PATTERN = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def read_merges(path: Path) -> tuple[tuple[str, str], ...]:
    """The merges of ``bpe_simple_vocab_16e6.txt.gz`` that CLIP uses."""
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    return tuple((first, second) for first, second in (line.split() for line in lines))


def byte_letters() -> dict[int, str]:
    """A printable letter for every byte."""
    letters = {
        byte: chr(byte) for low, high in (("!", "~"), ("¡", "¬"), ("®", "ÿ")) for byte in range(ord(low), ord(high) + 1)
    }
    spare = 256
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(spare)
            spare += 1
    return letters


def clean(text: str) -> str:
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return regex.sub(r"\s+", " ", text.strip()).strip().lower()


def merge_word(word: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Join the pair of lowest rank wherever it stands, until no pair has a rank."""
    while len(word) > 1:
        pairs = [(ranks.get(pair, len(ranks)), pair) for pair in pairwise(word)]
        rank, (first, second) = min(pairs)
        if rank == len(ranks):
            break
        joined: list[str] = []
        place = 0
        while place < len(word):
            if place + 1 < len(word) and (word[place], word[place + 1]) == (first, second):
                joined.append(first + second)
                place += 2
            else:
                joined.append(word[place])
                place += 1
        word = joined
    return word


def encode(text: str, merges: tuple[tuple[str, str], ...], length: int) -> list[int]:
    """Token ids with both marks, cut to ``length`` with the end mark last."""
    letters = byte_letters()
    order = [letters[byte] for low, high in ((33, 126), (161, 172), (174, 255)) for byte in range(low, high + 1)]
    order += [letter for byte, letter in letters.items() if letter not in order]
    vocabulary = [*order, *(letter + "</w>" for letter in order), *(a + b for a, b in merges)]
    ids = {token: index for index, token in enumerate(vocabulary)}
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    tokens = [BEGIN]
    for word in _PATTERN.findall(clean(text)):
        if word in ("<|startoftext|>", "<|endoftext|>"):
            tokens.append(BEGIN if word == "<|startoftext|>" else END)
            continue
        spelt = [letters[byte] for byte in word.encode()]
        spelt[-1] += "</w>"
        tokens += [ids[token] for token in merge_word(spelt, ranks)]
    tokens.append(END)
    return tokens if len(tokens) <= length else [*tokens[: length - 1], END]
