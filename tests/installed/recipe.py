"""Reads a Containerfile: its stages, and the instructions of each."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruction:
    """One line of a recipe, such as `RUN` and its command."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The text as words: a list in JSON, or those of the shell."""
        return list(json.loads(self.text)) if self.text[:1] == "[" else shlex.split(self.text)


@dataclass
class Stage:
    """What one image is made of: what it begins with, its name, and its instructions."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> Instruction:
        """The last instruction of a name: the one that counts."""
        return [one for one in self.instructions if one.name == name][-1]

    def variables(self) -> dict[str, str]:
        """The variables of its ENV lines."""
        pairs = [one.words for one in self.instructions if one.name == "ENV"]
        return dict(word.split("=", 1) for words in pairs for word in words)


KNOWN = {"RUN", "COPY", "WORKDIR", "ENV", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def read_recipe(text: str) -> list[Stage]:
    """The stages of a Containerfile; raises ValueError for what is not understood."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, lines)):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages.append(Stage(base, alias))
        elif name in KNOWN and stages:
            stages[-1].instructions.append(Instruction(name, rest.strip()))
        else:
            raise ValueError(f"not understood: {line}")
    return stages
