"""Settings: an argument wins over the environment, that over ``thence.toml``, that over the default."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

import msgspec
from msgspec import Struct

from thence.app.export import MODES, Export
from thence.app.limits import parse_limits
from thence.budget import Budget
from thence.cascade.loops import LoopMode
from thence.durations import seconds
from thence.errors import ConfigurationError
from thence.mesh.addresses import tcp_place

__all__ = ["Settings"]

FILE = "thence.toml"
UNITS = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
LOGS = ("json", "pretty", "plain")


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What may be set without code: ``THENCE_MESH``, or ``mesh = "..."`` in ``thence.toml``, and so on."""

    mesh: str = "local"
    """``memory:NAME``, ``local`` or ``local:PATH``."""
    name: str | None = None
    """What people call this node; by default its services' names and its process id."""
    listen: str | None = None
    """``tcp://host:port`` to listen there; by default a Unix socket."""
    budget: str | None = None
    """What the cascade of one root event may use up: ``"events=1000 depth=16 seconds=30s"``, or some of these."""
    loops: str = "enforce"
    """What becomes of loops that are not declared: ``enforce``, ``warn`` or ``observe``."""
    cascade_sample: str | float = "1%"
    """The share of root events whose cascades are followed to their end unasked, at most 100 a second: ``"1%"``,
    0.01, or 0 for none. ``thence map`` tells how long they take.
    """
    recorder: str | int = "16MB"
    """What the flight recorder may take of memory: ``"16MB"``, ``"512kB"``, a number of bytes, or 0 for none."""
    recorder_age: str | float = "15min"
    """How far back it tells."""
    logs: str | None = None
    """How ``thence run`` logs on standard error: ``json``, ``pretty`` or ``plain``; by default pretty on a terminal,
    and JSON elsewhere."""
    log_repeats: str | float = "60s"
    """How long ``thence run`` counts the repeats of a log record before it sums them up in one; 0 to log each."""
    metrics: str | None = None
    """Where ``thence run`` lets Prometheus read its metrics: ``"127.0.0.1:9464"``; nowhere by default."""
    export: str = "off"
    """Which cascades are exported as spans of OpenTelemetry: ``off``, ``all``, or ``anomalous``, which are those that
    failed, were cut, or were slower than :attr:`export_slower`. To be the same at all nodes of a mesh."""
    export_slower: str | float = "1s"
    """How long a cascade may take before it is slow."""
    limits: dict[str, str] = {}
    """Limits by handler or service (``"hints.offer" = "5/s per player"``), in place of those in the code.

    In the environment: ``THENCE_LIMITS="hints.offer=5/s per player; notifications=100/s"``. What is not named
    there holds as the file says.
    """

    @classmethod
    def read(
        cls, environment: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Settings:
        """The settings that hold here when nobody passes an argument.

        :raises ConfigurationError: the file can't be read or sets what does not exist.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, object] = dict(_file_values((directory or Path()) / FILE))
        limits = values.get("limits", {})
        if isinstance(limits, dict):
            _check_quoted(cast("dict[str, object]", limits))
            values["limits"] = limits | _limits_in(environment.get("THENCE_LIMITS", ""))
        for field in cls.__struct_fields__:
            value = environment.get(f"THENCE_{field.upper()}")
            if value and field != "limits":
                values[field] = value
        try:
            settings = msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise ConfigurationError(f"{FILE}: {error}; the settings are {known}") from error
        settings.cascade_budget()
        settings.loop_mode()
        settings.sample_share()
        settings.recorder_bytes()
        settings.recorder_seconds()
        settings.check_logs()
        settings.repeats_window()
        settings.metrics_place()
        settings.export_plan()
        for place, limit in settings.limits.items():
            try:
                parse_limits(limit)
            except ConfigurationError as error:
                raise ConfigurationError(f"limit for {place!r} in the settings: {error}") from None
        return settings

    def cascade_budget(self) -> Budget:
        """The budget that is set, or the default.

        :raises ConfigurationError: it can't be understood.
        """
        if self.budget is None:
            return Budget()
        try:
            return Budget.parse(self.budget)
        except ConfigurationError as error:
            raise ConfigurationError(f"budget in the settings: {error}") from None

    def loop_mode(self) -> LoopMode:
        """The way with loops that is set.

        :raises ConfigurationError: there is no such way.
        """
        for mode in get_args(LoopMode):
            if self.loops == mode:
                return cast(LoopMode, mode)
        raise ConfigurationError(
            f"loops={self.loops!r}: give one of {', '.join(get_args(LoopMode))}"
        )

    def sample_share(self) -> float:
        """The share of root events that is sampled, from 0 to 1.

        :raises ConfigurationError: it is no such share.
        """
        text = str(self.cascade_sample).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1
        if not 0 <= share <= 1:
            raise ConfigurationError(
                f'cascade_sample={self.cascade_sample!r}: give a share of the root events, as in "1%" or 0.01, or 0 '
                "for none"
            )
        return share

    def recorder_bytes(self) -> int:
        """What the flight recorder may take, in bytes.

        :raises ConfigurationError: it is no such size.
        """
        text = str(self.recorder).strip()
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB)?", text)
        if found is None:
            raise ConfigurationError(
                f'recorder={self.recorder!r}: give the memory that it may take, as in "16MB" or "512kB", or 0 for none'
            )
        return int(float(found[1]) * UNITS[found[2] or "B"])

    def recorder_seconds(self) -> float:
        """How far back the flight recorder tells, in seconds.

        :raises ConfigurationError: it is no length of time.
        """
        try:
            return seconds(self.recorder_age)
        except ConfigurationError as error:
            raise ConfigurationError(f"recorder_age={self.recorder_age!r}: {error}") from None

    def export_plan(self) -> Export | None:
        """What is exported as spans; None for nothing.

        :raises ConfigurationError: that can't be understood, or there is nothing to make them of.
        """
        if self.export not in MODES:
            raise ConfigurationError(
                f"export={self.export!r} in the settings: give one of {', '.join(MODES)}"
            )
        try:
            slower = seconds(self.export_slower)
        except ConfigurationError as error:
            raise ConfigurationError(f"export_slower in the settings: {error}") from None
        if self.export == "off":
            return None
        if not self.recorder_bytes():
            raise ConfigurationError(
                f"export={self.export!r} needs the flight recorder, which recorder={self.recorder!r} turns off: leave "
                "one of them out"
            )
        return Export(self.export == "all", slower)

    def check_logs(self) -> None:
        """Whether there is such a way of logging.

        :raises ConfigurationError: there is not.
        """
        if self.logs is not None and self.logs not in LOGS:
            raise ConfigurationError(
                f"logs={self.logs!r} in the settings: give one of {', '.join(LOGS)}"
            )

    def repeats_window(self) -> float:
        """How long the repeats of a log record are counted, in seconds.

        :raises ConfigurationError: it is no length of time.
        """
        if self.log_repeats == "0":
            return 0.0
        try:
            return seconds(self.log_repeats)
        except ConfigurationError as error:
            raise ConfigurationError(f"log_repeats in the settings: {error}") from None

    def metrics_place(self) -> tuple[str, int] | None:
        """Host and port for metrics, or None.

        :raises ConfigurationError: it is no such place.
        """
        if self.metrics is None:
            return None
        try:
            return tcp_place(f"tcp://{self.metrics}")
        except ConfigurationError:
            raise ConfigurationError(
                f'metrics={self.metrics!r}: give host and port, as in "127.0.0.1:9464" or "[::1]:9464" (port 0 takes '
                "a free one)"
            ) from None

    def override(self, **arguments: str | None) -> Settings:
        """These settings, with every argument that is not None in place of its own."""
        return msgspec.structs.replace(
            self, **{k: v for k, v in arguments.items() if v is not None}
        )


def _limits_in(text: str) -> dict[str, str]:
    """``PLACE=LIMIT; PLACE=LIMIT``."""
    limits: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        place, equals, limit = part.partition("=")
        if not equals or not place.strip() or not limit.strip():
            raise ConfigurationError(
                f'THENCE_LIMITS: {part!r} should be HANDLER=LIMIT, as in "hints.offer=5/s per player; notifications=100/s"'
            )
        if place.strip() in limits:
            raise ConfigurationError(
                f"THENCE_LIMITS: {place.strip()!r} is given twice: leave one out; limits that must both hold "
                "are separated by a comma"
            )
        limits[place.strip()] = limit.strip()
    return limits


def _check_quoted(limits: Mapping[str, object]) -> None:
    """Without quotes TOML takes ``hints.offer`` for a table in a table."""
    for name, value in limits.items():
        path, inner = [name], value
        while isinstance(inner, dict) and inner:
            key, inner = next(iter(cast("dict[str, object]", inner).items()))
            path.append(key)
        if len(path) > 1:
            place = ".".join(path)
            raise ConfigurationError(
                f'{FILE}: limits: write {place!r} in quotes, as in "{place}" = "{inner}"; without them it is a '
                "table of its own to TOML"
            )


def _file_values(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: not valid TOML ({error}); correct it or remove it"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{path}: can't be read ({error.strerror}); correct its permissions"
        ) from error
