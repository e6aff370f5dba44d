"""Class lists: names in the order of their labels. Aliases replace a name in the prompts (repeat it to keep it).

``class_files`` reads the files.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from clips4.data.class_files import (
    STRUCTURED,
    TABLES,
    ClassEntry,
    in_order_of_ids,
    parse_class_file,
    parse_class_lines,
    split_list,
)
from clips4.errors import UserError, UserTypeError
from clips4.utils.images import UNKNOWN_NAME
from clips4.utils.text import listing, read_text

ASSETS = resources.files("clips4").joinpath("assets")
MAX_CLASSES = 32_767  # labels are 16-bit numbers
UNKNOWN = UNKNOWN_NAME  # the prediction for pixels nearest an unknown prototype; no class may have this name
_SUFFIXES = {*STRUCTURED, *TABLES, ".txt", ".names"}
_LONGEST = 200  # characters of a name
_LISTED = 60  # names in a description


@dataclass(frozen=True, repr=False)
class ClassList:
    """Class names in order, with the aliases that stand for each in prompts.

    Attributes:
        names: (K,) distinct names.
        aliases: (K,) for each class its aliases, at least one.
        ids: (K,) that its file gives the classes, in ascending order; none if they are 0, ..., K-1 or there are none.

    Example:
        >>> load_classes("cat,dog: puppy,grass")
        ClassList(3 classes: cat, dog, grass)
    """

    names: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    ids: tuple[int, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"ClassList({len(self)} classes: {listing(self.names)})"


def parse_classes(lines: Sequence[str], source: str = "class list") -> ClassList:
    """Class names of lines ``name`` or ``name: alias, alias``; see ``class_files.parse_class_lines``.

    Raises:
        UserError: no class, an empty name or alias, a name or id given twice, or the reserved name "unknown".
    """
    return _checked(parse_class_lines(lines, source), source)


def named_classes(names: Iterable[str], source: str = "class list") -> ClassList:
    """Classes by names that are taken as they are: no aliases, ids or comments are looked for in them.

    Raises:
        UserError: no name, an empty one, one given twice, or the reserved name "unknown".

    Example:
        >>> named_classes(["light: red", "4 [old], # 2"]).names
        ('light: red', '4 [old], # 2')
    """
    return _checked([ClassEntry(f"name {place}", name) for place, name in enumerate(names, 1)], source)


def folded(name: str) -> str:
    """A name for comparisons: without regard to case, spaces at its ends or doubled, and ways to write an accent.

    Example:
        >>> folded(" Traffic  Light") == folded("traffic light")
        True
    """
    return _normal(name).casefold()


def _normal(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _checked(entries: Sequence[ClassEntry], source: str) -> ClassList:
    entries = in_order_of_ids(entries, source)
    if not entries:
        raise UserError(f"{source}: no class names; write one per line")
    names: list[str] = []
    aliases: list[tuple[str, ...]] = []
    for entry in entries:
        name, *others = map(_normal, (entry.name, *entry.aliases))
        if not name or not all(others):
            raise UserError(f"{source}, {entry.where}: empty name; give each class a name, and no empty alias")
        if odd := next((word for word in (name, *others) if len(word) > _LONGEST or not word.isprintable()), None):
            raise UserError(f"{source}, {entry.where}: {odd[:40]!a} is no name: too long, or with control characters")
        names.append(name)
        aliases.append(tuple(others) or (name,))
    if len(names) > MAX_CLASSES:
        raise UserError(f"{source}: {len(names)} classes; label maps hold at most {MAX_CLASSES}")
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UserError(f"{source}: {twice[0]!r} is listed twice; give each class once")
    if UNKNOWN in (name.casefold() for name in names):
        raise UserError(f"{source}: the name {UNKNOWN!r} is reserved for pixels of no class; choose another")
    ids = tuple(entry.id for entry in entries if entry.id is not None)
    return ClassList(tuple(names), tuple(aliases), () if ids == tuple(range(len(ids))) else ids)


def describe_classes(classes: ClassList) -> str:
    """One line with the names as they were read, for people to check.

    Example:
        >>> describe_classes(load_classes("cat, sea: sea, ocean"))
        '2 classes: cat; sea (sea, ocean)'
    """
    words = [
        name if aliases == (name,) else f"{name} ({', '.join(aliases)})"
        for name, aliases in zip(classes.names, classes.aliases, strict=True)
    ]
    if classes.ids:
        words = [f"{id} {word}" for id, word in zip(classes.ids, words, strict=True)]
    if len(words) > _LISTED:
        words = [*words[: _LISTED - 5], f"... {len(words) - _LISTED} more ...", *words[-5:]]
    text = f"{len(classes)} class{'es' if len(classes) > 1 else ''}: {'; '.join(words)}"
    return f"{text}. These ids are not label values, which count from 0 in this order" if classes.ids else text


def builtin_class_files() -> list[str]:
    """Names of the class files that come with the package."""
    return sorted(path.name.removesuffix(".txt") for path in ASSETS.joinpath("classes").iterdir())


def load_classes(classes: str | Path | Sequence[str] | ClassList) -> ClassList:
    """Class names from any form a user may hold them in.

    Args:
        classes: a ``ClassList``; a sequence of names (``name: alias, alias`` allowed); the path of a class file; the
            name of one that comes with the package (``coco128``, ``demo``); or names parted by commas.

    Returns:
        The names in order, and the aliases of each.

    Raises:
        UserError: no such file, or a form that is not understood (see ``class_files``).
        UserTypeError: none of these forms.

    Example:
        >>> load_classes(["cat", "dog: dog, puppy"]).aliases
        (('cat',), ('dog', 'puppy'))
    """
    if isinstance(classes, ClassList):
        return classes
    if not isinstance(classes, (str, Path)):
        listed = list(classes) if isinstance(classes, Iterable) and not isinstance(classes, bytes) else [classes]
        if odd := [type(each).__name__ for each in listed if not isinstance(each, str)]:
            raise UserTypeError(f"class names are strings, a file or a list of strings, got {odd[0]}")
        return parse_classes(listed)
    path = Path(classes)
    if _exists(path) and not path.is_dir():
        return _checked(parse_class_file(read_text(path), path.suffix.lower(), str(path)), str(path))
    text = str(classes)
    if not text.strip() or text == ".":  # Path("") is the current folder
        raise UserError("class list: no class names; give names parted by commas, or a file with one name per line")
    if "," not in text and _exists(path):
        raise UserError(f"{text}: a folder, not a class file; for a class of that name give '{path.name}: {path.name}'")
    if text in builtin_class_files():
        return parse_classes(ASSETS.joinpath("classes", f"{text}.txt").read_text("utf-8").splitlines(), text)
    if "\n" in text or text.lstrip()[:1] in ("[", "{"):
        return _checked(parse_class_file(text, "", "class list"), "class list")
    if path.suffix.lower() in _SUFFIXES or (len(path.parts) > 1 and "," not in text):
        raise UserError(f"{text}: no such class file; give a file with one name per line, or names parted by commas")
    names = split_list(text)
    if not all(names):
        raise UserError(f"class list: empty name in {text[:60]!r}; remove a comma, or add the name")
    return parse_classes(names)


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder; a list of names may be longer than any file's name can be."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def data_lines(path: str) -> list[str]:
    """Lines of a file of ``assets``, but for blank ones and comments."""
    lines = (line.strip() for line in ASSETS.joinpath(path).read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def imagenet_classes() -> list[str]:
    """The 1000 class names of ImageNet-1k in the classifier's order."""
    return data_lines("imagenet_classes.txt")


def imagenet_hypernyms() -> list[tuple[str, ...]]:
    """Of each class of ``imagenet_classes`` its wider names, nearest first: a Chihuahua is a dog, an animal."""
    wider = (line.rpartition(":")[2].split(",") for line in data_lines("imagenet_hypernyms.txt"))
    return [tuple(name.strip() for name in names if name.strip()) for names in wider]
