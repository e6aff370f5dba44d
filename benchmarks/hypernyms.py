"""How src/clips4/assets/imagenet_hypernyms.txt was made: wider names of ImageNet's classes, from WordNet.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet     # the database files of WordNet 3.0
    pip download --no-deps timm==1.0.31 && unzip -q timm-*.whl -d timm      # the synsets of ImageNet's classes
    python benchmarks/hypernyms.py wordnet/usr/share/wordnet/data.noun timm/timm/data/_info/imagenet_synsets.txt \
        > src/clips4/assets/imagenet_hypernyms.txt

ImageNet names its classes by the offsets of WordNet 3.0. From each synset upward, level by level, one word of a
synset is taken if assets/nouns.txt has it: what can be seen, without the most abstract words.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from clips4.data.class_names import ASSETS, data_lines, imagenet_classes

MOST = 4  # names of a class
LEMMAS = 3  # of a synset; the later ones are rare
ABSTRACT = """
object whole artifact organism instrumentality thing matter unit substance chordate vertebrate
"""
HEADER = """\
# Wider names of ImageNet's 1000 classes, in the order of imagenet_classes.txt, the nearest first, at most {most}.
# Made by benchmarks/hypernyms.py from WordNet 3.0 (chosen words only; licence below).
#
"""


class Synset(NamedTuple):
    """Its first lemmas, in lower case, and the offsets of the synsets above it."""

    lemmas: list[str]
    above: list[str]


def read_synsets(database: Path) -> dict[str, Synset]:
    """Synsets of a file of WordNet's nouns by their offset."""
    found = {}
    for line in database.read_text().splitlines():
        if line.startswith(" "):
            continue
        parts = line.partition(" | ")[0].split()
        end = 4 + 2 * int(parts[3], 16)
        lemmas = [lemma.replace("_", " ").lower() for lemma in parts[4:end:2]]
        pointers = parts[end + 1 :]
        above = [pointers[at + 1] for at in range(0, 4 * int(parts[end]), 4) if pointers[at] in ("@", "@i")]
        found[parts[0]] = Synset(lemmas[:LEMMAS], above)
    return found


def wider_names(synsets: Mapping[str, Synset], offset: str, nouns: frozenset[str]) -> Iterator[str]:
    """A noun of each synset above one, nearest first."""
    level, seen = synsets[offset].above, {offset}
    while level:
        new = [each for each in dict.fromkeys(level) if each not in seen]
        seen |= set(new)
        for each in new:
            yield from [lemma for lemma in synsets[each].lemmas if lemma in nouns][:1]
        level = [above for each in new for above in synsets[each].above]


def main() -> None:
    synsets = read_synsets(Path(sys.argv[1]))
    nouns = frozenset(data_lines("nouns.txt")) - set(ABSTRACT.split())
    licence = ASSETS.joinpath("nouns.txt").read_text("utf-8").split("#\n", 1)[1]
    licence = "".join(f"{line}\n" for line in licence.splitlines() if line.startswith("#"))
    rows = []
    for name, wnid in zip(imagenet_classes(), Path(sys.argv[2]).read_text().split(), strict=True):
        wider = list(dict.fromkeys(wider_names(synsets, wnid.removeprefix("n"), nouns)))[:MOST]
        rows.append(f"{name}: {', '.join(wider)}".strip())
    sys.stdout.write(HEADER.format(most=MOST) + licence + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
