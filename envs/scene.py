"""How to draw what an environment's `view` tells: layers, as data that any program can follow.

A :class:`Scene` names fields of `view_fields` and says what stands for each of their entries. The
page that plays recordings (`mamt_jax.trajectories.viewer`) draws scenes and knows no environment.

Layers are drawn in their order. A place is written as a :class:`At`; lengths are in units of the
plane, y upwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

OWN = "own"
"""Colour of the entry's own number, as agents, pairs and teams have it."""
INK, FAINT, PLAIN, ALERT = "ink", "faint", "plain", "alert"
"""Colours that the page has in its dark and in its light form."""


@dataclass(frozen=True)
class At:
    """Entries of a field: of `field` [k, 2] or [k], all, or those that another field numbers.

    Attributes:
      field: whose entries.
      first: number of the first one.
      count: how many; None for all that follow.
      index: a field of whole numbers: entry i is number `first` + index[i].
    """

    field: str
    first: int = 0
    count: int | None = None
    index: str | None = None


@dataclass(frozen=True)
class Box:
    """A rectangle that stays where it is, with lines every `spacing` across it; 0 for none."""

    kind: ClassVar[str] = "box"

    low: tuple[float, float]
    high: tuple[float, float]
    spacing: float = 0.0


@dataclass(frozen=True)
class Cells:
    """Squares of side 1, centred at whole numbers, where `field` [x, y] is true."""

    kind: ClassVar[str] = "cells"

    field: str
    size: tuple[int, int]
    name: str = ""


@dataclass(frozen=True)
class Marks:
    """A shape at every place.

    Attributes:
      at: places [k, 2].
      size: radius, or half a square's side.
      shape: "disk", "square", "ring" (a faint disk with a thin rim) or "area" (a faint square).
      colour: OWN, of the number in `at` where there is no index, else of the one that points there;
        INK, FAINT or PLAIN.
      name: what it is, for the legend; "" leaves it out.
      agents: whether these are the agents, numbered from `first` of `at`: they can be chosen, leave
        a path, and are the ends of edges.
      label: whether the number is written on it, `first` included.
      shown: a field [k] of flags: who is drawn.
      owners: shares the mark out among the colours of the entries, either those given for each mark
        or, as the name of a field, those whose number in that field is the mark's; FAINT if nobody.
      near: places [k, 2]; a mark is brighter while its own is within it.
      bumps: pairs that have an alarming rim while they overlap.
      rim: keeps those that have left the camera at its rim, beside an arrow.
      crowd: moves those that share a place apart, to its quarters.
    """

    kind: ClassVar[str] = "marks"

    at: At
    size: float
    shape: str = "disk"
    colour: str = OWN
    name: str = ""
    agents: bool = False
    label: bool = False
    shown: str = ""
    owners: str | Sequence[Sequence[int]] = ()
    near: At | None = None
    bumps: Sequence[tuple[int, int]] = ()
    rim: bool = False
    crowd: bool = False


@dataclass(frozen=True)
class Links:
    """A straight line from each of `start` to the one of the same number in `end`.

    Attributes:
      start: places [k, 2].
      end: places [k, 2]; with `nearest`, of any number.
      dotted: dots, instead of a line.
      nearest: for each start, the numbers of the ends of which the nearest is linked; the line then
        has the colour of that one.
      name: for the legend.
    """

    kind: ClassVar[str] = "links"

    start: At
    end: At
    dotted: bool = False
    nearest: Sequence[Sequence[int]] = ()
    name: str = ""


@dataclass(frozen=True)
class Symbols:
    """A whole number on a small disk at a corner of every place; nothing where it is negative."""

    kind: ClassVar[str] = "symbols"

    at: At
    value: At
    size: float
    name: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of numbered tiles, of which one is lit: number `value` + `shift`, modulo `count`.

    Attributes:
      field: a whole number, a field without dimensions.
      count: how many tiles.
      low: lower left corner of the row; a tile is 1 wide and 0.5 high.
      label: what it is.
      shift: added to the number.
      agent: whose row it is: its action is framed, and it fades while `shown` [agent] is false.
      shown: a field of flags.
    """

    kind: ClassVar[str] = "tiles"

    field: str
    count: int
    low: tuple[float, float]
    label: str
    shift: int = 0
    agent: int = -1
    shown: str = ""


@dataclass(frozen=True)
class Count:
    """How many entries of a field of flags are true, written below the picture: "3 of 30 ..."."""

    kind: ClassVar[str] = "count"

    field: str
    text: str


Layer = Box | Cells | Marks | Links | Symbols | Tiles | Count


@dataclass(frozen=True)
class Scene:
    """What a picture of a state consists of.

    Attributes:
      low: lower left corner of the camera, which never moves.
      high: upper right corner.
      layers: from the lowest to the uppermost.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    layers: tuple[Layer, ...]

    def as_json(self) -> str:
        """As text, for recordings and the page."""
        return json.dumps(_plain(self))


def scene(env: Any) -> Scene | None:
    """`env.scene`; None where it does not say how its view is drawn."""
    found: Scene | None = getattr(env, "scene", None)
    return found


def fields_in(layers: Mapping[str, Any]) -> set[str]:
    """Names of all fields that a scene draws, given as the data that its text holds."""
    names: set[str] = set()
    for layer in layers["layers"]:
        places = [value for value in layer.values() if isinstance(value, Mapping)]
        names |= {place[key] for place in places for key in ("field", "index") if key in place}
        names |= {
            layer[key] for key in ("field", "shown", "owners") if isinstance(layer.get(key), str)
        }
    return names


def _plain(value: Any) -> Any:
    """Records as dictionaries, the kind of a layer included; what is left at its default is not."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        found = {each.name: (getattr(value, each.name), each.default) for each in fields(value)}
        return kind | {
            name: _plain(own) for name, (own, default) in found.items() if own != default
        }
    if isinstance(value, Mapping):
        return {name: _plain(own) for name, own in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
