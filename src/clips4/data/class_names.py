"""Class lists and their files.

A class file holds one class per line: ``name`` or ``name: alias, alias``; ``#`` starts a comment. Aliases replace the
name in the prompts (list the name among them to keep it).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from clips4.errors import UserError
from clips4.utils.images import UNKNOWN_NAME

ASSETS = resources.files("clips4").joinpath("assets")
UNKNOWN = UNKNOWN_NAME  # the prediction for pixels nearest an unknown prototype; no class may have this name


@dataclass(frozen=True)
class ClassList:
    """Class names in order, with the aliases that stand for each in prompts.

    Attributes:
        names: (K,) distinct names.
        aliases: (K,) for each class its aliases, at least one.
    """

    names: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)


def parse_classes(lines: Sequence[str], source: str = "class list") -> ClassList:
    """Parse lines of a class file.

    Raises:
        UserError: no class, an empty name or alias, a name given twice, or the reserved name "unknown".
    """
    names: list[str] = []
    groups: list[tuple[str, ...]] = []
    for number, raw in enumerate(lines, 1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        name, colon, aliases = (part.strip() for part in line.partition(":"))
        listed = tuple(alias.strip() for alias in aliases.split(",")) if colon else (name,)
        if not name or not all(listed):
            raise UserError(f"{source}, line {number}: empty name in {line!r}; write 'name' or 'name: alias, alias'")
        names.append(name)
        groups.append(listed)
    if not names:
        raise UserError(f"{source}: no class names; write one per line")
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise UserError(f"{source}: {twice[0]!r} is listed twice; give each class once")
    if UNKNOWN in (name.casefold() for name in names):
        raise UserError(f"{source}: the name {UNKNOWN!r} is reserved for pixels of no class; choose another")
    return ClassList(tuple(names), tuple(groups))


def builtin_class_files() -> list[str]:
    """Names of the class files that come with the package."""
    return sorted(path.name.removesuffix(".txt") for path in ASSETS.joinpath("classes").iterdir())


def load_classes(classes: str | Path | Sequence[str] | ClassList) -> ClassList:
    """Class names from any form a user may hold them in.

    Args:
        classes: a ``ClassList``; a sequence of names (``name: alias, alias`` allowed); the path of a class file; the
            name of one that comes with the package (``coco128``, ``demo``); or names parted by commas.
    """
    if isinstance(classes, ClassList):
        return classes
    if not isinstance(classes, (str, Path)):
        return parse_classes(list(classes))
    path = Path(classes)
    if _is_file(path):
        try:
            return parse_classes(path.read_text(encoding="utf-8-sig").splitlines(), str(path))
        except UnicodeDecodeError:
            raise UserError(f"{path}: not a text file in UTF-8; write one class name per line")
    text = str(classes)
    if text in builtin_class_files():
        return parse_classes(ASSETS.joinpath("classes", f"{text}.txt").read_text("utf-8").splitlines(), text)
    if path.suffix in {".txt", ".csv", ".yaml"} or (len(path.parts) > 1 and "," not in text):
        raise UserError(f"{text}: no such class file; give a file with one name per line, or names parted by commas")
    return parse_classes(text.split(","))


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a list of names may be longer than any file's name can be."""
    try:
        return path.is_file()
    except OSError:
        return False


def data_lines(path: str) -> list[str]:
    """Lines of a file of ``assets``, but for blank ones and comments."""
    lines = (line.strip() for line in ASSETS.joinpath(path).read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def imagenet_classes() -> list[str]:
    """The 1000 class names of ImageNet-1k in the classifier's order."""
    return data_lines("imagenet_classes.txt")
