"""Prompt templates, and the class vectors that a teacher makes of them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.data.class_names import ASSETS, ClassList, data_lines
from clips4.errors import UserError

PROMPTS_AT_ONCE = 8192  # encoded together; bounds memory for long class lists


class TextEncoder(Protocol):
    """The part of a ``Teacher`` that encodes text."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D) unit rows."""


def load_templates(name: str) -> list[str]:
    """A set of prompt templates, each with one ``{}`` for the class name."""
    known = sorted(path.name.removesuffix(".txt") for path in ASSETS.joinpath("templates").iterdir())
    if name not in known:
        raise UserError(f"unknown prompt templates {name!r}; there is {', '.join(known)}")
    return data_lines(f"templates/{name}.txt")


def class_vectors(teacher: TextEncoder, classes: ClassList, templates: Sequence[str]) -> Tensor:
    """Prompt-ensembled text vector of each class: normalize each prompt's vector, mean, normalize.

    Radford et al., ICML 2021, section 3.1.4.

    Args:
        teacher: encodes prompts to unit rows.
        classes: K classes; every alias of a class is put in every template, with equal weight.
        templates: strings with one ``{}``.

    Returns:
        (K, D) unit rows.
    """
    prompts = [[template.format(word) for word in words for template in templates] for words in classes.aliases]
    means: list[Tensor] = []
    for some in _at_most(PROMPTS_AT_ONCE, prompts):
        vectors = F.normalize(teacher.encode_text([prompt for group in some for prompt in group]), dim=1)
        means += [group.mean(0) for group in vectors.split([len(group) for group in some])]
    return F.normalize(torch.stack(means), dim=1)


def _at_most(limit: int, groups: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Join groups up to ``limit`` members, so that a long class list needs bounded memory."""
    run: list[list[str]] = []
    for group in groups:
        if run and sum(map(len, run)) + len(group) > limit:
            yield run
            run = []
        run.append(group)
    if run:
        yield run
