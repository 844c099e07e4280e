"""Settings: an argument wins over the environment, that over ``thence.toml``, that over the default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from thence.errors import ConfigurationError

__all__ = ["Settings"]

FILE = "thence.toml"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What may be set without code: ``THENCE_MESH``, or ``mesh = "..."`` in ``thence.toml``, and so on."""

    mesh: str = "local"
    """``memory:NAME``, ``local`` or ``local:PATH``."""
    name: str | None = None
    """What people call this node; by default its services' names and its process id."""
    listen: str | None = None
    """``tcp://host:port`` to listen there; by default a Unix socket."""

    @classmethod
    def read(
        cls, environment: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Settings:
        """The settings that hold here when nobody passes an argument.

        :raises ConfigurationError: the file can't be read or sets what does not exist.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, object] = dict(_file_values((directory or Path()) / FILE))
        for field in cls.__struct_fields__:
            value = environment.get(f"THENCE_{field.upper()}")
            if value:
                values[field] = value
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise ConfigurationError(f"{FILE}: {error}; the settings are {known}") from error

    def override(self, **arguments: str | None) -> Settings:
        """These settings, with every argument that is not None in place of its own."""
        return msgspec.structs.replace(
            self, **{k: v for k, v in arguments.items() if v is not None}
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
